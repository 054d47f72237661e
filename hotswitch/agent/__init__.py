"""The agent: watches the proxies it is given, acts inside their namespaces, keeps working when all else is gone (S4.2)."""
