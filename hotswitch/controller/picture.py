"""The mesh as it is known now: pods, namespaces, policies, Istio's configuration; and what that allows for a pod (I2).

Watches write into it, workers read from it; nothing in it waits but the making of a protection (protecting.py).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hotswitch.api import names
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import Kind
from hotswitch.cluster.pods import Pod
from hotswitch.config.merged import Effective
from hotswitch.config.meshconfig import MeshConfigRefused, read_config_map
from hotswitch.config.meshread import assemble, read_object
from hotswitch.config.objects import ObjectRef, PolicyObject, Problem
from hotswitch.config.settings import Settings
from hotswitch.controller.census import Census
from hotswitch.controller.invalid import InvalidObjects
from hotswitch.controller.means import Protection
from hotswitch.controller.protecting import Protections, object_ref, wrong_orders
from hotswitch.controller.seen import SeenPod, seen_pod, spoke_lately, suspicious
from hotswitch.controller.surroundings import Limits
from hotswitch.mesh import MeshConfig, MeshView
from hotswitch.mesh.objects import Doubt, MeshObject
from hotswitch.model import Mode, PodRef
from hotswitch.observe.podlife import PROXY, reference

_TERM = re.compile(r'"term":(\d{1,10})(?!\d)')  # what anybody wrote into an annotation: no longer than one of ours


class Picture:
    """`shift_s`: Unix seconds minus the loop's clock. `say`: told of what users wrote that is not valid,
    once for as long as it stands. `tells_clients`: as of Protections."""

    def __init__(
        self,
        cluster: Cluster,
        root_namespace: str,
        shift_s: Callable[[], float],
        say: Callable[[Problem], None],
        *,
        tells_clients: bool = False,
    ) -> None:
        self._shift_s = shift_s
        self.invalid = InvalidObjects(say)
        self.settings = Settings(root_namespace)
        self._protections = Protections(cluster, shift_s, tells_clients=tells_clients)
        self.census = Census()
        self.pods: dict[str, Pod] = {}
        self.left: dict[str, Pod] = {}  # the mesh, while nothing but a controller would close them
        self.policies: dict[tuple[str, str], PolicyObject] = {}
        self._istio: dict[tuple[str, str, str], MeshObject | Doubt | None] = {}
        self._config = MeshConfig(root_namespace=root_namespace)
        self._config_unread = "meshConfig: not read yet"
        self._unread: frozenset[str] = frozenset()
        self._mesh: MeshView | None = None
        self._modes: dict[str, Mode] = {}

    # ---- written by watches ----

    def pod_there(self, pod: Pod) -> None:
        self.census.replace(self.pods.get(pod.uid), pod)  # a pod gets its node after it is made
        self.pods[pod.uid] = pod

    def pod_gone(self, pod: Pod) -> None:
        self.census.replace(self.pods.pop(pod.uid, None), None)
        self._modes.pop(pod.uid, None)
        self.invalid.gone("Pod", pod.metadata.namespace, pod.metadata.name, pod.uid)
        self.settings.forget_pod(pod.uid)
        self.forget(pod.uid)

    def left_open_there(self, pod: Pod) -> None:
        self.left[pod.uid] = pod

    def left_open_gone(self, pod: Pod) -> None:
        """It was closed, is in the mesh again, or was deleted."""
        self.left.pop(pod.uid, None)
        if pod.uid not in self.pods:
            self.settings.forget_pod(pod.uid)
            self.forget(pod.uid)

    def namespace_there(self, name: str, uid: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> None:
        problems = self.settings.put_namespace(name, uid, labels, annotations)
        self.invalid.read(ObjectRef(kind="Namespace", name=name, uid=uid), problems)

    def namespace_gone(self, name: str) -> None:
        self.settings.drop_namespace(name)
        self.invalid.gone("Namespace", "", name)

    def policy_there(self, content: Mapping[str, Any]) -> PolicyObject:
        """The policy as it is in force, its problems told: the last valid spec stays."""
        key = content["metadata"]["namespace"], content["metadata"]["name"]
        policy = self.policies[key] = self.settings.put_policy(content)
        self.invalid.read(policy.ref, policy.problems)
        return policy

    def policy_gone(self, namespace: str, name: str) -> None:
        self.policies.pop((namespace, name), None)
        self.settings.drop_policy(namespace, name)
        self.invalid.gone(names.KIND, namespace, name)

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

    # ---- read by workers ----

    def pod(self, uid: str) -> SeenPod | None:
        pod = self.pods.get(uid)
        return None if pod is None else seen_pod(pod, self._shift_s())

    def left_open(self, uid: str) -> SeenPod | None:
        pod = self.left.get(uid)
        return None if pod is None else seen_pod(pod, self._shift_s())

    def known(self, uid: str) -> PodRef | None:
        """A pod that may be looked after: meshed, and not switched off; or left open."""
        pod = self._meshed(uid)
        return None if pod is None else reference(pod)

    def _meshed(self, uid: str) -> Pod | None:
        pod = self.pods.get(uid) or self.left.get(uid)
        return None if pod is None or pod.container(PROXY) is None or pod.spec.host_network else pod

    def ill(self, uid: str) -> bool:
        pod = self.pods.get(uid)
        return uid in self.left or (pod is not None and (suspicious(pod) or self._acted_lately(pod)))

    def _acted_lately(self, pod: Pod) -> bool:
        return spoke_lately(pod.annotations.get(names.STATUS, ""), time.time())

    def effective(self, pod: Pod) -> Effective:
        return self.settings.for_pod(*pod.key, pod.uid, pod.labels, pod.annotations)

    async def protection(self, pod: SeenPod) -> Protection:
        """Raises ApiFailure when the pod's manifest must be asked for, and cannot be had."""
        inside = self.pods.get(pod.ref.uid)
        whole = inside or self.left[pod.ref.uid]
        found = self._read_anew(whole) if inside is not None else self.effective(whole)
        made = await self._protections.make(whole, found, lambda: self.mesh)
        if pod.ref.uid not in self.pods:  # it went meanwhile, and nobody would forget it
            self.forget(pod.ref.uid)
        return made

    def heard(self, pod: Pod, raw: memoryview) -> None:
        """The watch has brought the whole of a pod that somebody is about to look at; empty: nobody is."""
        self._protections.heard(pod, raw)

    def forget(self, uid: str) -> None:
        """Nobody looks at this pod any longer."""
        self._protections.forget(uid)

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
        return self.census.limits(pod, whole.spec.node_name, self.effective(whole).budgets)

    def node_of(self, pod: PodRef) -> str:
        whole = self.pods.get(pod.uid)
        return whole.spec.node_name if whole is not None else ""

    @property
    def highest_term(self) -> int:
        """Of any leader that ever wrote into a pod: a Lease that was deleted does not begin anew below it."""
        every = (*self.pods.values(), *self.left.values())
        found = (_TERM.search(pod.annotations.get(names.STATUS, "")) for pod in every)
        return max((int(each[1]) for each in found if each), default=0)

    @property
    def by_mode(self) -> dict[str, int]:
        return dict(Counter(str(mode) for mode in self._modes.values()))

    def watched(self, pod: Pod) -> Effective | None:
        """Its settings, if it is looked after at all."""
        if self._meshed(pod.uid) is None:
            return None
        found = self._read_anew(pod)
        mode = self._modes[pod.uid] = found.policy.mode
        return None if mode is Mode.OFF else found

    def _read_anew(self, pod: Pod) -> Effective:
        """Its settings, and what is wrong with what it says itself."""
        found, ref = self.effective(pod), object_ref(pod)
        self.invalid.read(ref, (*found.problems, *wrong_orders(pod)))
        return found
