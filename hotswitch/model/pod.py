"""Which pod, beyond doubt, and which act on it (I6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

PodUid = NewType("PodUid", str)
NetnsCookie = NewType("NetnsCookie", int)  # SO_NETNS_COOKIE: never reused while the machine is up, unlike inode numbers
Generation = NewType("Generation", int)  # grows with every act on a pod; fences repeated and late acts (I6)

AGENT_CONTAINER = "hotswitch-agent"
"""Ours, where Istio's injector puts it into a pod (istio-addon/): neither the proxy nor an app."""


@dataclass(frozen=True, slots=True)
class PodRef:
    """Which pod, beyond doubt: a name can be reused, a uid and a namespace cookie cannot (I6)."""

    name: str
    namespace: str
    uid: PodUid
    workload: str = ""  # owner, e.g. "deploy/web": budgets and the induced-bypass rule count per workload (I3)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
