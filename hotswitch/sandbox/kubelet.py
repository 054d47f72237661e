"""A stand-in for the kubelet of one pod: its containers, the pod's readiness, and how a pod ends.

The pod is Ready only while every container is. Native sidecars (facts/kubernetes.md 6h) outlive the other containers:
they are ended after these, whether a Job is done or the pod is deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hotswitch.sandbox.container import (
    Check,
    Container,
    ContainerSpec,
    ContainerStatus,
    KubeletProbe,
    LastState,
    Restart,
    Timings,
)

__all__ = [
    "Check",
    "Container",
    "ContainerSpec",
    "ContainerStatus",
    "Kubelet",
    "KubeletProbe",
    "LastState",
    "Restart",
    "Timings",
]

LAST_GRACE_S = 2.0  # what a sidecar gets, however little the others have left of the pod's grace


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    condition: Callable[[], bool]
    met: asyncio.Future[None]


@dataclass(slots=True)
class Kubelet:
    """The containers of one pod. `on_change` is told about every change of a container's status or of readiness."""

    timings: Timings = field(default_factory=Timings)
    containers: dict[str, Container] = field(default_factory=dict)
    on_change: list[Callable[[], None]] = field(default_factory=list)
    terminating: bool = False
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _waiters: list[_Waiter] = field(default_factory=list)

    def add(self, spec: ContainerSpec) -> Container:
        container = self.containers[spec.name] = Container(spec, self.timings, self.announce)
        task = asyncio.create_task(self._keep(container))
        task.add_done_callback(self._failed)
        self._tasks[spec.name] = task
        return container

    async def _keep(self, container: Container) -> None:
        await container.keep()
        if not self.ordinary_running:
            await self._end(each for each in self.containers.values() if each.spec.sidecar)

    @property
    def ordinary_running(self) -> bool:
        """Will any container that is no native sidecar run on, or again?"""
        return any(not self._done(each) for each in self.containers.values() if not each.spec.sidecar)

    def _done(self, container: Container) -> bool:
        status = container.status
        last = status.last_state
        return last is not None and not status.running and not container.spec.restart.after(last.exit_code)

    def announce(self) -> None:
        """Something about the pod has changed."""
        self._waiters = [waiter for waiter in self._waiters if not waiter.met.done()]
        for waiter in self._waiters:
            if waiter.condition():
                waiter.met.set_result(None)
        for callback in self.on_change:
            callback()

    @property
    def ready(self) -> bool:
        """The pod's condition Ready."""
        return bool(self.containers) and all(each.status.ready for each in self.containers.values())

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait until `condition` holds, or held for a moment: it is looked at with every change. Raises TimeoutError,
        and what a container's task died of."""
        if condition():
            return
        waiter = _Waiter(condition, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        for task in self._tasks.values():
            self._failed(task)
        async with asyncio.timeout(timeout_s):
            await waiter.met

    def _failed(self, task: asyncio.Task[None]) -> None:
        """A container that cannot be kept is an error of the sandbox: whoever waits is told."""
        if not task.done() or task.cancelled() or (failure := task.exception()) is None:
            return
        for waiter in self._waiters:
            if not waiter.met.done():
                waiter.met.set_exception(failure)

    async def terminate(self, grace_s: float = 30.0) -> None:
        """As a deleted pod ends: SIGTERM to its containers, native sidecars last; SIGKILL after the grace."""
        self.terminating = True
        self._cancel()
        self.announce()
        until_s = time.monotonic() + grace_s
        least_s = min(LAST_GRACE_S, grace_s)
        for sidecars in (False, True):
            every = [each for each in self.containers.values() if each.spec.sidecar is sidecars]
            await self._end(every, max(least_s, until_s - time.monotonic()))

    async def _end(self, containers: Iterable[Container], grace_s: float = 30.0) -> None:
        await asyncio.gather(*(self._end_one(each, grace_s) for each in containers))

    async def _end_one(self, container: Container, grace_s: float) -> None:
        self._tasks[container.spec.name].cancel()  # nobody starts it again
        if container.process is None:
            return
        lived = container.status.running
        code = await container.process.stop(grace_s)
        if lived:
            container.end(code, time.monotonic())
        container.status.running = container.status.ready = False
        container.status.waiting = ""
        self.announce()

    def _cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def stop(self) -> None:
        """End everything now; nothing is restarted."""
        self._cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(each.process.stop() for each in self.containers.values() if each.process))
