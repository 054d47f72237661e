"""A pod's status as the kubelet writes it, from what the kubelet stand-in knows (facts/kubernetes.md 6c, d, h).

Only the kubelet's own condition types are here; those of others survive, because the status goes to the API as a
strategic merge patch and conditions are merged by type.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hotswitch.sandbox.container import Container, ContainerStatus, LastState

Status = dict[str, Any]
_EPOCH_S = time.time() - time.monotonic()
NOT_READY = "ContainersNotReady"


def stamp(monotonic_s: float) -> str:
    """An instant of time.monotonic() as the API writes it."""
    return datetime.fromtimestamp(_EPOCH_S + monotonic_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a container's status says of the container itself. `run`: a random word of the pod, for container ids."""

    name: str
    image: str
    pod: str  # name_namespace(uid), as in the kubelet's messages
    run: str

    def container_id(self, restarts: int) -> str:
        return f"containerd://{self.run}{abs(hash((self.name, restarts))) % 16**8:08x}"


def container_status(identity: Identity, container: Container | None) -> Status:
    """An entry of containerStatuses or initContainerStatuses. None: not started yet."""
    status = ContainerStatus() if container is None else container.status
    entry: Status = {
        "name": identity.name,
        "image": identity.image,
        "imageID": identity.image,
        "ready": status.ready,
        "started": status.running and status.started,
        "restartCount": status.restart_count,
        "state": _state(identity, status),
        "lastState": {},
    }
    if status.last_state is not None and "terminated" not in entry["state"]:
        entry["lastState"] = {"terminated": terminated(status.last_state, identity, status.restart_count)}
    if status.running:
        entry["containerID"] = identity.container_id(status.restart_count)
    return entry


def _state(identity: Identity, status: ContainerStatus) -> Status:
    if status.running:
        return {"running": {"startedAt": stamp(status.started_s)}}
    if status.waiting:
        message = f"back-off restarting failed container={identity.name} pod={identity.pod}"
        return {"waiting": {"reason": status.waiting, "message": message}}
    if status.last_state is not None:
        return {"terminated": terminated(status.last_state, identity, status.restart_count)}
    return {"waiting": {"reason": "PodInitializing"}}


def terminated(last: LastState, identity: Identity, restarts: int) -> Status:
    code = last.exit_code if last.exit_code >= 0 else 128 - last.exit_code
    state = {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": stamp(last.started_s),
        "finishedAt": stamp(last.finished_s),
        "containerID": identity.container_id(restarts),
    }
    return {**state, "message": last.message} if last.message else state


def init_done(identity: Identity, finished_s: float) -> Status:
    """istio-init, which has run before anything else."""
    return {
        "name": identity.name,
        "image": identity.image,
        "imageID": identity.image,
        "ready": True,
        "started": False,
        "restartCount": 0,
        "state": {"terminated": terminated(LastState(0, finished_s, "", finished_s), identity, 0)},
        "lastState": {},
    }


def phase(ordinary: Sequence[Container], *, going_on: bool, all_ended: bool) -> str:
    """`going_on`: an ordinary container runs, or will again. `all_ended`: native sidecars too."""
    if not ordinary or all(each.process is None for each in ordinary):
        return "Pending"
    if going_on or not all_ended:
        return "Running"
    codes = [each.status.last_state.exit_code for each in ordinary if each.status.last_state]
    return "Failed" if any(codes) else "Succeeded"


def conditions(statuses: Iterable[Status], phase_: str, gates: Mapping[str, bool], initialized: bool) -> list[Status]:
    """The kubelet's own conditions. `statuses`: of containers and native sidecars. `gates`: the readinessGates, each
    with whether its condition is "True"."""
    unready = [each["name"] for each in statuses if not each["ready"]]
    done = phase_ in ("Succeeded", "Failed")
    reason = ("PodCompleted" if phase_ == "Succeeded" else "PodFailed") if done else NOT_READY
    containers_message = "" if done else f"containers with unready status: [{' '.join(unready)}]"
    closed = [gate for gate, is_true in gates.items() if not is_true]
    containers = _condition("ContainersReady", not unready and not done, reason, containers_message)
    ready = {**containers, "type": "Ready"}
    if closed and containers["status"] == "True":
        message = f'the status of pod readiness gate "{closed[0]}" is not "True", but False'
        ready = _condition("Ready", False, "ReadinessGatesNotReady", message)
    return [
        _condition("PodReadyToStartContainers", True),
        _condition("Initialized", initialized, "ContainersNotInitialized"),
        ready,
        containers,
        _condition("PodScheduled", True),
    ]


def _condition(kind: str, is_true: bool, reason: str = "", message: str = "") -> Status:
    condition: Status = {"type": kind, "status": "True" if is_true else "False"}
    if not is_true:
        condition |= {"reason": reason} | ({"message": message} if message else {})
    return condition


def dated(fresh: Iterable[Status], before: Iterable[Status], now: str) -> list[Status]:
    """With lastTransitionTime: changed only together with the condition's status. A reason or message that a merge
    would leave behind is taken away."""
    old = {each["type"]: each for each in before}
    found = []
    for condition in fresh:
        was = old.get(condition["type"], {})
        same = was.get("status") == condition["status"]
        gone: Status = {key: None for key in ("reason", "message") if key in was and key not in condition}
        found.append({**condition, **gone, "lastTransitionTime": was["lastTransitionTime"] if same else now})
    return found
