"""The whole mesh at one instant, as far as the preflight asks: what applies to a pod, and in which order (I2).

A view is made anew when the mesh's configuration changes, which is seldom, and asked for each pod, which is often:
so objects are kept by namespace, and an answer looks at two namespaces and not at the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from hotswitch.mesh.objects import Doubt, Labels, MeshObject, Service
from hotswitch.mesh.pod import MeshPod
from hotswitch.model import Port

_Found = TypeVar("_Found", bound=MeshObject)
ROOT_NAMESPACE = "istio-system"


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Parts of meshConfig. `local_only`: inboundTrafficPolicy LOCALHOST. `rules_exported`: DestinationRules that do not
    say to whom are for all namespaces. `networks`: all that the mesh spans, "" for
    the one without a name."""

    root_namespace: str = ROOT_NAMESPACE
    registry_only: bool = False
    egress_proxy: str = ""
    local_only: bool = False
    auto_mtls: bool = True
    rules_exported: bool = True
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    networks: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)  # the same view is the same object: what is worked out of it may be kept beside it
class MeshView:
    """`unread`: what could not be read at all, e.g. kinds that hotswitch has no right to list."""

    config: MeshConfig = MeshConfig()
    objects: tuple[MeshObject, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        return self.config.root_namespace

    def every(self, kind: type[_Found]) -> tuple[_Found, ...]:
        return tuple(found for found in self._by_kind.get(kind, ()) if isinstance(found, kind))

    def of(self, kind: type[_Found], namespace: str) -> tuple[_Found, ...]:
        members = self._by_namespace.get((kind, namespace), ())
        return tuple(found for found in members if isinstance(found, kind))

    def selecting(self, kind: type[_Found], pod: MeshPod) -> Iterator[_Found]:
        """Of the root namespace and the pod's own, those that select it: how all but PeerAuthentication are found."""
        for namespace in dict.fromkeys((self.root, pod.namespace)):
            for found in self.of(kind, namespace):
                if applies(found, pod):
                    yield found

    def services_of(self, pod: MeshPod) -> tuple[Service, ...]:
        own = self.of(Service, pod.namespace)
        return tuple(found for found in own if found.selector and selects(found.selector, pod.labels))

    def inbound_ports(self, pod: MeshPod) -> tuple[Port, ...]:
        """Where clients come in: the ports that the containers declare, and those that Services lead to."""
        names = {port.name: port.number for port in pod.ports if port.name}
        targets = (port.target for service in self.services_of(pod) for port in service.ports if port.tcp)
        led_to = (names.get(target) if isinstance(target, str) else target for target in targets)
        declared = (port.number for port in pod.ports)
        return tuple(sorted({port for port in (*declared, *led_to) if port is not None}))

    @cached_property
    def of_revisions(self) -> tuple[MeshObject, ...]:
        """Those that only one istiod reads."""
        return tuple(found for found in self.objects if found.revision)

    @cached_property
    def _by_kind(self) -> dict[type[MeshObject], list[MeshObject]]:
        index: dict[type[MeshObject], list[MeshObject]] = {}
        for found in self.objects:
            index.setdefault(type(found), []).append(found)
        return index

    @cached_property
    def _by_namespace(self) -> dict[tuple[type[MeshObject], str], list[MeshObject]]:
        index: dict[tuple[type[MeshObject], str], list[MeshObject]] = {}
        for found in self.objects:
            index.setdefault((type(found), found.namespace), []).append(found)
        return index


def selects(selector: Labels, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def applies(found: MeshObject, pod: MeshPod) -> bool:
    return not found.elsewhere and selects(found.selector, pod.labels) and of_revision(found, pod)


def of_revision(found: MeshObject, pod: MeshPod) -> bool:
    """Whether the pod's istiod reads it. Where the pod's revision is not known, it counts."""
    return not found.revision or not pod.revision or found.revision == pod.revision


def exported(export_to: Iterable[str], owner: str, reader: str) -> bool:
    """Whether `reader`, a namespace, sees what namespace `owner` has; "." is the owner's own."""
    wanted = tuple(export_to)
    return owner == reader or not wanted or "*" in wanted or reader in wanted
