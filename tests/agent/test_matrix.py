"""{iptables-nft, native nft} x {v4, v6} x {rescue, direct} x {in, out}: captured, switched, served, restored, captured.

Under load, one fresh connection for each request, so that each one is decided anew by the kernel's rules. A switch that
a person orders while the proxy is well may cost no request at all (I5); after it nothing of ours is active and Istio's
rules are what they were (I4). With a killed proxy the same, but for what the proxy itself took with it (S4.2, S4.3).
"""

from __future__ import annotations

import asyncio
import time

import pytest

from hotswitch.sandbox.outcome import Kind
from hotswitch.sandbox.protector import at_s
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper, gate_text, rules
from tests.agent.load import ending, find_rate, flows, lost
from tests.agent.town import Town, kinds, nothing_of_ours_is_left

pytestmark = pytest.mark.envoy

BACKENDS = {"iptables-nft": "ipt-0", "nftables": "nft-0"}
ALL_BACKENDS = pytest.mark.parametrize("backend", BACKENDS)
ALL_FAMILIES = pytest.mark.parametrize("family", ["v4", "v6"])
EDGE_S = 0.1  # the journal's entry of a restore is a little younger than the restore
PHASE_S = 0.4
KEPT, KEPT_RATE = 8, 10.0  # connections that are open before the switch, and requests/s on all of them


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Town:
    return runner.run(_build(box))


async def _build(box: Sandbox) -> Town:
    pods = {backend: await box.pod(name, backend=backend) for backend, name in BACKENDS.items()}
    outside, client = await box.pod("outside", sidecar=False), await box.client("plain")
    await asyncio.gather(*(pod.ready() for pod in (*pods.values(), outside)))
    aim = (pods["nftables"].ip, 8080)
    rate = await find_rate(lambda rate, seconds: client.load(aim, rate=rate, seconds=seconds))
    keeper = Keeper(box, list(pods.values()))
    await keeper.guard()
    return Town(pods, outside, client, keeper, rate)


@ALL_BACKENDS
@ALL_FAMILIES
@pytest.mark.parametrize("level", ["rescue", "direct"])
@pytest.mark.parametrize("way", ["inbound", "outbound"])
def test_switched_by_order(town: Town, runner: asyncio.Runner, backend: str, family: str, level: str, way: str) -> None:
    pod, keeper, phase = town.pods[backend], town.keeper, int(PHASE_S * town.rate)
    other = "outbound" if way == "inbound" else "inbound"

    async def story() -> None:
        await keeper.until_rest(pod)
        closed, original = gate_text(pod), rules(pod).fingerprint
        verified = len(keeper.entries(pod, "verified"))
        kept = town.load(way, pod, family, KEPT_RATE, KEPT)
        async with ending(town.load(way, pod, family, town.rate), kept) as (run, _):
            assert await town.server(way, pod, family) == "proxy"
            await asyncio.gather(flows(run, phase), flows(kept, KEPT))

            before_s = time.monotonic()
            told = await keeper.bypass(pod, level, way)
            open_s = time.monotonic()
            assert told["levels"] == {way: level, other: "capture"}
            assert rules(pod).openings and gate_text(pod) != closed
            await flows(run, phase)
            assert await town.server(way, pod, family) == level

            restore_s = time.monotonic()
            told = await keeper.restore(pod)
            restored_s = time.monotonic()
            assert set(told["levels"].values()) == {"capture"}
            await flows(run, phase)
            assert await town.server(way, pod, family) == "proxy"

        rows = (await run.results()).rows
        assert lost(rows) == [], "a switch costs no request (I5)"
        assert kinds(rows, 0.0, before_s) == {Kind.VIA_PROXY}
        assert kinds(rows, open_s, restore_s) == {Kind.DIRECT}
        assert kinds(rows, restored_s, float("inf")) == {Kind.VIA_PROXY}
        assert {row.kind for row in (await kept.results()).rows} - {Kind.BUSY} == {Kind.VIA_PROXY}, (
            "they stay as they were"
        )
        proof = await keeper.until_entry(pod, "verified", verified)
        assert proof.evidence == {"istio_rules_unchanged": "True", "refusal": ""}
        nothing_of_ours_is_left(pod, closed, original)

    runner.run(story())


@ALL_BACKENDS
@ALL_FAMILIES
def test_switched_because_the_proxy_was_killed(town: Town, runner: asyncio.Runner, backend: str, family: str) -> None:
    pod, keeper, rate = town.pods[backend], town.keeper, town.rate / 4
    ways = ("inbound", "outbound")

    async def story() -> None:
        await keeper.until_rest(pod)
        closed, original = gate_text(pod), rules(pod).fingerprint
        seen = {event: len(keeper.entries(pod, event)) for event in ("open", "close", "verified")}
        assert [await town.server(way, pod, family) for way in ways] == ["proxy", "proxy"]
        async with ending(*(town.load(way, pod, family, rate) for way in ways)) as runs:

            async def phase() -> None:
                await asyncio.gather(*(flows(run, int(PHASE_S * rate)) for run in runs))

            await phase()
            fault = await pod.faults.kill()
            opened = await keeper.until_entry(pod, "open", seen["open"])
            assert (opened.code, opened.evidence["fault"]) == ("HSD001", "dead")
            assert [await town.server(way, pod, family) for way in ways] == ["rescue", "rescue"]
            await phase()
            await fault.undo()
            restored = await keeper.until_entry(pod, "close", seen["close"])
            assert restored.code == "HSD010"
            await phase()
            assert [await town.server(way, pod, family) for way in ways] == ["proxy", "proxy"]

        for run in runs:
            rows = (await run.results()).rows
            bad = [row for row in lost(rows) if not fault.at_s <= row.end_s and row.start_s < at_s(opened)]
            assert bad == [], "only what the proxy took with it is lost"
            assert kinds(rows, 0.0, fault.at_s) == {Kind.VIA_PROXY}
            assert kinds(rows, at_s(opened), at_s(restored) - EDGE_S) == {Kind.DIRECT}
            assert kinds(rows, at_s(restored), float("inf")) == {Kind.VIA_PROXY}
        proof = await keeper.until_entry(pod, "verified", seen["verified"])
        assert proof.evidence == {"istio_rules_unchanged": "True", "refusal": ""}
        nothing_of_ours_is_left(pod, closed, original)

    runner.run(story())
