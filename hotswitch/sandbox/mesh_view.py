"""What the API shows of the demo's pods, as lines of text: one for each change, and none without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hotswitch.api.names import HELPER_CONTAINER, STATUS
from hotswitch.api.status import PodStatus, StatusError, decode, shown
from hotswitch.cluster.watch import Change, ChangeType
from hotswitch.model import Direction, Level

Object = Mapping[str, Any]
PROXY = "istio-proxy"


class MeshView:
    """Takes changes of pods and Events. `pods`: each as it is now, by name."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self.pods: dict[str, Object] = {}
        self._say, self._began_s = say, time.monotonic()
        self._last: dict[str, str] = {}

    def line(self, text: str) -> None:
        self._say(f"[{time.monotonic() - self._began_s:5.1f} s] {text}")

    def pod(self, change: Change[Any]) -> None:
        name = change.object["metadata"]["name"]
        if change.type is ChangeType.DELETED:
            self.pods.pop(name, None)
        else:
            self.pods[name] = change.object
        text = f"{name}  gone" if name not in self.pods else described(change.object)
        if self._last.get(name) != text:
            self._last[name] = text
            self.line(text)

    def event(self, change: Change[Any]) -> None:
        """Of hotswitch; those of before are in the API and not told again."""
        seen = change.object
        if change.type is not ChangeType.DELETED and str(seen.get("reason", "")) and seen.get("message"):
            where = (seen.get("involvedObject") or {}).get("name", "")
            self.line(f"    {seen.get('type', '')} {seen['reason']} {where}: {seen['message']}")

    def levels(self, pod: str) -> Mapping[Direction, Level]:
        """Where new flows go, by hotswitch's own word; captured while it has said nothing."""
        told = told_of(self.pods.get(pod) or {})
        return told.levels if told else {}

    def ready(self, pod: str) -> bool:
        return is_ready(self.pods.get(pod) or {})

    def helped(self, pod: str) -> bool:
        """Does the helper run?"""
        state = _container(self.pods.get(pod) or {}, HELPER_CONTAINER).get("state") or {}
        return "running" in state


def described(pod: Object) -> str:
    words = [f"{pod['metadata']['name']:<6}", "Ready   " if is_ready(pod) else "NotReady", _proxy(pod)]
    if _container(pod, HELPER_CONTAINER):
        words.append(
            "helper" if "running" in (_container(pod, HELPER_CONTAINER).get("state") or {}) else "helper ended"
        )
    told = told_of(pod)
    if told is not None and told.levels:
        words += [f"{way} {shown(level)}" for way, level in sorted(told.levels.items())]
    return "  ".join(words)


def told_of(pod: Object) -> PodStatus | None:
    """hotswitch's own annotation; None when there is none, or it cannot be read."""
    metadata = pod.get("metadata") or {}
    text = (metadata.get("annotations") or {}).get(STATUS)
    try:
        return decode(text, metadata["uid"]) if text else None
    except StatusError:
        return None


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _proxy(pod: Object) -> str:
    entry = _container(pod, PROXY)
    state = entry.get("state") or {}
    waiting = (state.get("waiting") or {}).get("reason", "")
    word = waiting or next(iter(state), "not started")
    restarts = entry.get("restartCount", 0)
    return f"{PROXY} {word}" + (f", {restarts} restarts" if restarts else "")


def _container(pod: Object, name: str) -> Object:
    status = pod.get("status") or {}
    lists = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    every = (each for key in lists for each in status.get(key) or ())
    return next((each for each in every if each["name"] == name), {})
