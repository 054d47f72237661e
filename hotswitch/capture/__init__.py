"""Istio's redirection in one pod: what it was told, the rules, what the kernel has, and our gate ahead of it (S4.3)."""
