"""The agent: watches the proxies it is given, acts inside their namespaces, needs nobody else to do so (S4.2, I1)."""
