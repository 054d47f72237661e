"""What we ask of Linux, and nothing else: namespaces, netlink, commands, cgroups. The bottom room: imports only model."""
