"""An Envoy in another pid namespace: the kernel tells of its worker threads by numbers alone (S4.2a)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.process import threads
from hotswitch.kernel.thread_ends import ThreadEnds
from hotswitch.observe import ending, ends
from hotswitch.observe.ending import Ending
from hotswitch.observe.ends import ends_of

pytestmark = pytest.mark.netns

PATIENCE_S = 30
FREEZER = Path("/sys/fs/cgroup/freezer")
ENVOY = """
import ctypes, os, sys, threading
name = ctypes.CDLL(None).prctl
name(15, b"envoy", 0, 0, 0)
ends = [threading.Event() for _ in range(3)]
def work(number):
    name(15, b"wrk:worker_%d" % number, 0, 0, 0)
    os.write(1, b"%d\\n" % number)
    ends[number].wait()
for number in range(3):
    threading.Thread(target=work, args=(number,), daemon=True).start()
for line in sys.stdin:
    ends[int(line)].set()
"""


@contextmanager
def envoy() -> Iterator[subprocess.Popen[str]]:
    """A process of that name with three workers; a number on its standard input ends one of them."""
    with subprocess.Popen((sys.executable, "-c", ENVOY), stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(3)) == ["0\n", "1\n", "2\n"]
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What watches this process as though no descriptor of its threads could be had."""
    monkeypatch.setattr(ending, "hold_threads", lambda *_: [])
    made: list[Ending] = []

    def watch(*processes: subprocess.Popen[str]) -> tuple[Ending, asyncio.Event]:
        cgroup = tmp_path / str(len(made))
        cgroup.mkdir()
        (cgroup / "cgroup.procs").write_text("".join(f"{each.pid}\n" for each in processes))
        container, doomed = Container([cgroup]), asyncio.Event()
        made.append(Ending(container, doomed.set))
        made[-1].follow(container.processes())
        return made[-1], doomed

    yield watch
    assert not any(perf_descriptors()), "closed with the last who needs it"


def perf_descriptors() -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [each for each in found if "perf_event" in each]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_it_is_killed(watched, number: signal.Signals) -> None:
    async def scenario() -> None:
        with envoy() as process:
            followed, doomed = watched(process)
            assert followed.since_s is None and perf_descriptors()
            process.send_signal(number)
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            assert followed.since_s is not None
            followed.close()

    asyncio.run(scenario())


