"""What the controller must know of every pod at every moment: about 3 KB of the 9 that a pod is (S4.2a).

The rest of a manifest (arguments, variables, probes) is needed only to act, so it is asked for only then: an act needs
the API server anyhow, because it is written down before it is done.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.objects import Metadata, Shared


class Port(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`restart_policy` "Always" of an init container: it keeps running beside the app (a native sidecar)."""

    name: str
    image: str = ""
    ports: tuple[Port, ...] | None = None
    restart_policy: str | None = None


class Spec(Shared, frozen=True, gc=False, rename="camel"):
    shared = (
        "node_name", "service_account_name", "restart_policy", "containers", "init_containers", "ephemeral_containers",
    )  # fmt: skip

    node_name: str = ""
    service_account_name: str = ""
    host_network: bool = False
    restart_policy: str = "Always"
    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    ephemeral_containers: tuple[Container, ...] | None = None


class Running(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    started_at: str | None = None


class Waiting(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`reason`: "OOMKilled", "Error", "Completed" ..."""

    exit_code: int = 0
    reason: str = ""
    signal: int = 0
    finished_at: str | None = None
    started_at: str | None = None


class State(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One of the three; none: waiting, as Kubernetes has it."""

    running: Running | None = None
    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    container_id: str = msgspec.field(default="", name="containerID")
    state: State | None = None
    last_state: State | None = None

    @property
    def is_running(self) -> bool:
        return self.state is not None and self.state.running is not None


class Condition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    type: str
    status: str = "Unknown"
    reason: str | None = None
    last_transition_time: str | None = None


class Address(msgspec.Struct, frozen=True, gc=False):
    ip: str = ""


_UNREAD = frozenset({"PodReadyToStartContainers", "PodScheduled", "Initialized", "ContainersReady"})


class Status(Shared, frozen=True, gc=False, rename="camel"):
    """`conditions`: without those that nobody here asks for, which every pod has."""

    shared = ("phase",)

    phase: str = ""
    reason: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[Address, ...] | None = msgspec.field(default=None, name="podIPs")
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None
    ephemeral_container_statuses: tuple[ContainerStatus, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditions:
            read = tuple([each for each in self.conditions if each.type not in _UNREAD])
            msgspec.structs.force_setattr(self, "conditions", read)


class Pod(msgspec.Struct, frozen=True, gc=False):
    metadata: Metadata
    spec: Spec = Spec()
    status: Status = Status()

    @property
    def key(self) -> tuple[str, str]:
        return self.metadata.namespace, self.metadata.name

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.annotations or {}

    @property
    def is_terminating(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def is_completed(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The pod's own, the first being the one that Services use."""
        listed = tuple(address.ip for address in self.status.pod_ips or () if address.ip)
        return listed or ((self.status.pod_ip,) if self.status.pod_ip else ())

    def container(self, name: str) -> Container | None:
        """Of that name, ordinary, init or ephemeral."""
        spec = self.spec
        groups = (spec.containers, spec.init_containers, spec.ephemeral_containers)
        return next((each for group in groups for each in group or () if each.name == name), None)

    def container_status(self, name: str) -> ContainerStatus | None:
        """Cheap: asked at every event."""
        status = self.status
        for group in (status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses):
            for each in group or ():
                if each.name == name:
                    return each
        return None

    def condition(self, kind: str) -> Condition | None:
        return next((each for each in self.status.conditions or () if each.type == kind), None)

    @property
    def is_ready(self) -> bool:
        ready = self.condition("Ready")
        return ready is not None and ready.status == "True"


async def manifest(cluster: Cluster, pod: Pod) -> dict[str, Any]:
    """The whole object as it is now. Raises ApiFailure; a conflict when the name belongs to another pod by now."""
    whole = await cluster.get(PODS, pod.metadata.namespace, pod.metadata.name)
    uid = (whole.get("metadata") or {}).get("uid")
    if uid != pod.uid:
        raise ApiFailure(409, "Conflict", f"pod {'/'.join(pod.key)} is another one now: {uid}, not {pod.uid}")
    return whole
