"""What we ask of Linux, and nothing else: namespaces, netlink, commands, cgroups. Imports only model."""
