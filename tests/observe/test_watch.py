"""One pod under watch: what is forgotten, and when."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.decide import diagnose
from hotswitch.kernel.cgroup import Container, Reading, Worker
from hotswitch.kernel.netns import PinnedNamespace, inside
from hotswitch.model import ADMIN, HEALTH, Facts, Fault, Grade, PathComparison, ProbeOutcome, Thresholds
from hotswitch.observe import pace as pace_module
from hotswitch.observe.pace import SLOW_S, Pace
from hotswitch.observe.path import PathProbe, PathReport
from hotswitch.observe.watch import PodWatch

pytestmark = pytest.mark.netns

NO_CONTAINER = Container(())


def test_ended_while_a_probe_is_on_its_way(netns: str) -> None:
    """Its timers must not look into a namespace that is another pod's by now (I6)."""
    asyncio.run(_end_early(netns))


async def _end_early(netns: str) -> None:
    loop, errors, news = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    namespace = PinnedNamespace(netns)
    with inside(netns):
        silent = socket.create_server(("127.0.0.1", HEALTH))  # nobody accepts, so the probe goes unanswered
    more: dict[str, Any] = {"path_probe": None, "container": Container(()), "app_ports": frozenset({8080})}
    watch = PodWatch(namespace, lambda: news.append(loop.time()), thresholds=Thresholds(), pace=Pace(), **more)
    watch.start()
    watch._ask()  # as its timer does: it will want to look again after SLOW_S
    watch.close()
    namespace.close()
    silent.close()
    news.clear()
    await asyncio.sleep(2 * SLOW_S)  # nothing is to happen, so there is nothing to wait for
    assert errors == []
    assert news == []


class FailingPath(PathProbe):
    """As it is while the proxy starts: nobody listens on 15006 yet, and the app works."""

    def __init__(self) -> None:
        self.asked = 0

    async def compare(self) -> PathReport:
        self.asked += 1
        now_s = asyncio.get_running_loop().time()
        return PathReport(PathComparison(now_s, proxied=ProbeOutcome.REFUSED, direct=ProbeOutcome.OK))


class Health(asyncio.Protocol):
    """15021: answers with the class's status; a connection that may be kept is. `deaf`: kept ones get no answer."""

    status, open, made, deaf = b"503", 0, 0, False
    newest: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = Health.newest = transport
        Health.open += 1
        Health.made += 1

    def data_received(self, data: bytes) -> None:
        kept = b"Connection: close" not in data
        if kept and Health.deaf:
            return
        self.transport.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % Health.status)
        if not kept:
            self.transport.close()

    def connection_lost(self, failure: Exception | None) -> None:
        Health.open -= 1


def test_what_failed_while_the_proxy_started_is_no_fault_of_the_one_that_is_ready(netns: str) -> None:
    asyncio.run(_become_ready(netns))


async def _become_ready(netns: str) -> None:
    Health.status = b"503"
    probe = FailingPath()
    async with _watched(netns, probe) as (_, seen), asyncio.timeout(20):
        while probe.asked < 3:
            await asyncio.sleep(0.01)
        assert seen[-1].path is not None and seen[-1].path_streak >= 2
        Health.status = b"200"
        while not any(facts.ever_ready for facts in seen):
            await asyncio.sleep(0.01)
    ready = next(facts for facts in seen if facts.ever_ready)
    assert (ready.path, ready.path_streak, ready.path_passes) == (None, 1, 0)


class TlsPath(PathProbe):
    """A proxy that takes mTLS alone, and answers."""

    def __init__(self) -> None:
        self.asked, self.ends_unix_s = 0, time.time() + 3600

    async def compare(self) -> PathReport:
        self.asked += 1
        now_s = asyncio.get_running_loop().time()
        passed = PathComparison(now_s, proxied=ProbeOutcome.TLS, direct=ProbeOutcome.OK)
        return PathReport(passed, self.ends_unix_s)


def test_certificate_changes_and_nothing_else_does(netns: str) -> None:
    """S4.2c: somebody must decide on it at once, not when the pod is next looked at."""
    asyncio.run(_change_certificate(netns))


async def _change_certificate(netns: str) -> None:
    Health.status = b"200"
    probe = TlsPath()
    async with _watched(netns, probe) as (watch, seen), asyncio.timeout(20):
        while probe.asked < 3 or watch.suspicious:
            await asyncio.sleep(0.01)
        told = -1
        while len(seen) != told:  # a busy machine has doubts of its own: until it has none
            told, asked = len(seen), probe.asked
            while probe.asked < asked + 3:
                await asyncio.sleep(0.01)
        probe.ends_unix_s = time.time() - 1
        while len(seen) == told:
            await asyncio.sleep(0.01)
        assert watch.certificate_ends_unix_s == probe.ends_unix_s


def test_well_proxy_is_asked_over_one_connection(netns: str) -> None:
    asyncio.run(_ask_the_well(netns))


async def _ask_the_well(netns: str) -> None:
    Health.status, Health.made = b"200", 0
    async with _watched(netns, None) as (watch, _), asyncio.timeout(20):
        while len(watch.facts(0).probes) < 16:
            await asyncio.sleep(0.01)
        assert Health.made <= 4, "the held one, and a fresh one where it was due"


