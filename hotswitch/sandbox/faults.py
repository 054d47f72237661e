"""What can go wrong with a sidecar, made to go wrong for real: each fault is one method, with its undo.

    fault = await pod.faults.hang()
    ...
    await fault.undo()          # or: async with await pod.faults.hang(): ...

`at_s` is time.monotonic() just before the deed. Undo makes the sidecar well again, without the kubelet's back-off; it
may be called more than once. A fault that this machine cannot have raises FaultUnavailable before anything is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hotswitch.sandbox.estate import ProcessId
from hotswitch.sandbox.lds import Lds
from hotswitch.sandbox.process import Process, module_argv, start
from hotswitch.sandbox.recovery import POLL_S, FaultUnavailable, Recovery, until
from hotswitch.sandbox.squeeze import Squeeze

if TYPE_CHECKING:
    from hotswitch.sandbox.pod import Pod

__all__ = ["CORE_PATTERN", "Fault", "FaultUnavailable", "Faults"]

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
EXPIRED_SINCE_S = 60.0
BURN = "while True: pass"


@dataclass(slots=True)
class Fault:
    """A fault under way."""

    name: str
    at_s: float
    _undo: Callable[[], Awaitable[None]]
    _undone: bool = False

    async def undo(self) -> None:
        if not self._undone:
            self._undone = True
            await self._undo()

    async def __aenter__(self) -> Fault:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.undo()


class Faults:
    """The faults of one pod's sidecar (and, for comparison, of its app)."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._sidecar = Recovery(pod)
        self._lds = Lds(pod)

    # ---- death ----

    async def kill(self, number: int = signal.SIGKILL) -> Fault:
        """Envoy is killed; pilot-agent leaves with it (exit code 0), and the kubelet restarts the container."""
        return self._death("kill", number)

    def _death(self, name: str, number: int) -> Fault:
        process = ProcessId.of(self._sidecar.envoy())
        at_s = self._sidecar.signal(number)

        async def undo() -> None:
            await until(lambda: not process.alive, "Envoy did not end")
            await self._sidecar.recover()

        return Fault(name, at_s, undo)

    async def crash_loop(self, lives_s: float = 0.0) -> Fault:
        """Envoy is killed, and again `lives_s` after every restart: the kubelet's back-off grows."""
        first = self._death("crash-loop", signal.SIGKILL)
        killer = asyncio.create_task(self._kill_every_next(lives_s))

        async def undo() -> None:
            killer.cancel()
            await asyncio.gather(killer, return_exceptions=True)
            await first.undo()

        return Fault(first.name, first.at_s, undo)

    async def _kill_every_next(self, lives_s: float) -> None:
        killed = None
        while True:
            pid = self._pod.envoy_pid
            if pid is not None and pid != killed:
                await asyncio.sleep(lives_s)
                killed = pid
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(POLL_S)

    async def dump_core(self) -> Fault:
        """Envoy ends by SIGSEGV with a large core in its own directory: its sockets stay open while it dumps.

        Raises FaultUnavailable where cores go elsewhere (kernel.core_pattern is left as it is).
        """
        pattern = CORE_PATTERN.read_text().strip()
        if pattern.startswith(("|", "/")):
            raise FaultUnavailable(f"kernel.core_pattern is {pattern!r}: cores do not go to the process's directory")
        await self._pod.tell_pilot("/allow-cores")  # raises ControlRefused where the hard limit is 0
        death = self._death("core-dump", signal.SIGSEGV)

        async def undo() -> None:
            await death.undo()
            for core in self.cores():
                core.unlink()

        return Fault(death.name, death.at_s, undo)

    def cores(self) -> list[Path]:
        return sorted(self._pod.proxy_directory.glob("core*"))

    async def exhaust_memory(self) -> Fault:
        """The kernel's OOM killer ends Envoy: its cgroup is full, because a second process in it wants more."""
        squeeze = self._squeeze()
        pid = self._sidecar.envoy()
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")  # whom the kernel is to choose
        headroom, process = squeeze.limit_memory(), ProcessId.of(pid)
        argv = module_argv("hog", str(2 * headroom))
        hog = start(self._pod.estate, argv, log=self._pod.directory / "hog.log", cgroups=squeeze.cgroups)

        async def undo() -> None:
            await hog.stop()
            squeeze.free_memory()
            await self._sidecar.recover()

        try:
            alive_s = await until(lambda: not process.alive, "the kernel did not kill Envoy")
        except TimeoutError:
            await undo()
            raise
        return Fault("oom", alive_s, undo)

    # ---- alive and not well ----

    async def hang(self) -> Fault:
        """Every thread of Envoy is stopped (SIGSTOP): the kernel goes on accepting connections for it."""
        at_s = self._sidecar.signal(signal.SIGSTOP)

        async def undo() -> None:
            if self._pod.envoy_pid is not None:
                self._sidecar.signal(signal.SIGCONT)

        return Fault("hang", at_s, undo)

    async def stick_worker(self, worker: str = "wrk:worker_1") -> Fault:
        """One of Envoy's two workers stands still (stopped by ptrace), with its share of the connections."""
        pid = self._sidecar.envoy()
        thread = next((each.name for each in _threads(pid) if (each / "comm").read_text().strip() == worker), None)
        if thread is None:
            raise FaultUnavailable(f"worker: Envoy has no thread {worker!r}")
        log = self._pod.directory / "hold.log"
        holder = start(self._pod.estate, module_argv("hold", thread), log=log, pipe=True)
        with holder.output as said:
            word, _, at_ns = (await asyncio.to_thread(said.readline)).partition(b" ")
        if word != b"held":
            raise FaultUnavailable(f"worker: {log.read_text().strip()}")
        return Fault("stuck-worker", int(at_ns) / 1e9, lambda: _stop(holder))

    async def throttle(self, cpus: float = 0.05) -> Fault:
        """The container gets a CPU quota (0.05: "50m"): slow, and not the proxy's own fault."""
        squeeze = self._squeeze()
        at_s = time.monotonic()
        squeeze.limit_cpu(cpus)

        async def undo() -> None:
            squeeze.free_cpu()

        return Fault("throttled", at_s, undo)

    async def starve(self) -> Fault:
        """Envoy may use one CPU alone, and a program of real-time priority goes first there: runnable, and it hardly
        ever runs. No quota and no counter of its cgroup says so."""
        cpu = max(os.sched_getaffinity(0))
        at_s = time.monotonic()
        _pin(self._sidecar.envoy(), {cpu})
        hog = start(self._pod.estate, (sys.executable, "-c", BURN), log=self._pod.directory / "hog.log")
        os.sched_setaffinity(hog.pid, {cpu})
        os.sched_setscheduler(hog.pid, os.SCHED_FIFO, os.sched_param(1))

        async def undo() -> None:
            await _stop(hog)
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                _pin(self._sidecar.envoy(), os.sched_getaffinity(0))

        return Fault("starved", at_s, undo)

    async def say_unready(self) -> Fault:
        """pilot-agent says 503, and so does 15021; traffic goes on."""
        at_s = time.monotonic()
        await self._pod.tell_pilot("/unready")
        return Fault("unready", at_s, lambda: self._pod.tell_pilot("/ready"))

    async def break_listener(self) -> Fault:
        """An LDS update after which 15006 does not find the app any more (503), while 15021 says 200."""
        at_s = time.monotonic()
        await self._lds.publish(cluster="BlackHoleCluster")
        return Fault("bad-listener", at_s, lambda: self._lds.publish())

    async def reject_configuration(self) -> Fault:
        """The control plane sends a listener that Envoy cannot take: it says so, and serves on as before (S4.2c)."""
        at_s = time.monotonic()
        await self._lds.reject()
        return Fault("rejected-configuration", at_s, lambda: self._lds.publish())

    async def drain(self, *, inbound_only: bool = True, graceful: bool = False) -> Fault:
        """A drain over admin: inbound only, or every listener, 15021 too. `graceful`, as pilot-agent asks for when it
        terminates, leaves the listeners open for the drain time (45 s)."""
        at_s = time.monotonic()
        options = [name for name, wanted in (("inboundonly", inbound_only), ("graceful", graceful)) if wanted]
        await self._pod.admin(f"/drain_listeners{'?' if options else ''}{'&'.join(options)}", "POST")
        return Fault("drain", at_s, self._sidecar.replace)

    async def restart_without_lds(self) -> Fault:
        """Envoy was killed and is back while istiod cannot be reached: never configured, 15021 says 503."""
        self._pod.sidecar.withhold()
        at_s, process = time.monotonic(), self._pod.proxy.process
        await self._sidecar.kill()
        self._pod.proxy.hurry()
        await self._pod.kubelet.until(lambda: self._pod.proxy.process is not process)
        await self._sidecar.until_health_answers()

        async def undo() -> None:
            await self._lds.publish(wait=False)
            await self._pod.ready()

        return Fault("without-lds", at_s, undo)

    async def expire_certificate(self) -> Fault:
        """The identity that Envoy presents has ended: mTLS fails, plaintext and 15021 are as before (S4.2c)."""
        at_s = time.monotonic()
        await self._rotate(-EXPIRED_SINCE_S)
        return Fault("certificate-expired", at_s, lambda: self._rotate(self._pod.spec.lifetime_s))

    # ---- the app's own ----

    async def sicken_app(self, kind: str = "silent") -> Fault:
        """The app, not the proxy: "silent" never answers, "error" says 500, "exit" leaves, and again once it was
        restarted, so that the next restart has to wait for the kubelet's back-off."""
        app, process = self._pod.app, self._pod.app.process
        if kind == "exit":
            await self._pod.tell_app("/sick?kind=exit")
            await self._pod.kubelet.until(lambda: app.process is not process and app.status.ready)
            process = app.process
        at_s = time.monotonic()
        await self._pod.tell_app(f"/sick?kind={kind}")

        async def undo() -> None:
            if kind != "exit":
                return await self._pod.tell_app("/well")
            app.hurry()
            await self._pod.kubelet.until(lambda: app.process is not process and app.status.ready)

        return Fault(f"app-{kind}", at_s, undo)

    # ---- small steps ----

    def _squeeze(self) -> Squeeze:
        if not self._pod.proxy_cgroups:
            raise FaultUnavailable("cgroups: none can be made on this machine")
        return Squeeze(self._pod.proxy_cgroups)

    async def _rotate(self, lifetime_s: float) -> None:
        self._pod.identify(lifetime_s)
        await self._pod.tell_pilot("/rotate")


def _threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _pin(pid: int, cpus: set[int]) -> None:
    for thread in _threads(pid):
        os.sched_setaffinity(int(thread.name), cpus)


async def _stop(process: Process) -> None:
    await process.stop(patience_s=1.0)
