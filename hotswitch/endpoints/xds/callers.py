"""Who is asking, from what an xDS client says of itself in its node (S2.5). Pure.

gRPC and Envoy: metadata `pod` (namespace/name), `pod_ip`, `node`, `zone`, `region`, `cluster`. Istio's sidecars say the
same in words of their own (NAMESPACE, NAME, INSTANCE_IPS, NODE_NAME, CLUSTER_ID, the node's locality).

What the registry knows goes before what a caller says: of a caller that is a backend itself, its whole place; of
others, the zone of their node. A cluster that nobody has heard of is taken for our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hotswitch.backends import HOME, Backend, Locality
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.request import Node

MOST_CALLERS = 20_000


def caller_of(node: Node) -> Caller:
    said = node.metadata
    return Caller(
        pod=said.get("pod") or _pod(node),
        addresses=tuple(each for each in (said.get("pod_ip") or _addresses(node)).split(",") if each),
        locality=Locality(
            cluster=said.get("cluster") or said.get("CLUSTER_ID", ""),
            region=said.get("region") or node.region,
            zone=said.get("zone") or node.zone,
            node=said.get("node") or said.get("NODE_NAME", ""),
        ),
    )


def _pod(node: Node) -> str:
    namespace, name = node.metadata.get("NAMESPACE"), node.metadata.get("NAME")
    return f"{namespace}/{name}" if namespace and name else ""


def _addresses(node: Node) -> str:
    """Istio's ids are type~address~pod.namespace~domain."""
    parts = node.id.split("~")
    return node.metadata.get("INSTANCE_IPS") or (parts[1] if len(parts) == 4 else "")


class Places:
    """What backends teach about places: by address, and by node."""

    def __init__(self, home: str = HOME) -> None:
        self._home = home
        self._by_address: dict[str, Locality] = {}
        self._by_node: dict[tuple[str, str], Locality] = {}
        self._clusters = {home}
        self._placed: dict[Caller, Caller] = {}

    def learn(self, backends: Iterable[Backend]) -> None:
        for each in backends:
            self._by_address.update(dict.fromkeys(each.addresses, each.locality))
            self._by_node[each.locality.cluster, each.locality.node] = each.locality
            self._clusters.add(each.locality.cluster)
            self._placed = {}

    def forget(self, backends: Iterable[Backend]) -> None:
        """Their addresses may become others'. A node stays where it is."""
        for each in backends:
            for address in each.addresses:
                self._by_address.pop(address, None)
            self._placed = {}

    def of(self, caller: Caller) -> Caller:
        if caller not in self._placed:
            if len(self._placed) > MOST_CALLERS:
                self._placed = {}
            self._placed[caller] = replace(caller, locality=self._locality(caller))
        return self._placed[caller]

    def _locality(self, caller: Caller) -> Locality:
        known = next((self._by_address[each] for each in caller.addresses if each in self._by_address), None)
        if known is not None:
            return known
        said = caller.locality
        cluster = said.cluster if said.cluster in self._clusters else self._home
        node = self._by_node.get((cluster, said.node)) if said.node else None
        return replace(node or said, cluster=cluster)
