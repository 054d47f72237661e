"""The agent ends, in order or not: what is open goes on as it is, until its expiry or the next agent (I1, I6)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from hotswitch.capture.gate import Gate, GateState
from hotswitch.capture.gate_table import scope_of
from hotswitch.cli.ask import AgentError
from hotswitch.model import Direction, Level, Opening
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.estate import ProcessId
from hotswitch.sandbox.faults import Fault
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, Keeper, gate_text, rules, until

pytestmark = pytest.mark.envoy

PODS = {"ipt-0": "iptables-nft", "nft-0": "nftables", "two-0": "iptables-nft"}
RESCUED = dict.fromkeys(Direction, Opening(Level.RESCUE))
SHORT_EXPIRY_S = 5.0
DEATHS_S = (0.000, 0.040)  # after the fault: before it is seen, amid three openings, and after them
KILLS = 4


@dataclass(frozen=True)
class Place:
    keeper: Keeper
    pods: list[Pod]
    client: Client
    closed: dict[str, str]
    rules: dict[str, str]

    async def served(self, pod: Pod) -> str:
        answer = await self.client.ask(pod.ip, 8080, timeout_s=PATIENCE_S)
        assert answer.status == 200
        return answer.via or "rescue" if answer.json()["peer"].startswith("127.0.0.6:") else "direct"

    @contextlib.asynccontextmanager
    async def expiry(self, pod: Pod, seconds: float) -> AsyncIterator[None]:
        """Another one, for the agent that runs now; the next one, or the next reload, has the usual."""
        policy = self.keeper.pod_config(pod)["policy"]
        policy["expiry_s"] = seconds
        try:
            await self.keeper.reload()
            yield
        finally:
            del policy["expiry_s"]

    async def at_rest(self) -> None:
        """Everything is captured and well, and nothing of ours is left (I4)."""
        for pod in self.pods:
            await pod.ready()
            await self.keeper.until_rest(pod)
            assert gate_text(pod) == self.closed[pod.name]
            assert rules(pod).fingerprint == self.rules[pod.name]


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Place:
    async def build() -> Place:
        pods = [await box.pod(name, backend=backend) for name, backend in PODS.items()]
        await asyncio.gather(*(pod.ready() for pod in pods))
        keeper = Keeper(box, pods)
        await keeper.guard()
        closed = {pod.name: gate_text(pod) for pod in pods}
        return Place(
            keeper, pods, await box.client("plain"), closed, {pod.name: rules(pod).fingerprint for pod in pods}
        )

    return runner.run(build())


@pytest.fixture
def place(town: Place, runner: asyncio.Runner) -> Iterator[Place]:
    runner.run(town.at_rest())
    try:
        yield town
    finally:
        runner.run(town.keeper.heal())


def _read(pod: Pod) -> GateState:
    gate = Gate(pod.netns, scope_of(pod.spec.capture()))
    try:
        return gate.read()
    finally:
        gate.close()


async def _hang(place: Place, pod: Pod) -> Fault:
    seen = len(place.keeper.entries(pod, "open"))
    fault = await place.keeper.cause(pod.faults.hang())
    await place.keeper.until_entry(pod, "open", seen)
    return fault


def test_agent_ends_with_an_open_gate_and_the_next_one_adopts_it(place: Place, runner: asyncio.Runner) -> None:
    keeper, pod = place.keeper, place.pods[0]

    async def story() -> None:
        fault = await _hang(place, pod)
        rescue = ProcessId.of(keeper.rescue_pid)
        before, opened = gate_text(pod), _read(pod)
        assert await keeper.end(signal.SIGTERM) == 0
        assert gate_text(pod) == before and rescue.alive
        assert await place.served(pod) == "rescue"

        adopted, written = len(keeper.entries(pod, "adopted")), len(keeper.entries(pod, "open"))
        await keeper.begin()
        entry = await keeper.until_entry(pod, "adopted", adopted)
        assert (entry.generation, entry.evidence["left"]) == (opened.generation, opened.reason)
        await keeper.until_status(pod, lambda status: status["fault"] == "hung", "hung")
        async with place.expiry(pod, 100.0):
            await keeper.until_status(pod, lambda status: status["expires_in_s"] <= 100.0, "renewed for a shorter time")
        assert keeper.entries(pod)[-1].generation > opened.generation
        assert len(keeper.entries(pod, "open")) == written, keeper.told(pod)
        assert await place.served(pod) == "rescue"
        closed = len(keeper.entries(pod, "close"))
        await fault.undo()
        assert (await keeper.until_entry(pod, "close", closed)).code == "HSD010"
        assert ProcessId.of(keeper.rescue_pid) == rescue, "the same one served all the time"
        await place.at_rest()
        assert await place.served(pod) == "sidecar"

    runner.run(story())


def test_everything_is_killed_and_the_kernel_closes_the_gate(place: Place, runner: asyncio.Runner) -> None:
    """I1: an open gate closes by itself at its expiry, whoever is dead."""
    keeper, pod = place.keeper, place.pods[0]

    async def story() -> None:
        async with place.expiry(pod, SHORT_EXPIRY_S):
            fault = await _hang(place, pod)
            assert await keeper.end(signal.SIGKILL) == -signal.SIGKILL
        rescue = ProcessId.of(keeper.rescue_pid)
        os.kill(rescue.pid, signal.SIGKILL)
        await until(lambda: not rescue.alive, "the rescue does not end")
        left = _read(pod)
        assert left.openings == RESCUED and left.expires_in_s is not None and left.expires_in_s <= SHORT_EXPIRY_S
        await until(lambda: gate_text(pod) == place.closed[pod.name], "the gate is not closed by the kernel")
        assert rules(pod).fingerprint == place.rules[pod.name]
        await fault.undo()
        assert await place.served(pod) == "sidecar", "with nobody of ours alive"
        await keeper.begin()

    runner.run(story())


@pytest.mark.parametrize("round_", range(KILLS))
def test_agent_is_killed_around_a_switch(place: Place, runner: asyncio.Runner, round_: int) -> None:
    """At any instant: each gate is wholly open or wholly closed, and the next agent makes of it a stated state (I6)."""
    keeper, chance = place.keeper, random.Random(round_)
    delay_s = chance.uniform(*DEATHS_S)

    async def story() -> None:
        faults = [await keeper.cause(pod.faults.kill()) for pod in place.pods]
        end_s = faults[0].at_s + delay_s
        await until(lambda: time.monotonic() >= end_s, "time stands still")
        await keeper.end(signal.SIGKILL)
        states = {pod.name: _read(pod) for pod in place.pods}
        assert all(state.openings in ({}, RESCUED) for state in states.values()), states
        assert all(state.expires_in_s for state in states.values() if state.is_open)

        adopted = {pod.name: len(keeper.entries(pod, "adopted")) for pod in place.pods}
        await keeper.begin()
        for pod in place.pods:
            stated = (await keeper.status(pod))["levels"]
            left = "rescue" if states[pod.name].is_open else "capture"
            assert stated in ({"inbound": way, "outbound": way} for way in (left, "capture")), keeper.told(pod)
            assert len(keeper.entries(pod, "adopted")) - adopted[pod.name] == states[pod.name].is_open
        for fault in faults:
            await fault.undo()
        await place.at_rest()
        assert [await place.served(pod) for pod in place.pods] == ["sidecar"] * len(place.pods)

    runner.run(story())


@pytest.mark.parametrize("round_", range(KILLS // 2))
def test_agent_is_killed_around_a_restore(place: Place, runner: asyncio.Runner, round_: int) -> None:
    keeper, pod, chance = place.keeper, place.pods[round_ % len(place.pods)], random.Random(round_)

    async def story() -> None:
        await keeper.bypass(pod, "rescue")
        restoring = asyncio.create_task(keeper.restore(pod))
        await asyncio.sleep(chance.uniform(0.0, 0.02))
        await keeper.end(signal.SIGKILL)
        try:
            await restoring
            told = True
        except AgentError:
            told = False
        state = _read(pod)
        assert state.openings == {} if told else state.openings in ({}, RESCUED)
        await keeper.begin()
        if state.is_open:
            assert (await keeper.status(pod))["levels"] == {"inbound": "rescue", "outbound": "rescue"}
        await place.at_rest()

    runner.run(story())
