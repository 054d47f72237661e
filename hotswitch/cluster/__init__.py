"""One room for the Kubernetes API: connection, watches, patches, exec, leases. Knows nothing of proxies."""
