"""A Kubernetes API within this process: watches, RBAC, CRDs, exec; for tests, the demo and the bench. No cluster.

Start at `server.EmbeddedApi`; a node side plugs in as `backend.NodeBackend`.
"""
