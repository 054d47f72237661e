"""Long-lived processes of a sandbox: born inside a namespace and cgroup, ended with their parent, awaited by pidfd.

They start as root, import what they need, then `become` their user: the interpreter or the virtual environment may
lie where uid 1337 may not look (/root). Started on the loop's own thread only, since PR_SET_PDEATHSIG watches threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

import hotswitch
from hotswitch.kernel.netns import inside
from hotswitch.sandbox.estate import Estate, ProcessId

PR_SET_PDEATHSIG = 1
HOME = str(Path(hotswitch.__file__).parents[1])  # where this very package is

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the thread that started us ends. Changing the user id undoes this."""
    if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def become(uid: int, gid: int, parent: int) -> None:
    """Drop root for `uid`:`gid` without other groups and die with `parent`; ends at once if that is gone already."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    die_with_parent()
    if os.getppid() != parent:
        raise SystemExit(0)


def module_argv(module: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"hotswitch.sandbox.{module}", *args)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment in which `python -m hotswitch...` finds this very package."""
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": HOME, "LC_ALL": "C.UTF-8", **(extra or {})}


class Process:
    """One child. `exited` may be awaited by many; `returncode` is negative for a signal, as with subprocess."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self.pid = child.pid
        self.ident = ProcessId.of(child.pid)
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(child.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        code = self._child.wait()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self._exit.done():
            self._exit.set_result(code)

    @property
    def output(self) -> IO[bytes]:
        """The child's standard output; only if it was started with a pipe. The caller closes it."""
        assert self._child.stdout is not None
        return self._child.stdout

    @property
    def returncode(self) -> int | None:
        return self._exit.result() if self._exit.done() else None

    @property
    def running(self) -> bool:
        return not self._exit.done()

    async def exited(self) -> int:
        return await asyncio.shield(self._exit)

    def signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, patience_s: float = 0.0) -> int:
        """SIGTERM and `patience_s` of time to leave (0: none), then SIGKILL; the exit code."""
        if patience_s > 0:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(self.exited(), patience_s)
        self.signal(signal.SIGKILL)
        return await self.exited()


def start(
    estate: Estate,
    argv: Sequence[str],
    *,
    log: Path,
    netns: str | Path | None = None,
    cgroups: Iterable[Path] = (),
    cwd: Path | None = None,
    pipe: bool = False,
) -> Process:
    """Start `argv` in the namespace and cgroups given; output goes to `log` (stdout to a pipe if `pipe`).

    Raises FileNotFoundError when program or namespace do not exist.
    """
    where: AbstractContextManager[None] = nullcontext() if netns is None else inside(netns)
    with log.open("ab") as output, where:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else output,
            stderr=output,
            cwd=cwd,
            env=environment(),
            start_new_session=True,  # ^C at the terminal is for the owner, who then ends us in order
        )
    estate.record(child.pid)
    for cgroup in cgroups:
        with contextlib.suppress(ProcessLookupError):
            (cgroup / "cgroup.procs").write_text(str(child.pid))
    return Process(child)
