"""The rescue Envoy as a process: started or adopted, watched, respawned at once; it outlives the agent (I1, I6).

An open gate needs the rescue alive, and the end of the agent must not change where traffic goes. So nothing ties Envoy
to its parent, and a new agent finds it by the lock that Envoy holds as long as it lives: there is no moment in which an
Envoy runs that nobody could find. Its end is known by a pidfd, the same for a child and for an adopted one.

Where the agent runs in a container the rescue must not be in its process tree (the kernel ends a PID namespace with its
first process): run it beside, or among the node's processes. With systemd: KillMode=process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.rescue.program import RescueProgram

log = logging.getLogger(__name__)

SHORT_LIFE_S = 10.0  # a life shorter than this is followed by a pause that doubles: a crash loop must not spin
PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
PATIENCE_S = 3.0  # between SIGTERM and SIGKILL
LOCK_WRITTEN_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Death:
    """`code` is negative for a signal, as with subprocess; None for an adopted one, whose parent we are not."""

    at_s: float  # monotonic clock
    lived_s: float  # since we started or adopted it
    code: int | None
    last_words: str  # end of its log


class RescueProcess:
    """One Envoy for this machine. `on_death` is called after each death that nobody asked for."""

    def __init__(self, program: RescueProgram, on_death: Callable[[Death], None] | None = None) -> None:
        self._program, self._on_death = program, on_death
        self.pid: int | None = None
        self.deaths: tuple[Death, ...] = ()
        self.outdated = False  # adopted, and started from another program or bootstrap than ours
        self._pidfd: int | None = None
        self._is_child = False
        self._since_s = 0.0
        self._ended = asyncio.Event()
        self._respawn: asyncio.TimerHandle | None = None
        self._stopping = False

    async def start(self) -> bool:
        """Adopt the rescue that runs (True), or start one. The program's directory has been prepared.

        Raises OSError when it cannot be started.
        """
        self._stopping = False
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + LOCK_WRITTEN_WITHIN_S
        while self._program.runs():
            if found := self._program.holder():
                self._watch(*found, is_child=False)
                self.outdated = not self._program.is_as_started()
                return True
            if loop.time() > deadline_s:
                raise RuntimeError(f"{self._program.lock}: held by a process that does not say who it is")
            await asyncio.sleep(0.005)  # its launcher is about to write its pid
        self._spawn()
        return False

    def deaths_within(self, seconds: float) -> int:
        now_s = asyncio.get_running_loop().time()
        return sum(now_s - death.at_s <= seconds for death in self.deaths)

    async def stop(self) -> None:
        """End it: only when no gate leads to it."""
        self._stop_respawning()
        if self._pidfd is None:
            return
        ended = self._ended
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        try:
            await asyncio.wait_for(ended.wait(), PATIENCE_S)
        except TimeoutError:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            await ended.wait()

    def release(self) -> None:
        """Look away: it goes on without us, and is adopted by the next agent."""
        self._stop_respawning()
        self._unwatch()

    def _spawn(self) -> None:
        self._respawn = None
        pid = self._program.spawn()
        self.outdated = False
        self._watch(pid, os.pidfd_open(pid), is_child=True)

    def _watch(self, pid: int, pidfd: int, *, is_child: bool) -> None:
        loop = asyncio.get_running_loop()
        self.pid, self._pidfd, self._is_child, self._since_s = pid, pidfd, is_child, loop.time()
        self._ended = asyncio.Event()
        loop.add_reader(pidfd, self._has_ended)

    def _unwatch(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        self.pid = self._pidfd = None

    def _has_ended(self) -> None:
        code = self._reap()
        self._unwatch()
        self._ended.set()
        if self._stopping:
            return
        now_s = asyncio.get_running_loop().time()
        death = Death(now_s, now_s - self._since_s, code, self._program.last_words())
        self.deaths = (*self.deaths, death)[-100:]
        log.error("rescue Envoy died", extra={"code": code, "lived_s": death.lived_s})
        self._respawn_after(self._pause_s())
        if self._on_death is not None:
            self._on_death(death)

    def _reap(self) -> int | None:
        """A process that ends after our release is reaped by the one who inherits our children."""
        if not self._is_child or self.pid is None:
            return None
        with contextlib.suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return None

    def _pause_s(self) -> float:
        """At once, unless it dies again and again."""
        short = 0
        for death in reversed(self.deaths):
            if death.lived_s > SHORT_LIFE_S:
                break
            short += 1
        return 0.0 if short <= 1 else min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (short - 2))

    def _respawn_after(self, pause_s: float) -> None:
        if pause_s == 0.0:
            self._try_to_spawn()
        else:
            self._respawn = asyncio.get_running_loop().call_later(pause_s, self._try_to_spawn)

    def _try_to_spawn(self) -> None:
        try:
            self._spawn()
        except OSError as error:
            log.error("rescue Envoy cannot be started", extra={"reason": str(error)})
            self._respawn_after(LONGEST_PAUSE_S)

    def _stop_respawning(self) -> None:
        self._stopping = True
        if self._respawn is not None:
            self._respawn.cancel()
            self._respawn = None
