"""From objects of the API to the registration record: Services, pods and nodes as backends (S2.1, S2.2, S2.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.api import service as said
from hotswitch.api.adopt import ADOPTED
from hotswitch.api.names import HELPER_CONTAINER, STATUS
from hotswitch.api.status import StatusError, decode
from hotswitch.api.values import InvalidValue
from hotswitch.backends import (
    HOME,
    Backend,
    BackendPort,
    Health,
    Locality,
    Output,
    Rotation,
    ServiceId,
    ServiceMode,
    ServiceOptions,
    ServicePort,
    ServiceRecord,
    Staleness,
)
from hotswitch.cluster.pods import Pod
from hotswitch.decide.endpoints import failover
from hotswitch.endpoints import objects
from hotswitch.endpoints.orders import orders
from hotswitch.model import Direction, Level, PodRef, PodUid, Port

PROXY = "istio-proxy"
REGION, ZONE, NETWORK = "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/network"
NOT_APP = frozenset({PROXY, HELPER_CONTAINER})


@dataclass(frozen=True, slots=True)
class Place:
    """Of the pods of one cluster. `trust_domain`: of their SPIFFE ids."""

    cluster: str = HOME
    trust_domain: str = "cluster.local"


def service(content: objects.Service) -> ServiceRecord | None:
    """None: it is not ours. Raises InvalidValue."""
    metadata, spec = content.metadata, content.spec
    annotations = metadata.annotations or {}
    mode = said.mode(annotations)
    if mode is None:
        return None
    if ADOPTED in annotations:
        raise InvalidValue(
            said.MODE, mode, f"has to wait: it is taken over for a while, and {ADOPTED} has its selector"
        )
    if spec.selector:
        raise InvalidValue(
            said.MODE, mode, "needs a Service without spec.selector: another controller writes its slices"
        )
    if spec.type == "ExternalName":
        raise InvalidValue(said.MODE, mode, "means nothing for a Service of type ExternalName")
    said.switchover(annotations)
    options = said.options(annotations)
    _check_order(mode, annotations, options)
    return ServiceRecord(
        id=ServiceId(metadata.namespace, metadata.name),
        uid=metadata.uid,
        mode=mode,
        ports=service_ports(content),
        selector=said.selector(annotations),
        families=spec.ip_families or ("IPv4",),
        options=options,
        annotations={key: text for key, text in annotations.items() if key.startswith(said.PREFIX)},
        labels=metadata.labels or {},
        headless=spec.cluster_ip == "None",
    )


def service_ports(content: objects.Service) -> tuple[ServicePort, ...]:
    return tuple(map(_service_port, content.spec.ports or ()))


def unread(content: objects.Service) -> ServiceRecord:
    """Of a Service that asks to be ours in words that cannot be read, what is known all the same: its ports."""
    metadata, spec = content.metadata, content.spec
    return ServiceRecord(
        id=ServiceId(metadata.namespace, metadata.name),
        uid=metadata.uid,
        mode=ServiceMode.ALL,
        ports=service_ports(content),
        families=spec.ip_families or ("IPv4",),
        annotations={key: text for key, text in (metadata.annotations or {}).items() if key.startswith(said.PREFIX)},
    )


def _check_order(mode: ServiceMode, annotations: Mapping[str, str], options: ServiceOptions) -> None:
    """Raises InvalidValue, also for what is asked for in Istio's words and has none there."""
    read = orders(mode, annotations)
    if Output.ISTIO not in options.outputs or mode is ServiceMode.ACTIVE_STANDBY:
        return
    if read.rules and options.outputs == {Output.ISTIO}:
        raise InvalidValue(said.ROUTES, annotations[said.ROUTES], f"needs xds: {said.OUTPUT} istio has no other orders")
    try:
        failover.labels(read.own)
    except ValueError as unsaid:
        raise InvalidValue(said.ORDER, annotations.get(said.ORDER, ""), f"{unsaid} ({said.OUTPUT} istio)") from unsaid


def _service_port(port: objects.Port) -> ServicePort:
    target = port.port if port.target_port is None else port.target_port
    return ServicePort(port.name, port.port, target, port.protocol, port.app_protocol or "", port.node_port)


