"""One pod as its status tells it: which state its proxy's container is in, where in its life it is (S4.2a, I2). Pure.

Native sidecars are init containers and have their status there. A terminating pod does not always say so by a
deletionTimestamp (eviction and node shutdown by the kubelet), and a proxy that was never ready is no fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hotswitch.api import names
from hotswitch.cluster.pods import Pod, State
from hotswitch.decide.agree import Container
from hotswitch.model import PodRef, Port
from hotswitch.observe.podlife import NOT_APP, PROXY, app_down, app_not_begun, apps, reference, terminating, told

CRASH_LOOP = "CrashLoopBackOff"
PROVEN_S = 60.0  # a proxy that ran for so long before it ended was ready: the kubelet's startup probe saw it


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Empty strings: not so; else why, as a half sentence. `ever_ready`: as far as the status proves it."""

    terminating: str = ""
    app_down: str = ""
    ever_ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPod:
    """`helper`: the state of the helper container: "running", "waiting", "ended", "" when there is none."""

    ref: PodRef
    resource_version: str
    address: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    container: Container
    life: Life
    app_ports: frozenset[Port] = frozenset()
    helper: str = ""
    condition: Mapping[str, Any] | None = None  # ours, as the pod has it


def seen_pod(pod: Pod, shift_s: float) -> SeenPod:
    """`shift_s`: Unix seconds minus the clock in which `container.since_s` is told."""
    return SeenPod(
        ref=reference(pod),
        resource_version=pod.metadata.resource_version,
        address=next(iter(pod.addresses), ""),
        labels=pod.labels,
        annotations=pod.annotations,
        container=proxy_container(pod, shift_s),
        life=Life(terminating=terminating(pod), app_down=app_down(pod), ever_ready=ever_ready(pod)),
        app_ports=app_ports(pod),
        helper=running(pod, names.HELPER_CONTAINER),
        condition=_condition(pod),
    )


def _condition(pod: Pod) -> dict[str, Any] | None:
    ours = pod.condition(names.CONDITION)
    return None if ours is None else {"status": ours.status, "lastTransitionTime": ours.last_transition_time}


# ---- the proxy's container ----


def proxy_container(pod: Pod, shift_s: float) -> Container:
    status = pod.container_status(PROXY)
    if status is None or status.state is None:
        return Container()
    since = _since(status.state)
    return Container(
        running=status.is_running,
        ready=status.ready,
        since_s=None if since is None else since - shift_s,
        crash_looping=status.state.waiting is not None and status.state.waiting.reason == CRASH_LOOP,
        restarts=status.restart_count,
        told=told(status),
    )


def _since(state: State) -> float | None:
    at = state.running.started_at if state.running else state.terminated.finished_at if state.terminated else None
    return None if at is None else _unix_s(at)


def _unix_s(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


# ---- its life ----


def ever_ready(pod: Pod) -> bool:
    """A native sidecar's app starts only after the proxy was ready; any other proxy is ready now, has passed its
    startup probe, or ran long enough before it ended. While no app was ever started, the pod starts."""
    status = pod.container_status(PROXY)
    if status is None or app_not_begun(pod):
        return False
    if status.ready:
        return True
    native = any(each.name == PROXY for each in pod.spec.init_containers or ())
    if native and any(each.is_running or each.restart_count for each in apps(pod)):
        return True
    return any(_proven(state) for state in (status.state, status.last_state))


def _proven(state: State | None) -> bool:
    ended = state.terminated if state is not None else None
    if ended is None or ended.started_at is None or ended.finished_at is None:
        return False
    began, end = _unix_s(ended.started_at), _unix_s(ended.finished_at)
    return began is not None and end is not None and end - began >= PROVEN_S


# ---- the rest ----


def app_ports(pod: Pod) -> frozenset[Port]:
    containers = [each for each in pod.spec.containers or () if each.name not in NOT_APP]
    return frozenset(port.container_port for each in containers for port in each.ports or () if port.protocol == "TCP")


def running(pod: Pod, container: str) -> str:
    """ "running", "waiting", "ended"; "" when there is no such container."""
    if pod.container(container) is None:
        return ""
    status = pod.container_status(container)
    if status is None or status.state is None:
        return "waiting"
    return "running" if status.is_running else "ended" if status.state.terminated is not None else "waiting"


def suspicious(pod: Pod) -> bool:
    """Is there anything in its status or annotations that a worker has to look at? Cheap: asked at every event."""
    if names.OVERRIDE in pod.annotations or restless(pod.annotations.get(names.STATUS, "")):
        return True
    status = pod.container_status(PROXY)
    if status is None or status.state is None:
        return False
    return not status.is_running or (not status.ready and ever_ready(pod))


LATELY_S = 60.0
_AT = re.compile(r'"at":"([^"\\]{1,40})"')
_UNFINISHED = ('"step":', '"alerts":', '"expires":', '"fault":')


def spoke_lately(status: str, now_unix_s: float) -> bool:
    """Whether somebody acted who may have been killed before it was heard of; without decoding it."""
    found = _AT.search(status)
    at_s = None if found is None else _unix_s(found[1])
    return at_s is not None and abs(now_unix_s - at_s) <= LATELY_S


def restless(status: str) -> bool:
    """Whether a status annotation tells of anything but the past; without decoding it. What is at its default is not
    written (api.status)."""
    return bool(status) and any(mark in status for mark in _UNFINISHED)
