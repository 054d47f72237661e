"""A controller has its helper drill: once, by two generations of its own, in the way of no order (S4.4, I4, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.inpod import Answer, InPod
from tests.agent.keeper import gate_text, rules

pytestmark = pytest.mark.envoy

RESCUE = {"inbound": "rescue"}


@dataclass
class Place:
    helper: InPod
    client: Client
    closed: str
    rules: str
    drills: int = 0

    async def drill(self, for_s: float = 2.0, **more: Any) -> Answer:
        self.drills += 1
        told = {"id": f"d{self.drills}", "for_s": for_s, "by": "ann"}
        return await self.helper.order(drill=told, **more)

    async def ended(self) -> dict[str, Any]:
        """What became of the newest."""
        truth = await self.helper.until_truth(
            lambda truth: (truth.get("drilled") or {}).get("id") == f"d{self.drills}", "the drill has ended"
        )
        drilled: dict[str, Any] = truth["drilled"]
        return drilled

    async def open(self) -> Answer:
        return await self.helper.until_truth(lambda truth: truth["levels"]["inbound"] == "rescue", "the gate is open")

    async def is_as_before(self) -> None:
        """I4"""
        assert set((await self.helper.truth())["levels"].values()) == {"capture"}
        assert (gate_text(self.helper.pod), rules(self.helper.pod).fingerprint) == (self.closed, self.rules)


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Place:
    async def build() -> Place:
        pod = await box.pod("drilled-0")
        await pod.ready()
        helper = InPod(box, pod)
        await helper.begin()
        await helper.ready()
        return Place(helper, await box.client("plain"), gate_text(pod), rules(pod).fingerprint)

    return runner.run(build())


@pytest.fixture
def place(town: Place, runner: asyncio.Runner) -> Iterator[Place]:
    async def rest() -> None:
        truth = await town.helper.truth()
        town.helper.skip_to(truth.get("generation", 0))
        await town.helper.pod.ready()
        assert (await town.helper.order())["outcome"] == "done"
        await town.helper.ready()

    runner.run(rest())
    yield town


def test_a_drill_passes_and_nobody_loses_a_request(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = place.helper
        before = len(helper.entries())
        load = place.client.load((helper.pod.ip, 8080), rate=50.0, seconds=8.0, timeout_s=5.0)
        await load.begun()
        begun = await place.drill()
        assert (begun["outcome"], begun["sentence"]) == ("done", "the drill has begun"), begun
        drilled = await place.ended()
        assert (drilled["result"], drilled["lost"]) == ("passed", 0), drilled
        assert drilled["served"] > 5 and set(drilled["durations_s"]) == {"open", "restore"}
        assert (await load.results()).summary().failed == 0
        await place.is_as_before()
        lines = [(each.event, each.code, each.who) for each in helper.entries()[before:] if each.code]
        assert lines == [
            ("open", "HSD005", "controller"),
            ("close", "HSD015", "controller"),
            ("drill", "HSD070", "ann"),
        ]
        assert (await helper.truth())["generation"] == begun["truth"]["generation"] + 2

    runner.run(story())


def test_the_same_drill_told_again_and_one_that_is_old_begin_nothing(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = place.helper
        await place.drill(1.0)
        newest = await place.ended()
        generation, drills = (await helper.truth())["generation"], len(helper.entries("drill"))
        again = {"id": newest["id"], "for_s": 1.0, "by": "ann"}
        told = await helper.order(generation + 1, drill=again)
        assert (told["outcome"], told["sentence"]) == ("done", "this drill was ordered before")
        for number, order in enumerate(({"generation": generation - 1}, {"generation": generation})):
            refused = await helper.order(**order, drill={"id": f"old{number}", "for_s": 1.0, "by": "ann"})
            assert refused["outcome"] == "refused" and "generation: " in refused["sentence"], refused
        refused = await helper.order(generation + 1, uid="another", drill={"id": "x", "for_s": 1.0, "by": "ann"})
        assert refused["outcome"] == "refused" and "uid: " in refused["sentence"]
        refused = await helper.order(generation + 1, drill={"id": "y", "for_s": 61.0, "by": "ann"})
        assert refused["outcome"] == "refused" and "drill.for_s: 61" in refused["sentence"]
        assert len(helper.entries("drill")) == drills and refused["truth"]["drilled"] == newest
        helper.skip_to(generation)
        await place.is_as_before()

    runner.run(story())


def test_an_order_ends_the_drill_and_stands(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = place.helper
        await place.drill(60.0)
        generation = (await place.open())["generation"]
        closed = await helper.order(generation + 1)
        assert closed["outcome"] == "done", closed
        drilled = await place.ended()
        assert drilled["result"] == "interrupted" and "somebody else" in drilled["why"], drilled
        assert (await helper.truth())["generation"] == generation + 1
        await place.is_as_before()

    runner.run(story())


def test_the_proxy_dies_in_the_midst_and_keeps_its_rescue(place: Place, runner: asyncio.Runner) -> None:
    """The gate is not closed under the clients: the controller takes over what is open."""

    async def story() -> None:
        helper = place.helper
        await place.drill(60.0)
        await place.open()
        fault = await helper.pod.faults.crash_loop()
        drilled = await place.ended()
        assert drilled["result"] == "interrupted" and "in earnest" in drilled["why"], drilled
        assert (await helper.truth())["levels"]["inbound"] == "rescue"
        answer = await place.client.ask(helper.pod.ip, 8080, timeout_s=30.0)
        assert (answer.status, answer.via) == (200, "")
        taken = await helper.order((await helper.truth())["generation"] + 1, openings=RESCUE)
        assert taken["outcome"] == "done", taken
        await fault.undo()

    runner.run(story())


def test_a_pod_that_is_not_well_is_not_drilled(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = place.helper
        fault = await helper.pod.faults.crash_loop()
        await helper.until_truth(lambda truth: truth["diagnosis"]["fault"] == "dead", "dead")
        await place.drill()
        drilled = await place.ended()
        assert drilled["result"] == "refused" and "not well" in drilled["why"], drilled
        assert set((await helper.truth())["levels"].values()) == {"capture"}
        await fault.undo()

    runner.run(story())
