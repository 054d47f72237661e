"""Never two leaders, whatever becomes of the API server, the way to it, or the clock (I6)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease import Elector, clock_s
from tests.cluster.apis import Api, Place
from tests.cluster.wire import Wire, wired

PATIENCE_S = 30.0
QUICK: dict[str, Any] = {"lease_s": 1, "renew_s": 0.3, "retry_s": 0.1}
LEASE = "the-lease"


class Candidate:
    """An elector with a way of its own to the API server, and what it was told."""

    def __init__(self, cluster: Cluster, wire: Wire, namespace: str, name: str, **options: Any) -> None:
        self.skipped_s = 0.0
        self.wire = wire
        self.terms: list[int] = []
        self.stops = 0
        self.elector = Elector(
            cluster, namespace, LEASE, name, **{**QUICK, "clock": lambda: clock_s() + self.skipped_s, **options}
        )
        self.task = asyncio.create_task(self.elector.run(self.terms.append, self._stopped))

    def _stopped(self) -> None:
        self.stops += 1

    @property
    def leads(self) -> bool:
        """And was told so."""
        return self.elector.leading and len(self.terms) > self.stops

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def candidates(place: Place, directory: Path, count: int, **options: Any) -> AsyncIterator[list[Candidate]]:
    """While they run, every turn of the loop looks whether two of them lead."""
    async with AsyncExitStack() as ways:
        found = []
        for number in range(count):
            cluster, wire = await ways.enter_async_context(wired(place.kubeconfig, directory))
            found.append(Candidate(cluster, wire, place.namespace, f"candidate-{number}", **options))
        watching = asyncio.create_task(_watch(found))
        try:
            yield found
            assert not watching.done(), watching.result()
        finally:
            watching.cancel()
            for each in found:
                each.wire.speak()
                await each.stop()


async def _watch(found: list[Candidate]) -> str:
    while True:
        leaders = [each.elector.identity for each in found if each.elector.leading]
        if len(leaders) > 1:
            return f"two leaders: {leaders}"
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)


Scene = Callable[[Place, Path], Coroutine[Any, Any, None]]


def play(api: Api, directory: Path, scene: Scene) -> None:
    async def run() -> None:
        async with api() as place:
            await scene(place, directory)

    asyncio.run(run())


async def given_away(place: Place) -> None:
    """As a leader leaves it that goes: the next one need not wait."""
    spec = {"holderIdentity": "", "leaseTransitions": 1}
    await place.cluster.create(LEASES, place.namespace, {"metadata": {"name": LEASE}, "spec": spec})


async def spec(place: Place) -> dict[str, Any]:
    return dict((await place.cluster.get(LEASES, place.namespace, LEASE))["spec"])


def test_all_start_at_once(api: Api, tmp_path: Path) -> None:
    """There is no Lease yet: all want to make it, one does, the others follow."""

    async def scene(place: Place, directory: Path) -> None:
        async with candidates(place, directory, 4) as found:
            await until(lambda: any(each.leads for each in found))
            await until(lambda: all(each.elector.holder for each in found))
            leader = next(each for each in found if each.leads)
            assert {each.elector.holder for each in found} == {leader.elector.identity}
            assert leader.terms == [leader.elector.term] == [1]
            assert (await spec(place))["holderIdentity"] == leader.elector.identity

    play(api, tmp_path, scene)


def test_a_leader_that_goes_gives_the_lease_away(api: Api, tmp_path: Path) -> None:
    async def scene(place: Place, directory: Path) -> None:
        await given_away(place)
        async with candidates(place, directory, 2, lease_s=60) as (first, second):
            await until(lambda: first.leads or second.leads)
            leader, other = (first, second) if first.leads else (second, first)
            await leader.stop()
            assert not leader.elector.leading and leader.stops == 1
            await until(lambda: other.leads)  # far sooner than the lease would run out
            assert (leader.terms, other.terms) == ([2], [3])

    play(api, tmp_path, scene)


@pytest.mark.parametrize("turns", range(6))
def test_a_leader_is_told_to_end_just_when_it_has_renewed(api: Api, tmp_path: Path, turns: int) -> None:
    """The end must not be lost among the news: it would lead on for a while, and then wait for ever."""

    async def scene(place: Place, directory: Path) -> None:
        await given_away(place)
        async with candidates(place, directory, 1, lease_s=60) as (only,):
            await until(lambda: only.leads)
            only.elector._moved.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            only.task.cancel()
            done, _ = await asyncio.wait({only.task}, timeout=PATIENCE_S)
            assert done and only.stops == 1

    play(api, tmp_path, scene)


def test_the_api_server_falls_silent_for_the_leader(api: Api, tmp_path: Path) -> None:
    """It stops by its own clock; and what it had sent arrives after another took over, to no effect."""

    async def scene(place: Place, directory: Path) -> None:
        async with candidates(place, directory, 2) as (first, second):
            await until(lambda: first.leads or second.leads)
            leader, other = (first, second) if first.leads else (second, first)
            leader.wire.silence()
            await until(lambda: not leader.elector.leading)
            assert not other.elector.leading, "it has to wait longer than the leader"
            await until(lambda: leader.stops == 1 and other.leads)
            leader.wire.speak()
            await until(lambda: not leader.elector.problem)
            assert other.elector.leading and not leader.elector.leading
            assert (await spec(place))["holderIdentity"] == other.elector.identity
            assert other.elector.term == leader.elector.term + 1

    play(api, tmp_path, scene)


def test_a_machine_that_slept(api: Api, tmp_path: Path) -> None:
    """When it wakes up it does not lead, before it has asked anybody."""

    async def scene(place: Place, directory: Path) -> None:
        async with candidates(place, directory, 1) as (only,):
            await until(lambda: only.leads)
            only.skipped_s += 5.0
            assert not only.elector.leading and only.elector.remaining_s == 0
            await until(lambda: only.stops == 1 and only.leads)
            await until(lambda: len(only.terms) == 2)
            assert only.terms == [1, 2], "a leadership that was interrupted is not the same one"

    play(api, tmp_path, scene)


def test_a_renewal_that_is_confirmed_after_the_lease_ran_out(api: Api, tmp_path: Path) -> None:
    """For a moment it did not lead: what follows is another leadership, though nobody led in between."""

    async def scene(place: Place, directory: Path) -> None:
        await given_away(place)
        async with candidates(place, directory, 1, lease_s=10, renew_s=0.5) as (only,):
            await until(lambda: only.leads)
            only.wire.silence()
            await asyncio.sleep(0.8)  # the renewal is on its way
            only.skipped_s += only.elector.remaining_s + 0.05
            assert not only.elector.leading
            only.wire.speak()
            await until(lambda: only.elector.leading)
            assert only.elector.term == 3
            await until(lambda: only.terms == [2, 3])
            assert only.stops == 1

    play(api, tmp_path, scene)


def test_the_connection_is_cut_now_and_then(api: Api, tmp_path: Path) -> None:
    """A leader that is heard again in time remains the leader."""

    async def scene(place: Place, directory: Path) -> None:
        await given_away(place)
        async with candidates(place, directory, 2, lease_s=20, renew_s=0.1) as (first, second):
            await until(lambda: first.leads or second.leads)
            leader, other = (first, second) if first.leads else (second, first)
            for _ in range(5):
                leader.wire.cut()
                await asyncio.sleep(0.2)
            assert leader.terms == [2] and leader.stops == 0 and not other.terms

    play(api, tmp_path, scene)


def test_somebody_deletes_the_lease(api: Api, tmp_path: Path) -> None:
    """Nobody leads sooner than the leader knows, and no term is used twice, not even by who comes later."""

    async def scene(place: Place, directory: Path) -> None:
        written = [41]  # terms in annotations: whoever leads later reads them
        async with candidates(place, directory, 2, least_term=lambda: max(written)) as found:
            for last in (42, 43, 44):
                await until(lambda last=last: [last] in [each.terms[-1:] for each in found])
                assert sorted(term for each in found for term in each.terms) == list(range(42, last + 1))
                written.append(last)
                await place.cluster.delete(LEASES, place.namespace, LEASE)
                await until(lambda: not any(each.elector.leading for each in found))

    play(api, tmp_path, scene)


@pytest.mark.parametrize("content", [{}, {"spec": {"holderIdentity": "", "leaseTransitions": 6}}])
def test_a_lease_that_somebody_else_made(api: Api, tmp_path: Path, content: dict[str, Any]) -> None:
    async def scene(place: Place, directory: Path) -> None:
        await place.cluster.create(LEASES, place.namespace, {"metadata": {"name": LEASE}, **content})
        async with candidates(place, directory, 1) as (only,):
            await until(lambda: only.leads)
            assert only.terms == [content.get("spec", {}).get("leaseTransitions", 0) + 1]

    play(api, tmp_path, scene)


def test_a_lease_that_was_taken_by_force(api: Api, tmp_path: Path) -> None:
    """Against all rules, while the leader is well: it notices with its next renewal, and waits."""

    async def scene(place: Place, directory: Path) -> None:
        async with candidates(place, directory, 1) as (only,):
            await until(lambda: only.leads)
            await place.cluster.patch_merge(LEASES, place.namespace, LEASE, {"spec": {"holderIdentity": "a person"}})
            await until(lambda: only.stops == 1)
            await until(lambda: only.leads)
            assert only.terms == [1, 2]

    play(api, tmp_path, scene)


@pytest.mark.parametrize("seed", [1, 2])
def test_never_two_leaders(api: Api, tmp_path: Path, seed: int) -> None:
    """Three candidates, whose ways fall silent, break and come back at random, and who all sleep at times."""

    async def scene(place: Place, directory: Path) -> None:
        chance = random.Random(seed)
        async with candidates(place, directory, 3) as found:
            for _ in range(60):
                victim = chance.choice(found)
                fate = chance.choice(["silence", "speak", "speak", "cut", "refuse", "speak", "sleep"])
                if fate == "sleep":
                    slept_s = chance.choice([0.1, 2.0])
                    for each in found:
                        each.skipped_s += slept_s
                else:
                    getattr(victim.wire, fate)()
                await asyncio.sleep(chance.uniform(0.0, 0.25))
            terms = [term for each in found for term in each.terms]
            assert len(terms) == len(set(terms)) >= 3, "every leadership has a term of its own"
            for each in found:
                each.wire.speak()
            await until(lambda: any(each.leads for each in found))

    play(api, tmp_path, scene)


@pytest.mark.k8s
def test_a_lease_that_would_run_out_before_it_is_renewed() -> None:
    with pytest.raises(ValueError, match="renewed"):
        Elector(None, "n", LEASE, "me", lease_s=5, renew_s=4.0)  # type: ignore[arg-type]
