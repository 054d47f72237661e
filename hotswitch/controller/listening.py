"""Where the controller listens: on one address, or on every address of both families. In a cluster of IPv6 alone the
pod has no other one, so nothing here may take IPv4 for granted."""

from __future__ import annotations

import socket

from hotswitch.model import Port

BACKLOG = 1024


def listen(address: str, port: Port) -> socket.socket:
    """`address` "": every one. Raises OSError."""
    if not address and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=BACKLOG)


def target(address: str, port: Port) -> str:
    """The same for gRPC, which makes its own socket."""
    host = address or "::"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
