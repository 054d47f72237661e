"""The parts of Services, Nodes and EndpointSlices that the registry needs, decoded straight from bytes (S2.1)."""

from __future__ import annotations

from typing import Any

import msgspec

from hotswitch.cluster.objects import Metadata, Shared


class Port(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    port: int
    name: str = ""
    target_port: int | str | None = None
    protocol: str = "TCP"
    app_protocol: str | None = None
    node_port: int | None = None


class ServiceSpec(Shared, frozen=True, gc=False, rename="camel"):
    shared = ("ports", "type")

    ports: tuple[Port, ...] | None = None
    selector: dict[str, str] | None = None
    ip_families: tuple[str, ...] | None = None
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    type: str = ""
    publish_not_ready_addresses: bool = False


class Service(msgspec.Struct, frozen=True, gc=False):
    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class NodeAddress(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    address: str = ""


class NodeStatus(msgspec.Struct, frozen=True, gc=False):
    addresses: tuple[NodeAddress, ...] | None = None


class Node(msgspec.Struct, frozen=True, gc=False):
    metadata: Metadata
    status: NodeStatus = NodeStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own inside the cluster; others (names, outside addresses) reach nothing from a pod for sure."""
        return tuple(each.address for each in self.status.addresses or () if each.type == "InternalIP")


class Slice(msgspec.Struct, gc=False, rename="camel"):
    """As it is written again: everything of it is kept but what the API server adds."""

    metadata: Metadata
    address_type: str
    endpoints: list[dict[str, Any]] | None = None
    ports: list[dict[str, Any]] | None = None
