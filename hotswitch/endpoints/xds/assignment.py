"""From backends to the bytes of a ClusterLoadAssignment, put together from parts that were encoded before. Pure.

A backend is encoded once, its place's bytes are joined once, a caller's assignment joins those of places: to tell a
thousand callers of one change costs the encoding of one backend. The layout is checked against the library in the
tests. Field numbers: envoy/config/endpoint/v3/{endpoint,endpoint_components}.proto, envoy/config/core/v3.

Only who may serve is in it. An endpoint that is marked unhealthy would count in Envoy's panic rule, and be asked when
few are left.
"""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.backends import Backend
from hotswitch.decide.endpoints.nearest import Ladder, Part, Rung
from hotswitch.decide.endpoints.place import Caller, Distance
from hotswitch.model import Level, Port
from hotswitch.protowire import message, text, whole

HEALTHY = 1
MATCH, TLS_MODE = "envoy.transport_socket_match", "tlsMode"
_NEAR = (Distance.POD, Distance.HOST, Distance.ZONE)


def endpoint(backend: Backend, port: Port, family: str) -> bytes:
    """LbEndpoint, as an entry of a group. Empty when it has no address of that family."""
    address = backend.address(family)
    if address is None:
        return b""
    socket = message(1, text(2, address) + whole(3, port))  # Address.socket_address
    found = message(1, message(1, socket)) + whole(2, HEALTHY) + _speaks(backend) + _uint32(4, max(1, backend.weight))
    return message(2, found)


def _speaks(backend: Backend) -> bytes:
    """By this, Istio's clients choose mTLS or plaintext for each endpoint (facts/istio.md 7.2)."""
    if not backend.proxied or backend.inbound is Level.DIRECT:
        return b""
    mode = message(1, text(1, TLS_MODE) + message(2, text(3, "istio")))  # Struct.fields
    return message(3, message(1, text(1, MATCH) + message(2, mode)))


def _uint32(number: int, value: int) -> bytes:
    return message(number, whole(1, value))


def assignment(caller: Caller, ladder: Ladder, joined: Callable[[tuple[Part, ...]], bytes]) -> bytes:
    """Everything of a ClusterLoadAssignment but its name. `joined`: the endpoints of parts.

    While nobody can serve, the nearest place is told of without endpoints. Of a place that is told of no more gRPC
    keeps connecting to the addresses for a quarter of an hour, ever more slowly, and does not try one that comes back
    before that pause is over; of a place that is empty it lets go (S0.7)."""
    tiers = ladder.tiers or (ladder.rungs[:1],)
    return b"".join(_rung(caller, rung, priority, joined) for priority, rungs in enumerate(tiers) for rung in rungs)


def _rung(caller: Caller, rung: Rung, priority: int, joined: Callable[[tuple[Part, ...]], bytes]) -> bytes:
    """LocalityLbEndpoints. Distances that share the requests are localities of one priority, weighted by their share;
    gRPC wants a locality's weight to be at least 1. `sub_zone` is the distance, so that clients' figures tell it."""
    place = caller.locality
    region, zone = (place.region, place.zone) if rung.distance in _NEAR else ("", "")
    locality = message(1, text(1, region) + text(2, zone) + text(3, rung.distance))
    endpoints = joined(rung.parts)
    return message(2, locality + endpoints + _uint32(3, max(1, rung.share)) + whole(5, priority))


def named(name: str, body: bytes) -> bytes:
    """ClusterLoadAssignment"""
    return text(1, name) + body
