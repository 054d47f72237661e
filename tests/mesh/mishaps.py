"""What the controller asks of the API server in a bypass and its restore, and how each of these can go wrong.

A row of TARGETS is one kind of request, a row of FAULTS what becomes of it. `rounds` lays them over each other so that
each round gives every kind of request another fault, and all rounds together have every pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hotswitch.api import names
from hotswitch.sandbox.kubeapi.faults import Fault, Faults, Which
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.server import EmbeddedApi

LONG_S, SLOW_S = 5.0, 5.0
CONTROLLER = ":hotswitch-controller"
MAKE, OPEN, CLOSE = "make", "open", "close"


@dataclass(frozen=True, slots=True)
class Target:
    """`of_pod`: the request names the pod, so each pod has a fault of its own. `step`: only while the pod's status says
    that a step with this in its name is under way. `surely`: when it is asked in any case, of the pod that is opened
    straight to the app; what is asked of it `alone` is not asked of one that is rescued."""

    name: str
    verb: str
    resource: str
    of_pod: bool = False
    step: str = ""
    surely: frozenset[str] = frozenset({OPEN, CLOSE})
    alone: bool = False

    @property
    def is_watch(self) -> bool:
        return self.verb == "watch"

    def __str__(self) -> str:
        return self.name


TARGETS = (
    Target("status", "patch", "pods/status", of_pod=True),
    Target("label", "patch", "pods/status", of_pod=True, step="-label", alone=True),
    Target("pod", "get", "pods", of_pod=True, alone=True),
    Target("exec", "get", "pods/exec", of_pod=True),
    Target("helper", "patch", "pods/ephemeralcontainers", of_pod=True, surely=frozenset({MAKE})),
    Target("slices", "list", "endpointslices"),
    Target("touch", "patch", "endpointslices"),
    Target("service", "get", "services"),
    Target("event", "create", "events"),
    Target("lease", "update", "leases"),
    Target("lease-look", "get", "leases", surely=frozenset()),
    Target("record", "update", "configmaps"),
    Target("record-look", "get", "configmaps"),
    Target("watch-pods", "watch", "pods"),
    Target("watch-namespaces", "watch", "namespaces"),
    Target("watch-policies", "watch", "hotswitchpolicies"),
    Target("watch-services", "watch", "services"),
    Target("watch-mesh-config", "watch", "configmaps"),
)

Arm = Callable[[Faults, Which], Fault]
FAULTS: dict[str, Arm] = {
    "500": lambda faults, which: faults.fail(500, **which | {"times": 1}),
    "500 for 5 s": lambda faults, which: faults.fail(500, **which | {"lasts_s": LONG_S}),
    "409": lambda faults, which: faults.fail(409, **which | {"times": 2}),
    "429": lambda faults, which: faults.fail(429, retry_after_s=2, **which | {"times": 2}),
    "410": lambda faults, which: faults.fail(410, **which | {"times": 1}),
    "403": lambda faults, which: faults.fail(403, **which | {"times": 1}),
    "cut": lambda faults, which: faults.cut(**which | {"times": 2}),
    "cut after": lambda faults, which: faults.cut(after=True, **which | {"times": 1}),
    "slow": lambda faults, which: faults.slow(SLOW_S, **which | {"times": 1}),
    "garbled": lambda faults, which: faults.garble(**which | {"times": 2}),
    "garbled after": lambda faults, which: faults.garble(after=True, **which | {"times": 1}),
}
Round = tuple[tuple[Target, str], ...]


def rounds() -> list[Round]:
    """One for each fault; every pair is in one of them. Neighbours in TARGETS get faults that are not neighbours. No
    watch is cut after it was carried out: it has no end."""
    faults = list(FAULTS)
    every = (
        [(target, faults[(number + 4 * at) % len(faults)]) for at, target in enumerate(TARGETS)]
        for number in range(len(faults))
    )
    return [tuple(pair for pair in pairs if is_one(*pair)) for pairs in every]


def is_one(target: Target, fault: str) -> bool:
    return not (target.is_watch and fault.endswith("after"))


def alone() -> list[Round]:
    return [((target, fault),) for target in TARGETS for fault in FAULTS if is_one(target, fault)]


@dataclass(slots=True)
class Armed:
    target: Target
    fault: str
    pod: str
    it: Fault

    def __str__(self) -> str:
        return f"{self.target}{f' of {self.pod}' if self.pod else ''}: {self.fault} ({self.it.struck})"


def arm(api: EmbeddedApi, pairs: Round, pods: Sequence[str], namespace: str) -> list[Armed]:
    """From now on. `pods`: the first is the one that is opened straight to the app. Watches are cut, so that their
    clients ask again."""
    armed = [
        Armed(target, fault, pod, FAULTS[fault](api.faults, _which(api, target, pod, namespace)))
        for target, fault in pairs
        for pod in (pods[: 1 if target.alone else None] if target.of_pod else ("",))
    ]
    for target, _ in pairs:
        if target.is_watch:
            api.faults.cut_watches(target.resource)
    return armed


def _which(api: EmbeddedApi, target: Target, pod: str, namespace: str) -> Which:
    def meets(ask: Ask) -> bool:
        if not ask.user.name.endswith(CONTROLLER):
            return False
        return not target.step or target.step in _status(api, pod, namespace)

    which: Which = {"verb": target.verb, "resource": target.resource, "name": pod, "when": meets}
    return which


def _status(api: EmbeddedApi, pod: str, namespace: str) -> str:
    found: dict[str, Any] = api.admin.get("pods", pod, namespace)
    return str(found["metadata"].get("annotations", {}).get(names.STATUS, ""))


def unmet(armed: Sequence[Armed], when: str) -> list[str]:
    """Who was surely asked, and has not met the fault: it tests nothing."""
    return [str(each) for each in armed if when in each.target.surely and not each.it.struck]


def lasting(armed: Sequence[Armed]) -> list[str]:
    """What has struck, and is not over."""
    return [str(each) for each in armed if each.it.struck and not each.it.is_over]
