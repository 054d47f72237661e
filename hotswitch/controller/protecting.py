"""What may be done for one pod now: its settings, cut by the preflight, and a person's order (I2).

Made anew at every look, because anything that it rests on may have changed; only for pods that somebody looks at. The
watch keeps but a part of a pod; the whole of one that falls ill is taken from the very event that says so, and asked
for only where there was none: nothing is asked of the API server on the way from evidence to decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from hotswitch.api import drills, names, override
from hotswitch.api.values import InvalidValue
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.pods import Pod, manifest
from hotswitch.config.merged import Effective
from hotswitch.config.meshpod import read_pod
from hotswitch.config.objects import ObjectRef, Problem, problem
from hotswitch.controller.means import Protection
from hotswitch.controller.seen import running
from hotswitch.decide.preflight import Preflight, preflight
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.model import Direction, Level, Policy
from hotswitch.observe.podlife import PROXY, reference

NOBODY_TELLS = "meshed clients would have to be told to speak plaintext, and the controller knows no istiod (--istiod)"


_OURS = frozenset({names.STATUS, names.DRILLED, names.DRILL_ORDER})
_LEFT_OUT = {"apiVersion": "v1", "kind": "Pod"}  # by lists, of their items


class Protections:
    """`tells_clients`: can it be known when meshed clients have begun to speak plaintext? `shift_s`: Unix seconds minus
    the loop's clock."""

    def __init__(self, cluster: Cluster, shift_s: Callable[[], float], *, tells_clients: bool) -> None:
        self._cluster, self._shift_s = cluster, shift_s
        self._tells_clients = tells_clients
        self._manifests: dict[str, tuple[object, dict[str, Any], MeshPod]] = {}
        self._heard: dict[str, tuple[object, bytes]] = {}
        self._checks: dict[str, tuple[MeshView, MeshPod, frozenset[str], Preflight]] = {}

    async def make(self, pod: Pod, found: Effective, mesh: Callable[[], MeshView]) -> Protection:
        """Raises ApiFailure when the pod's manifest must be asked for, and cannot be had."""
        content, seen = await self._manifest(pod)
        order = _order(pod)
        accepted = found.accepts(order.accept if order else ())
        checked = self._checked(pod.uid, mesh(), seen, accepted)
        policy, refusals = checked.limit(found.policy), taken_away(found.policy, checked)
        if checked.flip and not self._tells_clients and Level.DIRECT in policy.inbound:
            policy = replace(policy, inbound=tuple(each for each in policy.inbound if each is not Level.DIRECT))
            refusals[Direction.INBOUND, Level.DIRECT] = NOBODY_TELLS
        now_unix_s = time.time()
        return Protection(
            manifest=content,
            policy=policy,
            preflight=checked,
            actuators=found.actuators,
            override=order.at(now_s=now_unix_s - self._shift_s(), now_unix_s=now_unix_s) if order else None,
            refusals=refusals,
            receivers=tuple(each.key for each in found.receivers),
            alert_labels=found.alert_labels,
        )

    def _checked(self, uid: str, mesh: MeshView, seen: MeshPod, accepted: frozenset[str]) -> Preflight:
        """The preflight knows nothing else than these, and they seldom change between two looks."""
        known = self._checks.get(uid)
        if known is None or known[0] is not mesh or known[1] is not seen or known[2] != accepted:
            known = self._checks[uid] = mesh, seen, accepted, preflight(mesh, seen, accepted)
        return known[3]

    def heard(self, pod: Pod, raw: memoryview) -> None:
        """`raw`: the pod's JSON, as this event or list has it; empty: nobody is about to look at it."""
        if not raw:
            self._heard.pop(pod.uid, None)
            return
        known, now = self._manifests.get(pod.uid), _changing(pod)
        if known is None or known[0] != now:
            self._heard[pod.uid] = now, bytes(raw)

    async def _manifest(self, pod: Pod) -> tuple[dict[str, Any], MeshPod]:
        """Anew when the watch shows that what actuators or the preflight read in it has changed since."""
        known, now = self._manifests.get(pod.uid), _changing(pod)
        if known is None or known[0] != now:
            heard = self._heard.pop(pod.uid, None)
            if heard is not None and heard[0] == now:
                content = {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    **msgspec.json.decode(heard[1]),
                }  # a list leaves these out
            else:
                content = await manifest(self._cluster, pod)
            known = self._manifests[pod.uid] = now, content, read_pod(content, reference(pod).workload)
        return known[1], known[2]

    def forget(self, uid: str) -> None:
        """Nobody looks at this pod any longer: whole manifests of ten thousand would be half a gigabyte."""
        self._manifests.pop(uid, None)
        self._heard.pop(uid, None)
        self._checks.pop(uid, None)


def _order(pod: Pod) -> override.Order | None:
    """One that is over, or not valid, is none."""
    try:
        return override.read(pod.annotations, time.time())
    except (override.Ended, InvalidValue):
        return None


_ORDERS = frozenset({names.OVERRIDE, names.DRILL_ORDER, *override.MEAN_NOTHING_ALONE})


def wrong_orders(pod: Pod) -> tuple[Problem, ...]:
    """An order that is not valid changes nothing, and its author is to hear of it."""
    if _ORDERS.isdisjoint(pod.annotations):
        return ()  # asked of every pod at the start
    return tuple(problem(object_ref(pod), each) for each in _wrong(pod.annotations))


def _wrong(annotations: Mapping[str, str]) -> Iterator[InvalidValue]:
    try:
        override.read(annotations, time.time())
    except override.Ended:
        pass
    except InvalidValue as invalid:
        yield invalid
    try:
        drills.read_order(annotations)
    except InvalidValue as invalid:
        yield invalid


def object_ref(pod: Pod) -> ObjectRef:
    return ObjectRef(kind="Pod", name=pod.metadata.name, namespace=pod.metadata.namespace, uid=pod.uid)


def _changing(pod: Pod) -> tuple[object, ...]:
    """What may change in a pod's manifest and is read there: its words, addresses, and where commands could be run."""
    said = {key: value for key, value in pod.annotations.items() if key not in _OURS}
    return pod.labels, said, pod.addresses, *(running(pod, name) for name in (PROXY, names.HELPER_CONTAINER))


def taken_away(policy: Policy, checked: Preflight) -> dict[tuple[Direction, Level], str]:
    """Levels that the settings allow and the preflight does not: the first finding of each."""
    found: dict[tuple[Direction, Level], str] = {}
    for way, listed in ((Direction.INBOUND, policy.inbound), (Direction.OUTBOUND, policy.outbound)):
        for level in listed:
            refusals = () if level is Level.HOLD else checked.refusals(way, level)
            if refusals and not checked.allows(way, level):
                found[way, level] = f"{refusals[0].code} {refusals[0].sentence}"
    return found
