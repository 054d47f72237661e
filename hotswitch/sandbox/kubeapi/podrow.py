"""A pod as one line of `kubectl get pods`: how many containers are ready, why it is not running, how often restarted.

Native sidecars (init containers that are restarted always) count like the app's containers, as kubectl counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hotswitch.sandbox.kubeapi.failure import Obj
from hotswitch.sandbox.kubeapi.record import at

COLUMNS = (
    ("Name", "string", 0),
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    ("Age", "string", 0),
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
)


def cells(pod: Obj, age: Callable[[Any], str]) -> list[Any]:
    """`age`: writes how long ago an instant was."""
    containers, statuses = list(_containers(pod)), list(_statuses(pod))
    ready = sum(bool(status.get("ready")) for status in statuses)
    return [
        pod["metadata"]["name"],
        f"{ready}/{len(containers)}",
        _status(pod),
        _restarts(statuses, age),
        age(pod["metadata"].get("creationTimestamp")),
        at(pod, "status", "podIP") or "<none>",
        at(pod, "spec", "nodeName") or "<none>",
        "<none>",
        _gates(pod),
    ]


def _sidecars(pod: Obj) -> set[str]:
    containers = at(pod, "spec", "initContainers") or ()
    return {container["name"] for container in containers if container.get("restartPolicy") == "Always"}


def _containers(pod: Obj) -> Iterator[Obj]:
    sidecars = _sidecars(pod)
    yield from (each for each in at(pod, "spec", "initContainers") or () if each["name"] in sidecars)
    yield from at(pod, "spec", "containers") or ()


def _statuses(pod: Obj) -> Iterator[Obj]:
    sidecars = _sidecars(pod)
    yield from (each for each in at(pod, "status", "initContainerStatuses") or () if each.get("name") in sidecars)
    yield from at(pod, "status", "containerStatuses") or ()


def _status(pod: Obj) -> str:
    """The most telling reason there is."""
    reason = at(pod, "status", "reason") or at(pod, "status", "phase") or "Unknown"
    initialising = _initialising(pod)
    if initialising:
        reason = initialising
    else:
        found = [why for status in _statuses(pod) if (why := _trouble(status))]
        reason = found[-1] if found else reason
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if at(pod, "status", "reason") == "NodeLost" else "Terminating"
    return str(reason)


def _initialising(pod: Obj) -> str:
    total, sidecars = len(at(pod, "spec", "initContainers") or ()), _sidecars(pod)
    for place, status in enumerate(at(pod, "status", "initContainerStatuses") or ()):
        ended = at(status, "state", "terminated")
        if (ended and ended.get("exitCode") == 0) or (status.get("name") in sidecars and status.get("started")):
            continue
        return f"Init:{_trouble(status) or f'{place}/{total}'}"
    return ""


def _trouble(status: Obj) -> str:
    waiting, ended = at(status, "state", "waiting") or {}, at(status, "state", "terminated")
    if waiting.get("reason"):
        return str(waiting["reason"])
    if not ended:
        return ""
    return str(ended.get("reason") or f"ExitCode:{ended.get('exitCode')}")


def _restarts(statuses: list[Obj], age: Callable[[Any], str]) -> str:
    count = sum(status.get("restartCount", 0) for status in statuses)
    ended = [at(status, "lastState", "terminated", "finishedAt") for status in statuses]
    latest = max(filter(None, ended), default=None)
    return f"{count} ({age(latest)} ago)" if count and latest else str(count)


def _gates(pod: Obj) -> str:
    gates = [gate["conditionType"] for gate in at(pod, "spec", "readinessGates") or ()]
    if not gates:
        return "<none>"
    met = {each["type"] for each in at(pod, "status", "conditions") or () if each.get("status") == "True"}
    return f"{sum(gate in met for gate in gates)}/{len(gates)}"
