"""One container as the kubelet keeps it: started, probed, started again with back-off, or not.

Copied from Kubernetes (facts/kubernetes.md 6g): an exit is noticed at the next relist (about 1 s); the first restart
is at once, then 10 s, 20 s .. 300 s after the exit, forgotten after ten minutes of running. `scale` below 1 makes the
long times short for a demo; the relist stays as it is. Whether an exit leads to a restart is the restart policy's:
the pod's for ordinary containers, Always for native sidecars (6h).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from hotswitch.sandbox.process import Process

Starter = Callable[[], Process]
Check = Callable[[float], Awaitable[bool]]
"""Asks once, within the seconds given."""


class Restart(StrEnum):
    """restartPolicy."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"

    def after(self, code: int) -> bool:
        """Whether a container that ended with `code` is started again."""
        return self is Restart.ALWAYS or (self is Restart.ON_FAILURE and code != 0)


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
    """`startup`: until it passes, readiness and liveness are not asked. No readiness probe: ready when running.
    `sidecar`: a native one, which goes on until the others have ended, and is ended then."""

    name: str
    start: Starter
    startup: KubeletProbe | None = None
    readiness: KubeletProbe | None = None
    liveness: KubeletProbe | None = None
    message: Callable[[], str] = lambda: ""
    restart: Restart = Restart.ALWAYS
    sidecar: bool = False


@dataclass(frozen=True, slots=True)
class LastState:
    """How a container ended. `exit_code`: negative for a signal. Instants are time.monotonic()."""

    exit_code: int
    finished_s: float
    message: str
    started_s: float = 0.0


@dataclass(slots=True)
class ContainerStatus:
    """What `status.containerStatuses[]` says. Instants are time.monotonic()."""

    running: bool = False
    started: bool = False  # its startup probe has passed
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
        """Start it, and start it again whenever it ends, until cancelled or its restart policy says no."""
        while True:
            self.process = self.spec.start()
            self.status.started = self.spec.startup is None
            self._note(running=True, ready=self.spec.readiness is None and self.spec.startup is None)
            probing = asyncio.create_task(self._probe())
            try:
                code = await self.process.exited()
            finally:
                probing.cancel()
            if not await self._restart_due(code):
                return

    async def _restart_due(self, code: int) -> bool:
        """The end is noticed, and the back-off waited for. False: it stays ended."""
        finished = time.monotonic()
        await asyncio.sleep(self._timings.relist_s - finished % self._timings.relist_s)
        if finished - self.status.started_s > self._timings.backoff_reset_s * self._timings.scale:
            self._crashes = 0
        self._crashes += 1
        self.end(code, finished)
        if not self.spec.restart.after(code):
            self._note(running=False, ready=False)
            return False
        wait_s = self._timings.backoff_s(self._crashes) - (time.monotonic() - finished)
        self._note(running=False, ready=False, waiting="CrashLoopBackOff" if wait_s > 0 else "")
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurry.wait()
        self._hurry.clear()
        self.status.restart_count += 1
        return True

    def end(self, code: int, finished_s: float) -> None:
        """Write down how it ended."""
        self.status.started = False
        self.status.last_state = LastState(code, finished_s, self.spec.message(), self.status.started_s)

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
            self.status.started = True
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
