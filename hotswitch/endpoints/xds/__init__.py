"""Endpoints for Envoy and gRPC clients over xDS v3, each caller in its own order (S2.5, S0.5; publisher EDS)."""