def test_silence_on_the_held_connection_is_asked_about_on_fresh_ones(netns: str) -> None:
    """S4.2b: it may be a worker that is stuck, or nothing: the fresh ones decide, and a deaf connection is replaced."""
    asyncio.run(_be_deaf(netns))


async def _be_deaf(netns: str) -> None:
    Health.status = b"200"
    async with _watched(netns, None) as (watch, _), asyncio.timeout(20):
        while not watch.facts(0).ever_ready:
            await asyncio.sleep(0.01)
        Health.deaf, Health.made = True, 0
        try:
            while Health.made < 5:
                await asyncio.sleep(0.01)
            assert {probe.outcome for probe in watch.facts(0).probes} == {ProbeOutcome.OK}
        finally:
            Health.deaf = False
        while watch.suspicious:
            await asyncio.sleep(0.01)


def test_doubt_that_stays_is_looked_at_less_often(netns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that says 503 all day costs little; one that is well again is idle again."""
    monkeypatch.setattr(pace_module, "DOUBT_S", 0.1)
    asyncio.run(_doubt_for_long(netns))


async def _doubt_for_long(netns: str) -> None:
    Health.status = b"503"
    async with _watched(netns, None) as (watch, _), asyncio.timeout(20):
        while not watch.suspicious:
            await asyncio.sleep(0.01)
        assert watch._wait_s() < 0.04
        while watch._wait_s() < watch._pace.alert_s:
            await asyncio.sleep(0.05)
        Health.status = b"200"
        while watch.suspicious:
            await asyncio.sleep(0.05)
        assert watch._wait_s() == watch._pace.idle_s


class Starved(Container):
    """One worker that wants a CPU and has none."""

    known = True

    def read(self, at_s: float) -> Reading:
        return Reading(at_s, threads=1, workers={7: Worker(1.0, 0.0, "R")})


def test_threads_of_a_pod_that_is_open_are_looked_at_whatever_its_last_answer_was(netns: str) -> None:
    """Its queues stand because it is starved; without its threads that would pass for a hang (I2)."""
    asyncio.run(_be_starved_while_open(netns))


async def _be_starved_while_open(netns: str) -> None:
    Health.status = b"503"  # an answer, so it is not silent
    async with _watched(netns, None, Starved(())) as (watch, _), asyncio.timeout(20):
        watch.be_alert(True)
        while not watch.facts(asyncio.get_running_loop().time()).pressure.starved:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _watched(
    netns: str, probe: PathProbe | None, container: Container = NO_CONTAINER
) -> AsyncIterator[tuple[PodWatch, list[Facts]]]:
    """A watch of a pod with 15021 and that path; every piece of news adds the facts of its moment."""
    loop, seen = asyncio.get_running_loop(), list[Facts]()
    with inside(netns):
        listener = socket.create_server(("127.0.0.1", HEALTH))
    server = await loop.create_server(Health, sock=listener)
    namespace = PinnedNamespace(netns)
    pace = Pace(idle_s=0.05, fast_s=0.02, path_idle_s=0.02, path_fast_s=0.02)
    more: dict[str, Any] = {"path_probe": probe, "container": container, "app_ports": frozenset({8080})}
    watch = PodWatch(
        namespace, lambda: seen.append(watch.facts(loop.time())), thresholds=Thresholds(), pace=pace, **more
    )
    watch.start()
    try:
        yield watch, seen
    finally:
        watch.close()
        namespace.close()
        server.close()
        async with asyncio.timeout(20):
            while Health.open:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(("closes", "found"), [(True, True), (False, False)], ids=["closed", "reset"])
def test_all_connections_end_and_every_port_listens(netns: str, closes: bool, found: bool) -> None:
    """S4.2a: a process ends, and its sockets are all there is to see; resets are somebody else's work."""
    assert asyncio.run(_end_both(netns, closes=closes)) is found


async def _end_both(netns: str, *, closes: bool) -> bool:
    """Was the proxy taken for dead?"""
    loop, Health.status = asyncio.get_running_loop(), b"200"
    with inside(netns), socket.create_server(("127.0.0.1", ADMIN)) as admin:
        admin.setblocking(False)
        async with _watched(netns, None) as (watch, seen), asyncio.timeout(20):
            held, _ = await loop.sock_accept(admin)
            while not watch.facts(0).ever_ready or watch.suspicious:
                await asyncio.sleep(0.01)
            assert not any(map(_is_dead, seen))
            if not closes:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            held.close()
            Health.newest.abort()
            again, _ = await loop.sock_accept(admin)  # it has noticed, and holds another one
            again.close()
            return any(map(_is_dead, seen))


def _is_dead(facts: Facts) -> bool:
    assert facts.listeners is not None and {ADMIN, HEALTH} <= facts.listeners.ports
    found = diagnose(replace(facts, app_ports=frozenset()), Thresholds())
    return (found.fault, found.grade) == (Fault.DEAD, Grade.CONFIRMED)
