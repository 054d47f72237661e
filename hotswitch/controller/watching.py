"""What the controller follows in the API, and into what it is written: a watch per kind, none may end (S4.2a).

A kind that is not installed is no doubt: Istio's CRDs may be absent, and are looked for again. A kind that may not be
read is one: what it enforces is unknown, and the preflight refuses (I2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from hotswitch.api import names
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import CONFIGMAPS, ISTIO, NAMESPACES, PODS, POLICIES, SERVICES, Kind
from hotswitch.cluster.objects import Metadata
from hotswitch.cluster.pods import Pod
from hotswitch.cluster.store import NOTHING, Change, ChangeType
from hotswitch.cluster.watch import Watcher
from hotswitch.controller.picture import Picture

ABSENT_AGAIN_S = 60.0
FAILED_AGAIN_S = 2.0
SILENT_S = 300.0  # a watch that is silent is taken up anew after 150 s, and that counts as heard
FORBIDDEN = 403
MESH_CONFIG = "istio"  # istiod's ConfigMap in the root namespace


class Bare(msgspec.Struct, frozen=True, gc=False):
    metadata: Metadata


class Watching:
    """`news(uid, ill)`: a pod has changed, and whether its status is a reason to look at it; `moved(pod)`: it is new,
    has become ready, or its address or settings may have changed; `gone(uid)`."""

    def __init__(
        self,
        cluster: Cluster,
        picture: Picture,
        root_namespace: str,
        *,
        news: Callable[[str, bool], None],
        moved: Callable[[Pod], None],
        gone: Callable[[str], None],
        problem: Callable[[str], None],
        policies_changed: Callable[[], None],
        selector: str = names.TLS_MODE_LABEL,
    ) -> None:
        self._cluster, self._picture, self._root = cluster, picture, root_namespace
        self._news, self._moved, self._gone, self._problem = news, moved, gone, problem
        self._policies_changed = policies_changed
        self.policies: dict[tuple[str, str], dict[str, Any]] = {}
        """As they are in the API, by namespace and name."""
        self._unread: set[str] = set()
        self._watchers: dict[Kind, Watcher[dict[str, Any]]] = {}
        self.silent_s = SILENT_S
        self.pods: Watcher[Pod] = Watcher(
            cluster, PODS, Pod, on_event=self._pod, on_problem=problem, label_selector=selector
        )
        self.left: Watcher[Pod] = Watcher(
            cluster, PODS, Pod, on_event=self._left, on_problem=problem,
            label_selector=f"{names.OPENED_BY_LABEL},!{selector}",
        )  # fmt: skip
        self.namespaces: Watcher[Bare] = Watcher(
            cluster, NAMESPACES, Bare, on_event=self._namespace, on_problem=problem
        )
        self.synced = asyncio.Event()

    @property
    def age_s(self) -> float:
        """Of the watch that was silent longest: liveness."""
        return max(self.pods.age_s, self.namespaces.age_s)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            waits = [each.synced.wait() for each in (self.pods, self.left, self.namespaces)]
            for job in (self.pods.run(), self.left.run(), self.namespaces.run(), self._doubt()):
                tasks.create_task(job)
            for kind in (*ISTIO, SERVICES, POLICIES):
                known = asyncio.Event()
                tasks.create_task(self._follow(kind, known))
                waits.append(known.wait())
            known = asyncio.Event()
            tasks.create_task(self._follow(CONFIGMAPS, known, self._root, f"metadata.name={MESH_CONFIG}"))
            await asyncio.gather(*waits, known.wait())
            self.synced.set()

    # ---- Istio's configuration ----

    async def _follow(self, kind: Kind, known: asyncio.Event, namespace: str | None = None, field: str = "") -> None:
        """`known` is set when the kind is read, or known to be absent or forbidden."""
        while True:
            try:
                found = await self._served(kind, namespace, field)
            except ApiFailure as failure:
                self._problem(f"{kind} cannot be read: {failure}")
                self._read(kind, unread=True)
                pause_s = ABSENT_AGAIN_S if failure.status == FORBIDDEN else FAILED_AGAIN_S
            else:
                self._read(kind, unread=False)
                if found is not None:
                    await self._watch(kind, found, known, namespace, field)
                pause_s = ABSENT_AGAIN_S
            known.set()
            await asyncio.sleep(pause_s)

    async def _served(self, kind: Kind, namespace: str | None, field: str) -> Kind | None:
        """In the version that this API server has; None: it knows no such kind. Raises ApiFailure when it may not be
        listed, or the API server does not answer."""
        found = await self._cluster.served(kind) if kind.group else kind
        if found is not None:
            query = {"limit": "1", **({"fieldSelector": field} if field else {})}
            await self._cluster.request("GET", found.path(namespace), query)
        return found

    def _read(self, kind: Kind, *, unread: bool) -> None:
        before = frozenset(self._unread)
        (self._unread.add if unread else self._unread.discard)(str(kind))
        if before != self._unread:
            self._picture.unreadable_kinds(self._unread)

    async def _watch(self, kind: Kind, served: Kind, known: asyncio.Event, namespace: str | None, field: str) -> None:
        watcher: Watcher[dict[str, Any]] = Watcher(
            self._cluster,
            served,
            dict,
            on_event=lambda change: self._configured(kind, change),
            on_synced=known.set,
            on_problem=self._problem,
            namespace=namespace,
            field_selector=field,
        )
        self._watchers[kind] = watcher
        await watcher.run()

    async def _doubt(self) -> None:
        """What was read once and can be followed no longer may say something else by now (I2)."""
        while True:
            await asyncio.sleep(self.silent_s / 4)
            for kind, watcher in self._watchers.items():
                self._read(kind, unread=watcher.age_s > self.silent_s)

    def _configured(self, kind: Kind, change: Change[dict[str, Any]]) -> None:
        gone = change.type is ChangeType.DELETED
        if kind is POLICIES:
            self._policy(gone, change.object)
        elif kind is CONFIGMAPS:
            self._picture.mesh_config(None if gone else change.object)
        elif gone:
            self._picture.istio_gone(kind, change.object)
        else:
            self._picture.istio_there(kind, change.object)

    def _policy(self, gone: bool, content: dict[str, Any]) -> None:
        metadata = content["metadata"]
        if gone:
            self.policies.pop((metadata["namespace"], metadata["name"]), None)
            self._picture.policy_gone(metadata["namespace"], metadata["name"])
        else:
            self.policies[metadata["namespace"], metadata["name"]] = content
            self._picture.policy_there(content)
        self._policies_changed()

    # ---- pods and namespaces ----

    def _pod(self, change: Change[Pod]) -> None:
        pod = change.object
        if change.type is ChangeType.DELETED:
            self._picture.pod_gone(pod)
            self._gone(pod.uid)
            return
        before = self._picture.pods.get(pod.uid)
        self._picture.pod_there(pod)
        ill = self._picture.ill(pod.uid)
        self._picture.heard(pod, change.raw if ill else NOTHING)
        if before is None or _placed_anew(before, pod) or _became_ready(before, pod):
            self._moved(pod)
        self._news(pod.uid, ill)

    def _left(self, change: Change[Pod]) -> None:
        """Its label is gone, and nothing in its kernel will close it."""
        pod = change.object
        if change.type is ChangeType.DELETED:
            self._picture.left_open_gone(pod)
        else:
            self._picture.left_open_there(pod)
        self._news(pod.uid, change.type is not ChangeType.DELETED)

    def _namespace(self, change: Change[Bare]) -> None:
        metadata = change.object.metadata
        if change.type is ChangeType.DELETED:
            self._picture.namespace_gone(metadata.name)
            return
        self._picture.namespace_there(metadata.name, metadata.uid, metadata.labels or {}, metadata.annotations or {})
        self._moving = asyncio.get_running_loop().create_task(self._moved_all(metadata.name))

    async def _moved_all(self, namespace: str) -> None:
        """Its label may switch its pods on or off. Not in one go: there may be thousands."""
        pods = [each for each in self._picture.pods.values() if each.metadata.namespace == namespace]
        for done, pod in enumerate(pods):
            self._moved(pod)
            if done % 100 == 99:
                await asyncio.sleep(0)


def _placed_anew(before: Pod, pod: Pod) -> bool:
    """By its address or what its owner says of it. Cheap: asked at every event."""
    was, now = before.status, pod.status
    if (was.pod_ip, was.pod_ips) != (now.pod_ip, now.pod_ips):
        return True
    if before.labels.get(names.MODE_LABEL) != pod.labels.get(names.MODE_LABEL):
        return True
    differ = before.annotations.items() ^ pod.annotations.items()
    return any(key.startswith(names.PREFIX) and key != names.STATUS for key, _ in differ)


def _became_ready(before: Pod, pod: Pod) -> bool:
    """From now on its proxy can fail, and it is to be prepared for that. Cheap: asked at every event."""
    return _is_ready(pod) and not _is_ready(before)


def _is_ready(pod: Pod) -> bool:
    condition = pod.condition("Ready")
    return condition is not None and condition.status == "True"
