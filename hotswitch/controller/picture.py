"""The mesh as it is known now: pods, namespaces, policies, Istio's configuration; and what that allows for a pod (I2).

Watches write into it, workers read from it; nothing in it waits but the asking for a pod's manifest, of which the watch
keeps only a part. A protection is made anew whenever anything that it rests on has changed, and only for pods that
somebody looks at.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from hotswitch.api import names, override
from hotswitch.api.values import InvalidValue
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import Kind
from hotswitch.cluster.pods import Pod, manifest
from hotswitch.config.merged import Effective
from hotswitch.config.meshconfig import MeshConfigRefused, read_config_map
from hotswitch.config.meshpod import read_pod
from hotswitch.config.meshread import assemble, read_object
from hotswitch.config.objects import ObjectRef, PolicyObject, Problem, problem
from hotswitch.config.settings import Settings
from hotswitch.controller.means import Protection
from hotswitch.controller.seen import PROXY, SeenPod, reference, running, seen_pod, suspicious
from hotswitch.controller.surroundings import Limits
from hotswitch.decide.preflight import Preflight, preflight
from hotswitch.mesh import MeshConfig, MeshPod, MeshView
from hotswitch.mesh.objects import Doubt, MeshObject
from hotswitch.model import Direction, Level, Mode, PodRef, Policy

Say = Callable[[Problem], None]
_TERM = re.compile(r'"term":(\d{1,10})(?!\d)')  # what anybody wrote into an annotation: no longer than one of ours

NOBODY_TELLS = "meshed clients would have to be told to speak plaintext, and the controller knows no istiod (--istiod)"


class Picture:
    """`shift_s`: Unix seconds minus the loop's clock. `say`: told of all that users wrote that is not valid,
    each time it is read: whoever listens folds repeats."""

    def __init__(self, cluster: Cluster, root_namespace: str, shift_s: Callable[[], float], say: Say) -> None:
        self._cluster, self._shift_s, self._say = cluster, shift_s, say
        self.settings = Settings(root_namespace)
        self.tells_clients = False  # can it be known when meshed clients have begun to speak plaintext?
        self.pods: dict[str, Pod] = {}
        self.policies: dict[tuple[str, str], PolicyObject] = {}
        self._istio: dict[tuple[str, str, str], MeshObject | Doubt | None] = {}
        self._config = MeshConfig(root_namespace=root_namespace)
        self._config_unread = "meshConfig: not read yet"
        self._unread: frozenset[str] = frozenset()
        self._mesh: MeshView | None = None
        self._manifests: dict[str, tuple[object, dict[str, Any], MeshPod]] = {}
        self._modes: dict[str, Mode] = {}
        self._of_workload: Counter[tuple[str, str]] = Counter()
        self._of_namespace: Counter[str] = Counter()
        self._of_node: Counter[str] = Counter()
        self.living = 0
        """Meshed pods that have not completed."""

    # ---- written by watches ----

    def pod_there(self, pod: Pod) -> None:
        if (before := self.pods.get(pod.uid)) is not None:  # a pod gets its node after it is made
            self._count(before, -1)
        self._count(pod, 1)
        self.pods[pod.uid] = pod

    def pod_gone(self, pod: Pod) -> None:
        if (before := self.pods.pop(pod.uid, None)) is not None:
            self._count(before, -1)
        self._modes.pop(pod.uid, None)
        self.settings.forget_pod(pod.uid)
        self.forget(pod.uid)

    def _count(self, pod: Pod, by: int) -> None:
        """A share of those that could be open: of a Job's completed pods there may be more than of all others."""
        if pod.is_completed:
            return
        ref = reference(pod)
        self.living += by
        for counted, key in self._counters(ref, pod.spec.node_name):
            counted[key] += by
            if not counted[key]:
                del counted[key]

    def _counters(self, ref: PodRef, node: str) -> tuple[tuple[Counter[Any], object], ...]:
        return (
            (self._of_workload, (ref.namespace, ref.workload)),
            (self._of_namespace, ref.namespace),
            (self._of_node, node),
        )

    def namespace_there(self, name: str, uid: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> None:
        self._tell(self.settings.put_namespace(name, uid, labels, annotations))

    def namespace_gone(self, name: str) -> None:
        self.settings.drop_namespace(name)

    def policy_there(self, content: Mapping[str, Any]) -> PolicyObject:
        """The policy as it is in force, its problems told: the last valid spec stays."""
        key = content["metadata"]["namespace"], content["metadata"]["name"]
        policy = self.policies[key] = self.settings.put_policy(content)
        self._tell(policy.problems)
        return policy

    def policy_gone(self, namespace: str, name: str) -> None:
        self.policies.pop((namespace, name), None)
        self.settings.drop_policy(namespace, name)

    def istio_there(self, kind: Kind, content: Mapping[str, Any]) -> None:
        metadata = content.get("metadata") or {}
        domain = self._config.cluster_domain
        read = read_object(content, api_version=kind.api_version, kind=kind.kind, cluster_domain=domain)
        self._istio[kind.kind, metadata.get("namespace", ""), metadata.get("name", "")] = read
        self._mesh = None

    def istio_gone(self, kind: Kind, content: Mapping[str, Any]) -> None:
        metadata = content.get("metadata") or {}
        self._istio.pop((kind.kind, metadata.get("namespace", ""), metadata.get("name", "")), None)
        self._mesh = None

    def mesh_config(self, content: Mapping[str, Any] | None) -> None:
        """`content`: istiod's ConfigMap; None: there is none. One that cannot be read is a doubt about everything."""
        self._config_unread = "meshConfig: there is no ConfigMap" if content is None else ""
        try:
            self._config = read_config_map(content) if content is not None else self._config
        except MeshConfigRefused as refused:
            self._config_unread = f"meshConfig: {refused}"
        self._mesh = None

    def unreadable_kinds(self, kinds: Iterable[str]) -> None:
        """What could not be listed: on doubt, no."""
        self._unread, self._mesh = frozenset(kinds), None

    def _tell(self, problems: Iterable[Problem]) -> None:
        for each in problems:
            self._say(each)

    # ---- read by workers ----

    def pod(self, uid: str) -> SeenPod | None:
        pod = self.pods.get(uid)
        return None if pod is None else seen_pod(pod, self._shift_s())

    def known(self, uid: str) -> PodRef | None:
        """A pod that may be looked after: meshed, and not switched off."""
        pod = self.pods.get(uid)
        if pod is None or pod.container(PROXY) is None or pod.spec.host_network:
            return None
        return reference(pod)

    def ill(self, uid: str) -> bool:
        pod = self.pods.get(uid)
        return pod is not None and suspicious(pod)

    def effective(self, pod: Pod) -> Effective:
        return self.settings.for_pod(*pod.key, pod.uid, pod.labels, pod.annotations)

    async def protection(self, pod: SeenPod) -> Protection:
        whole, (content, seen) = self.pods[pod.ref.uid], await self._manifest(pod.ref.uid)
        found = self.effective(whole)
        self._tell(found.problems)
        order = self._order(pod, found)
        accepted = found.accepts(order.accept if order else ())
        checked = preflight(self.mesh, seen, accepted)
        policy, refusals = checked.limit(found.policy), taken_away(found.policy, checked)
        if checked.flip and not self.tells_clients and Level.DIRECT in policy.inbound:
            policy = replace(policy, inbound=tuple(each for each in policy.inbound if each is not Level.DIRECT))
            refusals[Direction.INBOUND, Level.DIRECT] = NOBODY_TELLS
        now_unix_s = self._now_unix_s()
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

    def _order(self, pod: SeenPod, found: Effective) -> override.Order | None:
        """One that is over is none; one that is not valid is told and changes nothing."""
        try:
            return override.read(pod.annotations, self._now_unix_s())
        except override.Ended:
            return None
        except InvalidValue as invalid:
            ref = ObjectRef(kind="Pod", name=pod.ref.name, namespace=pod.ref.namespace, uid=pod.ref.uid)
            self._say(problem(ref, invalid))
            return None

    def _now_unix_s(self) -> float:
        return time.time()

    async def _manifest(self, uid: str) -> tuple[dict[str, Any], MeshPod]:
        """Asked for again when the watch shows that what actuators or the preflight read in it has changed since."""
        pod = self.pods[uid]
        known = self._manifests.get(uid)
        now = _changing(pod)
        if known is None or known[0] != now:
            content = await manifest(self._cluster, pod)
            known = now, content, read_pod(content, reference(pod).workload)
            if uid in self.pods:  # else it went meanwhile, and nobody would forget it
                self._manifests[uid] = known
        return known[1], known[2]

    def forget(self, uid: str) -> None:
        """Nobody looks at this pod any longer: whole manifests of ten thousand would be half a gigabyte."""
        self._manifests.pop(uid, None)

    @property
    def mesh(self) -> MeshView:
        if self._mesh is None:
            unread = {*self._unread, *([self._config_unread] if self._config_unread else [])}
            self._mesh = assemble(self._istio.values(), self._config, sorted(unread))
        return self._mesh

    def limits(self, pod: PodRef) -> Limits:
        """Shares count all living meshed pods of the mesh, the namespace, the workload."""
        whole = self.pods.get(pod.uid)
        if whole is None:
            return Limits(mesh=0, namespace=0, workload=0, node=0)
        budgets = self.effective(whole).budgets
        return Limits(
            mesh=budgets.mesh.of(self.living),
            namespace=budgets.namespace.of(self._of_namespace[pod.namespace]),
            workload=budgets.workload.of(self._of_workload[pod.namespace, pod.workload]),
            node=budgets.node.of(self._of_node[whole.spec.node_name]),
        )

    def node_of(self, pod: PodRef) -> str:
        whole = self.pods.get(pod.uid)
        return whole.spec.node_name if whole is not None else ""

    @property
    def highest_term(self) -> int:
        """Of any leader that ever wrote into a pod: a Lease that was deleted does not begin anew below it."""
        found = (_TERM.search(pod.annotations.get(names.STATUS, "")) for pod in self.pods.values())
        return max((int(each[1]) for each in found if each), default=0)

    @property
    def by_mode(self) -> dict[str, int]:
        return dict(Counter(str(mode) for mode in self._modes.values()))

    def watched(self, pod: Pod) -> bool:
        """Whether it is looked after at all."""
        if self.known(pod.uid) is None:
            return False
        mode = self._modes[pod.uid] = self.effective(pod).policy.mode
        return mode is not Mode.OFF


def _changing(pod: Pod) -> tuple[object, ...]:
    """What may change in a pod's manifest and is read there: its words, addresses, and where commands could be run."""
    said = {key: value for key, value in pod.annotations.items() if key != names.STATUS}
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
