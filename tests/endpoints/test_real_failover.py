"""A real failover, judged by its history: processes killed, frozen and cut off in turn, two controllers, a client.

About half a minute; HOTSWITCH_FAILOVER_S says for how many seconds faults are made (600: ten minutes). The same over
IPv6, and with pods whose traffic a real sidecar captures, for a shorter while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from hotswitch.backends import Check, CheckKind
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.lease import retry_s
from hotswitch.decide.endpoints.bounds import Fault, Timing, bounds
from hotswitch.sandbox.failover.client import Pooled
from hotswitch.sandbox.failover.stage import Failover, until
from tests.endpoints.faults import FRESH, POOLED, Faults, Load, is_whole
from tests.endpoints.history import breaches, longest_gap
from tests.endpoints.town import story

pytestmark = [pytest.mark.netns, pytest.mark.k8s]
FAULTS_S = float(os.environ.get("HOTSWITCH_FAILOVER_S", "25"))
SHORT_S = float(os.environ.get("HOTSWITCH_FAILOVER_SHORT_S", "15"))
TTL_S, LEASE_S = 3, 3  # the activity lease, and the controllers' own
TIMING = Timing(
    check=Check(CheckKind.HTTP, period_s=0.3, timeout_s=0.3, fall=2), ttl_s=TTL_S, lease_s=LEASE_S,
    retry_s=retry_s(LEASE_S),
)  # fmt: skip
"""Of the stage: sandbox/failover/service.py, QUICK_CHECK."""
FAULTS = {
    "app_is_killed": Fault.APP,
    "app_hangs": Fault.APP,
    "sidecar_is_killed": Fault.POD,
    "pod_is_cut_off_from_controllers": Fault.POD,
    "pod_is_frozen_whole": Fault.POD,
    "keeper_is_frozen": Fault.KEEPER,
    "keeper_is_killed": Fault.KEEPER,
    "leader_is_killed": Fault.LEADER,
    "leader_is_frozen_and_wakes_as_a_deposed_one": Fault.LEADER,
    "leader_and_active_are_killed": Fault.LEADER_AND_ACTIVE,
}
STRICT = "HOTSWITCH_FAILOVER_STRICT" in os.environ  # on a machine that nothing else runs on: gaps are judged, too
AT_LEAST = 4  # faults, however slow the machine is
AT_ONCE = ", before the stage was whole again"


@dataclass(frozen=True, slots=True)
class Made:
    """`names`: of this fault, and before it those since the stage was whole. From when, until the next one was made."""

    names: tuple[str, ...]
    gap_s: float
    story: str = ""

    @property
    def name(self) -> str:
        return self.names[-1] if len(self.names) == 1 else f"{self.names[-1]}{AT_ONCE}"

    @property
    def bound_s(self) -> float | None:
        """None: for as long as the API server is away. One that follows others may wait for these, too."""
        known = bounds(TIMING)
        if not all(each in FAULTS for each in self.names):
            return None
        return sum(known[FAULTS[each]].seconds for each in self.names)

    @property
    def is_kept(self) -> bool:
        return self.bound_s is None or self.gap_s <= self.bound_s


def stored(stage: Failover) -> list[tuple[int, int, str, int]]:
    with contextlib.closing(sqlite3.connect(stage.database)) as database:
        return list(database.execute("SELECT seq, n, pod, generation FROM entries"))


async def told(stage: Failover, load: Load) -> str:
    """What a person would want to know of a stage that stands still."""
    words = [f"last answers {load.history[-3:]}"]
    with contextlib.suppress(ApiFailure):
        found = await stage.election()
        words += [f"leader {await stage.leader()}", f"active {found.active}, fencing {found.fencing}"]
        words += [f"{past.at} {past.what} {past.sentence}" for past in found.history[-6:]]
    for name in (*stage.controllers, *stage.pods, *(f"{pod}-keeper" for pod in stage.pods)):
        words.append(f"{name}: {stage.log(name).read_text()[-600:]}")
    return "\n".join(words)


def shown(made: Sequence[Made]) -> list[str]:
    """A line for each kind of fault, and whatever is known of the gaps that were too long."""
    lines = []
    for name in sorted({each.name for each in made}):
        those = [each for each in made if each.name == name]
        longest = max(each.gap_s for each in those)
        bound = max((each.bound_s for each in those if each.bound_s is not None), default=None)
        missed = sum(not each.is_kept for each in those)
        stated = "none" if bound is None else f"{'at most ' * name.endswith(AT_ONCE)}{bound:.2f} s"
        lines.append(f"{name}: {len(those)} times; longest gap {longest:.2f} s, bound {stated}; missed {missed}")
    lines += [f"{each.names}: {each.gap_s:.2f} of {each.bound_s:.2f} s: {each.story}" for each in made if each.story]
    return lines


async def make(stage: Failover, load: Load, faults_s: float) -> list[Made]:
    """Half of them, and the first of each kind, while the stage is whole; the others come upon each other."""
    faults, made = Faults(stage, load), list[Made]()
    names: tuple[str, ...] = ()
    end_s, seen = time.monotonic() + faults_s, set[str]()
    await until(lambda: is_whole(stage), "the stage is whole")
    for fault in faults.in_turn():
        if time.monotonic() > end_s and len(made) >= AT_LEAST:
            return made
        mark, began = max(0, len(load.history) - 1), time.time()
        names = (*names, fault.__name__)
        try:
            await fault()
            await load.progress()
            if fault.__name__ not in seen or random.random() < 0.5:
                await until(lambda: is_whole(stage), "the stage is whole again")
                await load.progress()
                seen.add(fault.__name__)
        except TimeoutError as late:
            raise AssertionError(f"{late}, after {names}: {await told(stage, load)}") from late
        one = Made(names, longest_gap(load.history[mark:]))
        story = "" if one.is_kept else f"made at {began:.2f}; {await told(stage, load)}"
        made.append(replace(one, story=story))
        names = () if await is_whole(stage) else names
    raise AssertionError("faults have no end")


async def play(stage: Failover, faults_s: float) -> None:
    """Faults under load, and the judgement."""
    async with stage, stage.client() as client:
        await stage.serving(client)
        load = Load()
        pools = [Pooled(client) for _ in range(POOLED)]
        senders = [asyncio.create_task(load.run(each)) for each in (*[client] * FRESH, *pools)]
        try:
            made = await make(stage, load, faults_s)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            for pool in pools:
                pool.close()
        rows = stored(stage)
        denied = stage.api.denied
    generations = {each.generation for each in load.history}
    print(f"{len(made)} faults, {len(load.history)} answered, {load.unanswered} not, {len(generations)} generations")
    print("\n".join(shown(made)))
    assert breaches(load.history, rows) == [], [each.names for each in made]
    assert denied == [], "the shipped rights are enough"
    assert len(generations) >= 3
    assert not STRICT or all(each.is_kept for each in made)


@story
async def test_one_serves_at_a_time_whatever_is_killed_frozen_or_cut_off() -> None:  # S0.3, S0.5, S0.6, S0.7, I6, I7
    await play(Failover(pods=3, controllers=2, ttl_s=TTL_S, lease_s=LEASE_S), FAULTS_S)


@story
async def test_the_same_where_there_is_ipv6_only() -> None:  # S0.3, S0.5, S0.6, S0.7, I7
    await play(Failover(pods=3, controllers=2, ttl_s=TTL_S, lease_s=LEASE_S, family="IPv6"), SHORT_S)


@pytest.mark.envoy
@story
async def test_the_same_with_sidecars_that_capture_everything() -> None:  # S0.3, S0.5, S0.6, S0.7, I7
    stage = Failover(pods=3, controllers=2, ttl_s=TTL_S, lease_s=LEASE_S, mesh=True)
    await play(stage, SHORT_S)