def backend(service: ServiceRecord, pod: Pod, node: objects.Node | None, place: Place) -> Backend | None:
    """None: it has no address yet. Raises InvalidValue for what its annotations say."""
    if not pod.addresses:
        return None
    priority, weight, capacity, rotation = said.standing(pod.annotations)
    return _backend(service, pod, node, place, priority, weight, capacity, rotation)


def careful(service: ServiceRecord, pod: Pod, node: objects.Node | None, place: Place) -> Backend | None:
    """The same for a pod whose annotations cannot be read and never could: as if they were not there."""
    return _backend(service, pod, node, place, 0, 1, None, Rotation.IN) if pod.addresses else None


def _backend(
    service: ServiceRecord, pod: Pod, node: objects.Node | None, place: Place, priority: int, weight: int,
    capacity: int | None, rotation: Rotation,
) -> Backend:  # fmt: skip
    proxy = pod.container_status(PROXY)
    proxied = pod.container(PROXY) is not None
    return Backend(
        service=service.id,
        pod=PodRef(pod.metadata.name, pod.metadata.namespace, PodUid(pod.uid)),
        addresses=pod.addresses,
        ports=tuple(_ports(service, pod, has_host=node is not None)),
        locality=_locality(pod, node, place),
        host_addresses=node.addresses if node is not None else (),
        spiffe=_spiffe(pod, place),
        kubelet_ready=pod.is_ready,
        app_ready=_app_ready(pod),
        ended=has_ended(pod),
        health=Health.UNKNOWN,
        proxied=proxied,
        proxy_ready=proxy.ready if proxy is not None else None,
        inbound=_inbound(pod),
        terminating=pod.is_terminating,
        rotation=rotation,
        staleness=Staleness.FRESH,
        priority=priority,
        weight=weight,
        capacity=capacity,
    )


def _spiffe(pod: Pod, place: Place) -> str:
    account = pod.spec.service_account_name or "default"
    return f"spiffe://{place.trust_domain}/ns/{pod.metadata.namespace}/sa/{account}"


def _ports(service: ServiceRecord, pod: Pod, *, has_host: bool) -> list[BackendPort]:
    """A port of a name that the pod does not have is left out, as Kubernetes does."""
    found = []
    for port in service.ports:
        number = port.target if isinstance(port.target, int) else _named(pod, port.target)
        if number is not None:
            host = port.node_port if has_host else None
            found.append(BackendPort(port.name, number, host, port.protocol, port.app_protocol))
    return found


def _named(pod: Pod, name: str) -> Port | None:
    every = (
        port
        for group in (pod.spec.containers, pod.spec.init_containers)
        for each in group or ()
        for port in each.ports or ()
    )
    return next((port.container_port for port in every if port.name == name), None)


def _locality(pod: Pod, node: objects.Node | None, place: Place) -> Locality:
    labels = (node.metadata.labels or {}) if node is not None else {}
    network = pod.labels.get(NETWORK) or labels.get(NETWORK, "")
    return Locality(place.cluster, labels.get(REGION, ""), labels.get(ZONE, ""), pod.spec.node_name, network)


def _app_ready(pod: Pod) -> bool:
    """By the containers that are not the proxy: their probes are answered for the app while pilot-agent is away."""
    statuses = [each for each in pod.status.container_statuses or () if each.name not in NOT_APP]
    return bool(statuses) and all(each.ready for each in statuses)


def has_ended(pod: Pod) -> bool:
    """For good: nothing of it runs, and nothing will be started again."""
    statuses = [*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ())]
    none_runs = not any(each.is_running for each in statuses)
    if pod.is_completed:
        return none_runs
    return pod.is_terminating and bool(statuses) and all(_terminated(each.state) for each in statuses)


def _terminated(state: object) -> bool:
    return getattr(state, "terminated", None) is not None


def _inbound(pod: Pod) -> Level:
    """As hotswitch has written it on the pod."""
    text = pod.annotations.get(STATUS)
    if text is None:
        return Level.CAPTURE
    try:
        status = decode(text, pod.uid)
    except StatusError:
        return Level.CAPTURE
    return Level.CAPTURE if status is None else status.levels.get(Direction.INBOUND, Level.CAPTURE)
