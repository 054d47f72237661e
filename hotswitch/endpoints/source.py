"""One cluster's Services, pods and nodes, watched into the registry (S2.1 to S2.4).

Services and nodes are watched as a whole, pods by the selector of each Service that is ours: the API server selects, so
ten thousand other pods cost nothing. The home cluster says which Services there are and how; every further one adds its
own pods to the Service of the same name and namespace, and is asked for pods and nodes alone. A cluster that is not
heard of keeps its backends: first they are stale and go last, then they are lost and told to nobody; nothing is
forgotten, and at the next word all is as it is there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from hotswitch.api.service import MODE
from hotswitch.api.values import InvalidValue
from hotswitch.backends import Backend, BackendId, ClusterState, ServiceId, ServiceRecord
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import NODES, SERVICES
from hotswitch.cluster.pods import Pod
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from hotswitch.config.objects import ObjectRef, Problem, problem
from hotswitch.endpoints import assemble, objects
from hotswitch.endpoints.aging import Aging
from hotswitch.endpoints.assemble import Place
from hotswitch.endpoints.departed import Departed
from hotswitch.endpoints.pod_watches import PodWatches
from hotswitch.endpoints.registry import Registry
from hotswitch.model import PodUid

Judged = Callable[[ObjectRef, tuple[Problem, ...]], None]
"""All that is wrong with an object now; nothing: it is well, or gone."""


def _last(content: objects.Service, last: ServiceRecord | None) -> ServiceRecord | None:
    return last


@dataclass(frozen=True, slots=True)
class Reading:
    """Which Services count, and as what. `service` raises InvalidValue; `careful`: what one counts as whose words
    cannot be read; it is given the last that could."""

    service: Callable[[objects.Service], ServiceRecord | None] = assemble.service
    careful: Callable[[objects.Service, ServiceRecord | None], ServiceRecord | None] = _last


class Source:
    """`place`: whose pods these are; the home cluster's is HOME or its given name, and `is_home` says so. `judged`:
    told of every object as it is read, with the values that cannot be used. `trouble`: words about the API server."""

    def __init__(
        self,
        cluster: Cluster,
        registry: Registry,
        place: Place | None = None,
        *,
        is_home: bool = True,
        reading: Reading = Reading(),
        judged: Judged = lambda ref, problems: None,
        trouble: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._cluster, self._registry, self.place = cluster, registry, place or Place()
        self.is_home, self._judged, self._trouble = is_home, judged, trouble
        self._reading = reading
        self.services: Watcher[objects.Service] = Watcher(
            cluster, SERVICES, objects.Service, on_event=self._service, on_problem=trouble
        )
        self.nodes: Watcher[objects.Node] = Watcher(
            cluster, NODES, objects.Node, on_event=self._node, on_problem=trouble
        )
        self._pods = PodWatches(cluster, changed=self._pod, listed=registry.touch, trouble=trouble)
        self._unread: set[ServiceId] = set()
        self._standing: dict[BackendId, Backend] = {}  # the last valid one of each
        self.departed = Departed()
        self.synced = asyncio.Event()
        self._aging = Aging(cluster, registry, self.place.cluster, lambda: self.is_followed, self._pods)

    @property
    def is_followed(self) -> bool:
        """Every watch stands: what is not in the registry is not in the cluster."""
        return all(map(_stands, self._watchers))

    @property
    def problem(self) -> str:
        """Why it cannot be heard; "" when it can."""
        return self._aging.silence or next((each.problem for each in self._watchers if each.problem), "")

    @property
    def _watchers(self) -> list[Watcher[Any]]:
        own: list[Watcher[Any]] = [self.services, self.nodes] if self.is_home else [self.nodes]
        return [*own, *self._pods.watchers]

    @property
    def state(self) -> ClusterState:
        counted = Counter(
            each.staleness
            for service in self._pods
            for each in self._registry.backends(service)
            if each.locality.cluster == self.place.cluster
        )
        return ClusterState(
            name=self.place.cluster,
            staleness=self._aging.worst if self.nodes.synced.is_set() else None,
            age_s=self._aging.age_s,
            problem=self.problem,
            backends=dict(counted),
        )

    def knows(self, service: ServiceId) -> bool:
        """Its pods were listed: one that is not in the registry was not there."""
        return self._pods.knows(service)

    def is_unread(self, service: ServiceId) -> bool:
        """It asks to be ours in words that cannot be read, and from before nothing is known: a predecessor may have."""
        content = self.services.store.get(service)
        asks = content is not None and MODE in (content.metadata.annotations or {})
        return asks and self._registry.service(service) is None

    def unread(self) -> list[ServiceRecord]:
        """Of all such: which there are, and their ports."""
        services = self.services.store.items()
        return [assemble.unread(content) for key, content in services if self.is_unread(ServiceId(*key))]

    def pod(self, service: ServiceId, name: str) -> Pod | None:
        return self._pods.pod(service, name)

    def pods(self, service: ServiceId) -> tuple[Pod, ...]:
        return self._pods.pods(service)

    async def run(self) -> None:
        """Until cancelled. Then every watch has ended, and what it knew is forgotten."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.nodes.run())
                if self.is_home:
                    tasks.create_task(self.services.run())
                    await self.services.synced.wait()
                await self.nodes.synced.wait()
                if not self.is_home:
                    self._registry.listen(self._follow)
                    for each in list(self._registry.services):
                        self._follow(each)
                    tasks.create_task(self._aging.run())
                await self._pods.synced()
                self.synced.set()
        finally:
            self._registry.listen_no_more(self._follow)  # else what is forgotten now would be followed anew
            for service in self._pods:
                self._unwatch(service)
            await self._pods.ended()

    # ---- Services ----

    def _service(self, change: Change[objects.Service]) -> None:
        metadata = change.object.metadata
        service = ServiceId(metadata.namespace, metadata.name)
        ref = ObjectRef(kind="Service", name=service.name, namespace=service.namespace, uid=metadata.uid)
        if change.type is ChangeType.DELETED:
            self._judged(ref, ())
            self._drop(service)
            return
        try:
            record = self._reading.service(change.object)
        except InvalidValue as invalid:  # the last valid one stays
            self._judged(ref, (problem(ref, invalid),))
            record = self._reading.careful(change.object, self._registry.service(service))
            if record is None:
                self._unread.add(service)
                return
        else:
            self._judged(ref, ())
        if record is None:
            self._drop(service)
        else:
            self._registry.put_service(record)
            self._watch(record)

    def read_again(self, service: ServiceId) -> None:
        """By what `reading` makes of it now."""
        content = self.services.store.get((service.namespace, service.name))
        if content is not None:
            self._service(Change(ChangeType.MODIFIED, content))

    def _drop(self, service: ServiceId) -> None:
        self._unwatch(service)
        self._registry.drop_service(service)
        if service in self._unread:  # it may have been told of all the same
            self._unread.discard(service)
            self._registry.touch(service)

    def _follow(self, service: ServiceId) -> None:
        """The home cluster's word on a Service, for the pods of this one."""
        record = self._registry.service(service)
        if record is None:
            self._unwatch(service)
        else:
            self._watch(record)

    def _watch(self, record: ServiceRecord) -> None:
        if self._pods.is_as(record):
            self._again(record, self._pods.pods(record.id))
            return
        self._unwatch(record.id)
        self._pods.begin(record)

    def _unwatch(self, service: ServiceId) -> None:
        self._aging.forget(service)
        known = self._pods.end(service)
        if known is None:
            return
        for pod in known:  # another selector may mean others: they run on all the same
            self._note_end(service, pod)
        for backend in self._registry.backends(service):
            if backend.locality.cluster == self.place.cluster:
                self._forget(service, backend.id)

    # ---- pods and nodes ----

    def _pod(self, service: ServiceId, change: Change[Pod]) -> None:
        pod = change.object
        identity = self._identity(pod)
        if change.type is ChangeType.DELETED:
            self._judged(_ref(pod), ())
            if change.size_bytes:  # else it went unseen, while nothing was heard
                self._note_end(service, pod)
            self._forget(service, identity)
            return
        record = self._registry.service(service)
        if record is not None:
            self._put(record, pod)

    def _note_end(self, service: ServiceId, pod: Pod) -> None:
        self.departed.note(self._registry.service(service), self._identity(pod), pod)

    def _identity(self, pod: Pod) -> BackendId:
        return BackendId(self.place.cluster, PodUid(pod.uid))

    def _forget(self, service: ServiceId, backend: BackendId) -> None:
        self._standing.pop(backend, None)
        self._registry.drop(service, backend)

    def _put(self, record: ServiceRecord, pod: Pod) -> None:
        node = self.nodes.store.get(("", pod.spec.node_name))
        identity = self._identity(pod)
        try:
            made = assemble.backend(record, pod, node, self.place)
        except InvalidValue as invalid:
            self._judged(_ref(pod), (problem(_ref(pod), invalid),))
            made = _last_valid(assemble.careful(record, pod, node, self.place), self._standing.get(identity))
        else:
            self._judged(_ref(pod), ())
            if made is not None:
                self._standing[identity] = made
        if made is None:
            return
        self.departed.is_back(identity)
        known = self._registry.backend(record.id, identity)
        health = known.health if known is not None else made.health
        self._registry.put(replace(made, health=health, staleness=self._aging.of(record.id)))

    def _again(self, record: ServiceRecord, pods: Iterable[Pod]) -> None:
        """Its ports, or what it asks of pods, may be others now."""
        for pod in pods:
            self._put(record, pod)

    def _node(self, change: Change[objects.Node]) -> None:
        name = change.object.metadata.name
        for service in self._pods:
            record = self._registry.service(service)
            if record is not None:
                self._again(record, [pod for pod in self._pods.pods(service) if pod.spec.node_name == name])


def _ref(pod: Pod) -> ObjectRef:
    return ObjectRef(kind="Pod", name=pod.metadata.name, namespace=pod.metadata.namespace, uid=pod.uid)


def _stands(watcher: Watcher[Any]) -> bool:
    return watcher.synced.is_set() and not watcher.problem


def _last_valid(now: Backend | None, before: Backend | None) -> Backend | None:
    """As it is now, with what its annotations said when they could be read."""
    if now is None or before is None:
        return now
    return replace(
        now, priority=before.priority, weight=before.weight, capacity=before.capacity, rotation=before.rotation
    )
