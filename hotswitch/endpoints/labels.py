"""The role on the pods themselves: the label hotswitch.io/role, and a note with the generation (S0.3, S0.6, I8).

For people, for selectors of others, and for the day when the Lease is gone: the notes tell whom the last election had
chosen, and in which generation. They are written after the fact and decide nothing, so they wait for what a failover
waits for and what goes to the same API server: the election, the review of a keeper's token, the slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from hotswitch.api.service import ROLE_LABEL, ROLE_NOTE
from hotswitch.backends import Backend, BackendId, Published, Role, ServiceId, ServiceMode
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.patch import patch_pod_status, status_patch
from hotswitch.cluster.pods import Pod
from hotswitch.decide.endpoints.active_standby import Election
from hotswitch.model import Generation, PodUid

LATER_S = 1.0  # at most, for a successor, and for its slice
log = logging.getLogger("hotswitch.endpoints.labels")


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    service: str
    role: str
    generation: int = 0


class RoleLabels:
    """`pod(service, name)`: as it was seen last, None: it is not there. `written`: until its slices are. `home`: the
    cluster whose pods are written."""

    def __init__(
        self, cluster: Cluster, pod: Callable[[ServiceId, str], Pod | None],
        written: Callable[[ServiceId], Awaitable[None]], home: str = "",
    ) -> None:  # fmt: skip
        self._cluster, self._pod, self._written, self._home = cluster, pod, written, home
        self._wanted: dict[ServiceId, Published] = {}
        self._tasks: dict[ServiceId, asyncio.Task[None]] = {}
        self._wakes: dict[ServiceId, asyncio.Event] = {}

    def publish(self, published: Published) -> None:
        service = published.service.id
        if published.service.mode is not ServiceMode.ACTIVE_STANDBY:
            return
        self._wanted[service] = published
        wake = self._wakes.setdefault(service, asyncio.Event())
        wake.set()
        if service not in self._tasks:
            self._tasks[service] = asyncio.get_running_loop().create_task(self._run(service, wake))

    def withdraw(self, service: ServiceId) -> None:
        """What stands on the pods is left: it tells of the last election."""
        task = self._tasks.pop(service, None)
        if task is not None:
            task.cancel()
        self._wanted.pop(service, None)
        self._wakes.pop(service, None)

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for service in list(self._tasks):
            self.withdraw(service)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, service: ServiceId, wake: asyncio.Event) -> None:
        backoff = Backoff(longest_s=5.0)
        while True:
            await wake.wait()
            await self._urgent(service, wake)
            wake.clear()
            try:
                for backend in _active_first(self._wanted[service]):
                    await self._label(service, backend, self._wanted[service].generation)
                backoff.reset()
            except Exception as failure:
                log.warning("labels of %s: %s", service, failure, exc_info=not isinstance(failure, ApiFailure))
                await asyncio.sleep(backoff.next_s())
                wake.set()

    async def _urgent(self, service: ServiceId, wake: asyncio.Event) -> None:
        """Let it go first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATER_S):
                while all(each.backend.role is not Role.ACTIVE for each in self._wanted[service].endpoints):
                    wake.clear()
                    await wake.wait()
                await self._written(service)

    async def _label(self, service: ServiceId, backend: Backend, generation: Generation) -> None:
        pod = self._pod(service, backend.pod.name) if backend.locality.cluster == self._home else None
        if pod is None or pod.uid != backend.pod.uid:
            return
        note = msgspec.json.encode(Note(service.name, str(backend.role), generation)).decode()
        if pod.labels.get(ROLE_LABEL) == backend.role and pod.annotations.get(ROLE_NOTE) == note:
            return
        patch = status_patch(
            uid=pod.uid, resource_version="", labels={ROLE_LABEL: str(backend.role)}, annotations={ROLE_NOTE: note}
        )
        try:
            await patch_pod_status(self._cluster, *pod.key, patch)
        except ApiFailure as failure:
            if not (failure.is_missing or failure.is_conflict):  # else it is gone, or another one
                raise


def _active_first(published: Published) -> Iterable[Backend]:
    """A standby's note keeps the generation in which it was said; it is rewritten with each, so a pod that missed one
    shows an older number."""
    return [each.backend for each in published.endpoints]


def recalled(service: ServiceId, pods: Iterable[Pod], ttl_s: float | None, cluster: str = "") -> Election:
    """The last election, as far as the notes tell, when its Lease is gone: who was active has to be fenced first."""
    notes = [(note, pod) for pod in pods if (note := _note(pod, service)) is not None]
    newest = max((note.generation for note, _ in notes), default=0)
    active = [pod for note, pod in notes if note.generation == newest and note.role == Role.ACTIVE]
    if not active:
        return Election(generation=Generation(newest))
    return Election(
        generation=Generation(newest),
        fencing=BackendId(cluster, PodUid(active[0].uid)),
        ttl_s=ttl_s,
        why="the election's Lease was gone",
    )


def _note(pod: Pod, service: ServiceId) -> Note | None:
    text = pod.annotations.get(ROLE_NOTE)
    try:
        note = None if text is None else msgspec.json.decode(text, type=Note)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
    return note if note is not None and note.service == service.name else None
