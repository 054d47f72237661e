"""Which resources are served, by type URL, and how the protocol treats each kind."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """In the order in which they go out: nothing refers to what was not sent before."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

    @property
    def is_whole(self) -> bool:
        """An answer has all of them, what it lacks is gone; to ask for none by name is to ask for all."""
        return self in (Kind.CLUSTER, Kind.LISTENER)


WILDCARD = "*"
ENDPOINTS_ONLY, ALL_KINDS = (Kind.ENDPOINTS,), tuple(Kind)
