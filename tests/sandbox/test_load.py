"""The load program tells fates apart, keeps its pace, and costs little."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.outcome import Kind, Results
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy


@pytest.fixture(scope="module")
def pair(box: Sandbox, runner: asyncio.Runner) -> tuple[Pod, Client]:
    async def build() -> tuple[Pod, Client]:
        pod, client = await box.pod("bare-0", sidecar=False), await box.client("c0")
        await pod.ready()
        return pod, client

    return runner.run(build())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize("connections", [0, 64])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_keeps_its_pace(pair: tuple[Pod, Client], runner: asyncio.Runner, connections: int, family: str) -> None:
    pod, client = pair

    async def story() -> Results:
        address = pod.place.addresses((family,))[0]
        return await client.load((address, 8080), rate=500, seconds=1, connections=connections).results()

    results = runner.run(story())
    assert results.summary().kinds == {Kind.DIRECT: 500}
    length_s = results.rows[-1].start_s - results.rows[0].start_s
    assert length_s == pytest.approx(499 / 500, abs=0.05)


def test_costs_less_than_two_fifths_of_a_core(pair: tuple[Pod, Client], runner: asyncio.Runner) -> None:
    pod, client = pair

    async def story() -> float:
        run = client.load((pod.ip, 8080), rate=1000, seconds=3)
        await asyncio.sleep(0.5)
        before = _cpu_s(run.pid)
        await asyncio.sleep(2)
        used = _cpu_s(run.pid) - before
        assert (await run.results()).summary().kinds == {Kind.DIRECT: 3000}
        return used / 2

    assert runner.run(story()) < 0.4


@pytest.mark.parametrize(("kind", "expected"), [("silent", Kind.TIMEOUT), ("error", Kind.HTTP_ERROR)])
def test_sick_app(pair: tuple[Pod, Client], runner: asyncio.Runner, kind: str, expected: Kind) -> None:
    pod, client = pair

    async def story() -> Results:
        fault = await pod.faults.sicken_app(kind)
        try:
            return await client.load((pod.ip, 8080), rate=100, seconds=0.5, timeout_s=0.2).results()
        finally:
            await fault.undo()

    results = runner.run(story())
    assert results.summary().kinds == {expected: 50}
    if expected is Kind.TIMEOUT:
        assert all(0.2 <= row.end_s - row.start_s < 0.3 for row in results.rows)


def test_refused_where_nobody_listens(pair: tuple[Pod, Client], runner: asyncio.Runner) -> None:
    pod, client = pair
    results = runner.run(_run(client, (pod.ip, 8089)))
    assert set(results.summary().kinds) == {Kind.REFUSED}


async def _run(client: Client, to: tuple[str, int]) -> Results:
    return await client.load(to, rate=100, seconds=0.3).results()


def test_reset_when_the_app_dies_with_requests_under_way(pair: tuple[Pod, Client], runner: asyncio.Runner) -> None:
    pod, client = pair

    async def story() -> Results:
        await pod.tell_app("/sick?kind=silent")
        run = client.load((pod.ip, 8080), rate=100, seconds=0.5, timeout_s=5)
        while run.totals.get("refused", 0) == 0 and run.sent < 20:
            await asyncio.sleep(0.01)
        fault = await pod.faults.sicken_app("exit")
        results = await run.results()
        await fault.undo()
        return results

    kinds = runner.run(story()).summary().kinds
    assert kinds[Kind.RESET] >= 15, "those that were under way"
    assert kinds[Kind.REFUSED] > 0, "those that came after"


def test_all_kept_connections_in_use(pair: tuple[Pod, Client], runner: asyncio.Runner) -> None:
    pod, client = pair

    async def story() -> Results:
        fault = await pod.faults.sicken_app("silent")
        try:
            return await client.load((pod.ip, 8080), rate=100, seconds=0.3, connections=4, timeout_s=2).results()
        finally:
            await fault.undo()

    kinds = runner.run(story()).summary().kinds
    assert kinds == {Kind.TIMEOUT: 4, Kind.BUSY: 26}


def test_service_without_endpoints_refuses(box: Sandbox, pair: tuple[Pod, Client], runner: asyncio.Runner) -> None:
    """As kube-proxy does; and endpoints that come later are used."""
    _, client = pair

    async def story() -> Results:
        pod = await box.pod("lone-0", sidecar=False, app_period_s=0.2)
        service = await box.service("lone", [pod])
        await pod.ready()
        fault = await pod.faults.sicken_app("error")
        await pod.kubelet.until(lambda: not pod.is_ready)
        run = client.load(service, rate=100, seconds=2)
        while run.totals.get("refused", 0) == 0:
            await asyncio.sleep(0.01)
        await fault.undo()
        return await run.results()

    kinds = runner.run(story()).summary().kinds
    assert kinds[Kind.REFUSED] > 0 and kinds[Kind.DIRECT] > 50


def test_stop_ends_it_early(pair: tuple[Pod, Client], runner: asyncio.Runner) -> None:
    pod, client = pair

    async def story() -> Results:
        run = client.load((pod.ip, 8080), rate=100, seconds=60)
        while run.sent < 10:
            await asyncio.sleep(0.01)
        run.stop()
        return await run.results()

    summary = runner.run(story()).summary()
    assert 10 <= summary.requests < 1000 and summary.failed == 0
