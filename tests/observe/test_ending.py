"""Envoy's threads go before its sockets do (S4.2a)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.process import hold_threads
from hotswitch.observe.ending import Ending
from tests.threads import KERNEL_TELLS

pytestmark = pytest.mark.unit

PATIENCE_S = 30


@pytest.fixture(autouse=True)
def no_tracepoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for most agents in pods, which have no right to hear of them."""

    def refuse(process: str, prefix: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("hotswitch.observe.ends.ThreadEnds", refuse)


ENVOY = """
import ctypes, sys, threading
ctypes.CDLL(None).prctl(15, b"envoy", 0, 0, 0)
ends = [threading.Event() for _ in range(3)]
for end in ends:
    threading.Thread(target=end.wait, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    ends[int(line)].set()
    print("set", flush=True)
"""


@contextmanager
def envoy() -> Iterator[subprocess.Popen[str]]:
    """A process of that name with three more threads; a number on its standard input ends one of them."""
    with subprocess.Popen((sys.executable, "-c", ENVOY), stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield process
        finally:
            process.kill()


def container(directory: Path, *processes: subprocess.Popen[str]) -> Container:
    (directory / "cgroup.procs").write_text("".join(f"{process.pid}\n" for process in processes))
    return Container([directory])


class Watched:
    def __init__(self, seen: Container) -> None:
        self.doomed = asyncio.Event()
        self.container, self.ending = seen, Ending(seen, self.doomed.set)
        self.look()

    def look(self) -> None:
        self.ending.follow(self.container.processes())

    async def told(self, killed: subprocess.Popen[str]) -> None:
        """Or, on a kernel that cannot tell, not told even once it is gone."""
        if not KERNEL_TELLS:
            await self.not_told(killed)
            return
        async with asyncio.timeout(PATIENCE_S):
            await self.doomed.wait()
        assert self.ending.since_s is not None

    async def not_told(self, killed: subprocess.Popen[str]) -> None:
        await asyncio.to_thread(killed.wait)
        await asyncio.sleep(0)
        assert self.ending.since_s is None and not self.doomed.is_set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed(tmp_path: Path, number: signal.Signals) -> None:
    async def scenario() -> None:
        with envoy() as process:
            watched = Watched(container(tmp_path, process))
            assert watched.ending.since_s is None
            process.send_signal(number)
            await watched.told(process)
            watched.ending.close()

    asyncio.run(scenario())


def test_killed_and_gets_no_cpu(tmp_path: Path) -> None:
    """Not a thread of it can end: the next look sees that it is to be killed, and it is told once."""

    async def scenario() -> None:
        with envoy() as process:
            watched = Watched(container(tmp_path, process))
            [alive] = watched.container.processes()
            for _ in range(2):
                watched.ending.follow([replace(alive, doomed=True)])
                since_s = watched.ending.since_s
                await asyncio.wait_for(watched.doomed.wait(), PATIENCE_S)
            assert since_s is not None and since_s == watched.ending.since_s
            watched.ending.close()

    asyncio.run(scenario())


@pytest.mark.skipif(not KERNEL_TELLS, reason="the kernel does not tell of single threads (Linux 6.9)")
def test_a_thread_ends_in_a_container_that_has_taken_the_place_of_another(tmp_path: Path) -> None:
    """The cgroup of the container before is gone, and shows nobody."""

    async def scenario() -> None:
        with envoy() as process:
            watched = Watched(container(tmp_path, process))
            assert process.stdin is not None and process.stdout is not None
            (tmp_path / "cgroup.procs").unlink()
            process.stdin.write("0\n")
            process.stdin.flush()
            process.stdout.readline()
            await _one_thread_less(process.pid, 3)
            await asyncio.sleep(0)
            assert watched.ending.since_s is None and not watched.doomed.is_set()
            watched.ending.close()

    asyncio.run(scenario())


def test_a_thread_ends_alone_and_then_the_process_is_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        with envoy() as process:
            watched = Watched(container(tmp_path, process))
            assert process.stdin is not None and process.stdout is not None
            for thread in range(2):
                process.stdin.write(f"{thread}\n")
                process.stdin.flush()
                process.stdout.readline()
                await _one_thread_less(process.pid, 3 - thread)
            await asyncio.sleep(0)
            assert watched.ending.since_s is None and not watched.doomed.is_set()
            process.kill()
            await watched.told(process)
            watched.ending.close()

    asyncio.run(scenario())


async def _one_thread_less(pid: int, left: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(os.listdir(f"/proc/{pid}/task")) > left:
            await asyncio.sleep(0.01)


def test_another_has_taken_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        with envoy() as process:
            watched = Watched(container(tmp_path, process))
            process.kill()
            await watched.told(process)
        with envoy() as successor:
            container(tmp_path, successor)
            watched.look()
            assert watched.ending.since_s is None
            watched.doomed.clear()
            successor.kill()
            await watched.told(successor)
            watched.ending.close()

    asyncio.run(scenario())


def test_two_are_called_envoy(tmp_path: Path) -> None:
    """Whose end is whose cannot be told, also where the second came unseen: the held connection has to tell."""

    async def scenario() -> None:
        with envoy() as first, envoy() as second:
            watched = Watched(container(tmp_path, first))
            container(tmp_path, first, second)
            first.kill()
            await watched.not_told(first)
            watched.look()
            second.kill()
            await watched.told(second)
            watched.ending.close()

    asyncio.run(scenario())


def test_kernel_has_no_descriptors_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert hold_threads(os.getpid(), 2, "") == []

    async def scenario() -> None:
        with envoy() as process:
            watched = Watched(container(tmp_path, process))
            process.kill()
            await watched.not_told(process)
            watched.ending.close()

    asyncio.run(scenario())
