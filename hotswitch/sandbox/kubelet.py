"""A stand-in for the kubelet of one pod: container states, restarts with back-off, probes, and the pod's readiness.

Copied from Kubernetes (facts/kubernetes.md 6g): an exit is noticed at the next relist (about 1 s); the first restart
is at once, then 10 s, 20 s .. 300 s after the exit, forgotten after ten minutes of running; the pod is Ready only
while every container is. `scale` below 1 makes the long times short for a demo; the relist stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hotswitch.sandbox.process import Process

Starter = Callable[[], Process]
Check = Callable[[float], Awaitable[bool]]
"""Asks once, within the seconds given."""


@dataclass(frozen=True, slots=True)
class Timings:
    relist_s: float = 1.0
    backoff_first_s: float = 10.0
    backoff_max_s: float = 300.0
    backoff_reset_s: float = 600.0
    scale: float = 1.0

    def backoff_s(self, crashes: int) -> float:
        """How long after an exit the next start comes; `crashes` counts exits since the last quiet time, from 1."""
        if crashes <= 1:
            return 0.0
        doublings = min(crashes - 2, 16)
        return min(self.backoff_first_s * float(2**doublings), self.backoff_max_s) * self.scale


@dataclass(frozen=True, slots=True)
class KubeletProbe:
    """Defaults are Istio's for istio-proxy's readiness."""

    check: Check
    period_s: float = 15.0
    timeout_s: float = 3.0
    failure_threshold: int = 4


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """`startup`: until it passes, readiness and liveness are not asked. No readiness probe: ready when running."""

    name: str
    start: Starter
    startup: KubeletProbe | None = None
    readiness: KubeletProbe | None = None
    liveness: KubeletProbe | None = None
    message: Callable[[], str] = lambda: ""


@dataclass(frozen=True, slots=True)
class LastState:
    exit_code: int
    finished_s: float
    message: str


@dataclass(slots=True)
class ContainerStatus:
    """What `status.containerStatuses[]` says. Instants are time.monotonic()."""

    running: bool = False
    ready: bool = False
    restart_count: int = 0
    started_s: float = 0.0
    waiting: str = ""  # "CrashLoopBackOff" or ""
    last_state: LastState | None = None


class Container:
    """One container and the task that keeps it running. `changed` is called after every change of its status."""

    def __init__(self, spec: ContainerSpec, timings: Timings, changed: Callable[[], None]) -> None:
        self.spec, self.status = spec, ContainerStatus()
        self._timings, self._changed = timings, changed
        self._crashes = 0
        self._hurry = asyncio.Event()
        self.process: Process | None = None

    async def keep(self) -> None:
        """Start it, and start it again whenever it ends, until cancelled."""
        while True:
            self.process = self.spec.start()
            self._note(running=True, ready=self.spec.readiness is None and self.spec.startup is None)
            probing = asyncio.create_task(self._probe())
            try:
                code = await self.process.exited()
            finally:
                probing.cancel()
            await self._restart_due(code)

    async def _restart_due(self, code: int) -> None:
        finished = time.monotonic()
        await asyncio.sleep(self._timings.relist_s - finished % self._timings.relist_s)
        if finished - self.status.started_s > self._timings.backoff_reset_s * self._timings.scale:
            self._crashes = 0
        self._crashes += 1
        self.status.last_state = LastState(code, finished, self.spec.message())
        wait_s = self._timings.backoff_s(self._crashes) - (time.monotonic() - finished)
        self._note(running=False, ready=False, waiting="CrashLoopBackOff" if wait_s > 0 else "")
        if wait_s > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), wait_s)
        self._hurry.clear()
        self.status.restart_count += 1

    def hurry(self) -> None:
        """Forget the back-off: the next restart comes without waiting."""
        self._crashes = 0
        self._hurry.set()

    def _note(self, *, running: bool, ready: bool, waiting: str = "") -> None:
        if running and not self.status.running:
            self.status.started_s = time.monotonic()
        self.status.running, self.status.ready, self.status.waiting = running, ready, waiting
        self._changed()

    # ---- probes ----

    async def _probe(self) -> None:
        if self.spec.startup is not None:
            await self._until_passed(self.spec.startup)
        if self.spec.readiness is None:
            self._note(running=True, ready=True)
        await asyncio.gather(self._watch_readiness(), self._watch_liveness())

    async def _until_passed(self, probe: KubeletProbe) -> None:
        while not await self._asked(probe):
            await asyncio.sleep(probe.period_s)

    async def _asked(self, probe: KubeletProbe) -> bool:
        try:
            async with asyncio.timeout(probe.timeout_s):
                return await probe.check(probe.timeout_s)
        except OSError:  # TimeoutError is one
            return False

    async def _watch_readiness(self) -> None:
        if (probe := self.spec.readiness) is None:
            return
        failures = 0
        while True:
            passed = await self._asked(probe)
            failures = 0 if passed else failures + 1
            if passed != self.status.ready and (passed or failures >= probe.failure_threshold):
                self._note(running=True, ready=passed)
            await asyncio.sleep(probe.period_s)

    async def _watch_liveness(self) -> None:
        if (probe := self.spec.liveness) is None:
            return
        failures = 0
        while failures < probe.failure_threshold:
            await asyncio.sleep(probe.period_s)
            failures = 0 if await self._asked(probe) else failures + 1
        assert self.process is not None
        await self.process.stop(patience_s=30.0 * self._timings.scale)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    condition: Callable[[], bool]
    met: asyncio.Future[None]


@dataclass(slots=True)
class Kubelet:
    """The containers of one pod. `on_change` is told about every change of a container's status or of readiness."""

    timings: Timings = Timings()
    containers: dict[str, Container] = field(default_factory=dict)
    on_change: list[Callable[[], None]] = field(default_factory=list)
    terminating: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _waiters: list[_Waiter] = field(default_factory=list)

    def add(self, spec: ContainerSpec) -> Container:
        container = self.containers[spec.name] = Container(spec, self.timings, self.announce)
        task = asyncio.create_task(container.keep())
        task.add_done_callback(self._failed)
        self._tasks.append(task)
        return container

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
        for task in self._tasks:
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
        """As a deleted pod ends: SIGTERM to every container at once, SIGKILL after the grace, no restarts."""
        self.terminating = True
        self._cancel()
        self.announce()
        processes = [each.process for each in self.containers.values() if each.process is not None]
        await asyncio.gather(*(process.stop(grace_s) for process in processes))
        for container in self.containers.values():
            container.status.running = container.status.ready = False
        self.announce()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End everything now; nothing is restarted."""
        self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(each.process.stop() for each in self.containers.values() if each.process))
