"""Who gets a request: one module per policy, all of them pure (S0, S2)."""