def test_it_is_killed_and_its_threads_can_be_held(tmp_path: Path) -> None:
    """As by the standalone agent: whoever tells first."""

    async def scenario() -> None:
        with envoy() as process:
            (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
            container, doomed = Container([tmp_path]), asyncio.Event()
            followed = Ending(container, doomed.set)
            followed.follow(container.processes())
            assert perf_descriptors()
            process.kill()
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            followed.close()

    asyncio.run(scenario())


def test_one_of_two_is_killed(watched) -> None:
    async def scenario() -> None:
        with envoy() as one, envoy() as other:
            first, first_doomed = watched(one)
            second, second_doomed = watched(other)
            one.kill()
            await asyncio.wait_for(first_doomed.wait(), PATIENCE_S)
            assert not second_doomed.is_set()
            first.close()
            other.kill()
            await asyncio.wait_for(second_doomed.wait(), PATIENCE_S)
            second.close()

    asyncio.run(scenario())


def test_a_worker_ends_alone_and_then_the_process_is_killed(watched) -> None:
    async def scenario() -> None:
        with envoy() as process:
            followed, doomed = watched(process)
            assert process.stdin is not None
            process.stdin.write("0\n")
            process.stdin.flush()
            async with asyncio.timeout(PATIENCE_S):
                while len(threads(process.pid, "wrk:worker_")) > 2 or len(followed._awaited) != 3:
                    await asyncio.sleep(0.01)
            assert not doomed.is_set()
            process.kill()
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            followed.close()

    asyncio.run(scenario())


def test_it_had_no_workers_yet_when_it_was_first_seen(watched, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        with envoy() as process:
            with monkeypatch.context() as early:
                early.setattr(ending, "threads", lambda *_: [])
                followed, doomed = watched(process)
            followed.follow(followed._container.processes())
            process.kill()
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            followed.close()

    asyncio.run(scenario())


@pytest.fixture
def freezer() -> Iterator[Path]:
    cgroup = FREEZER / f"hotswitch-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        (cgroup / "freezer.state").write_text("THAWED")
        with suppress(OSError):
            cgroup.rmdir()


@pytest.mark.skipif(not FREEZER.is_dir(), reason="only in cgroup v1 a process that is killed stays frozen")
def test_it_is_killed_and_gets_no_cpu(watched, freezer: Path) -> None:
    """Not one of its threads can end, and it is told nevertheless."""

    async def scenario() -> None:
        with envoy() as process:
            followed, doomed = watched(process)
            (freezer / "cgroup.procs").write_text(str(process.pid))
            (freezer / "freezer.state").write_text("FROZEN")
            process.kill()
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            assert process.poll() is None
            (freezer / "freezer.state").write_text("THAWED")
            await asyncio.to_thread(process.wait)
            followed.close()

    asyncio.run(scenario())


def test_it_is_not_allowed(watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then sockets tell of the death."""

    def refuse(process: str, prefix: str) -> ThreadEnds:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("hotswitch.observe.ends.ThreadEnds", refuse)

    async def scenario() -> None:
        with envoy() as process:
            followed, doomed = watched(process)
            process.kill()
            await asyncio.to_thread(process.wait)
            await asyncio.sleep(0)
            assert followed.since_s is None and not doomed.is_set()
            followed.close()

    asyncio.run(scenario())


def test_more_end_at_once_than_there_is_room_for(watched) -> None:
    """Whoever waits then looks for himself."""
    heard: list[int] = []

    async def scenario() -> None:
        with envoy() as process:
            followed, _ = watched(process)
            ends = ends_of(asyncio.get_running_loop())
            ends.call_at_end([-1], lambda: heard.append(1))
            many = "import threading,ctypes\n" + (
                "def work(): ctypes.CDLL(None).prctl(15, b'wrk:worker_9', 0, 0, 0)\n"
                "for _ in range(1500):\n"
                "    one = threading.Thread(target=work); one.start(); one.join()\n"
            )
            subprocess.run((sys.executable, "-c", many), check=True)  # nobody reads meanwhile
            async with asyncio.timeout(PATIENCE_S):
                while not heard:
                    await asyncio.sleep(0.01)
            ends.forget([-1])
            assert followed.since_s is None
            followed.close()

    asyncio.run(scenario())


FLOOD = """
import ctypes, threading
def work(): ctypes.CDLL(None).prctl(15, b"wrk:worker_x", 0, 0, 0)
while True:
    one = threading.Thread(target=work); one.start(); one.join()
"""


def test_somebody_ends_threads_of_that_name_without_end(watched, monkeypatch: pytest.MonkeyPatch) -> None:  # I2, S4.6
    """The loop is for everybody's probes: it hears nothing for a while, and again after it."""
    monkeypatch.setattr(ends, "WAKES_AT_MOST", 30)
    monkeypatch.setattr(ends, "DEAF_S", 3600.0)

    async def scenario() -> None:
        with envoy() as process, envoy() as another:
            followed, doomed = watched(process)
            told = ends_of(asyncio.get_running_loop())
            with subprocess.Popen((sys.executable, "-c", FLOOD)) as flood:
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        while perf_descriptors():
                            await asyncio.sleep(0.01)
                    later, _ = watched(another)
                    assert not perf_descriptors(), "whoever comes now does not open it"
                finally:
                    flood.kill()
            assert told._deaf is not None
            told._deaf.cancel()
            told._hear_again()
            process.kill()
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            assert later.since_s is None
            followed.close()
            later.close()

    asyncio.run(scenario())


def test_one_that_goes_wrong_keeps_nobody_else_from_being_told(watched) -> None:
    async def scenario() -> None:
        with envoy() as one, envoy() as other:
            followed, doomed = watched(one)
            _odd, _ = watched(other)
            told = ends_of(asyncio.get_running_loop())
            assert told._kernel is not None
            numbers = [other.pid, one.pid]
            told.call_at_end([other.pid], lambda: 1 // 0)
            with pytest.MonkeyPatch.context() as both:
                both.setattr(told._kernel, "ended", lambda _: numbers)  # as when both end at once
                one.kill()
                one.wait()
                told._heard(told._kernel.descriptors[0])
            await asyncio.wait_for(doomed.wait(), PATIENCE_S)
            followed.close()
            _odd.close()

    asyncio.run(scenario())
