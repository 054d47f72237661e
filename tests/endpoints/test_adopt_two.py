"""Two controllers that elect their leader, and the leader loses its Lease in the middle of taking a Service over, or of
handing it back (S0.2, S4.4, I6): no gap, and never two who make its endpoints.

At each write of the leader in turn: the API server holds that write back, somebody deletes the controllers' Lease, and
the other one comes to lead and goes on. What the first one had sent is carried out then, by surprise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import connect
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease import Elector
from hotswitch.decide.endpoints.adopt import Verdict
from hotswitch.endpoints.adopter import Adopter, AdoptParts
from hotswitch.sandbox.kubeapi.request import Ask
from tests.endpoints.borough import Borough, borough
from tests.endpoints.town import PATIENCE_S, SYSTEM, story

pytestmark = pytest.mark.k8s
MASTERS = ("system:masters",)
WRITES = frozenset({"create", "update", "patch", "delete"})
LEASE, LEASE_S = "hotswitch-controller", 2
HELD_BACK_S = 4 * LEASE_S  # until another one has led for a while
NAMES = ("one", "two")
AT_ONCE = 6  # boroughs


class Held:
    """Counts the controllers' writes; the `at`th one, and all of the same controller for a while, are held back.
    `arrived`: that one is carried out."""

    def __init__(self, place: Borough, at: int | None) -> None:
        self._at, self.writes, self._admin = at, 0, place.admin
        self._who, self._ask = "", None  # type: tuple[str, Ask | None]
        self.struck, self.arrived = asyncio.Event(), asyncio.Event()
        self._faults = place.town.api.faults
        self._faults.slow(HELD_BACK_S, when=self._meets, lasts_s=HELD_BACK_S)
        self._faults.slow(0.0, when=self._arrives)  # looked at when the one before has let it go

    def _meets(self, ask: Ask) -> bool:
        if ask.user.name not in NAMES or ask.verb not in WRITES:
            return False
        self.writes += 1
        if self.writes == self._at:
            self._who, self._ask = ask.user.name, ask
            self.struck.set()
        return self.struck.is_set() and ask.user.name == self._who

    async def lose_the_lease(self) -> None:
        await self.struck.wait()
        await self._admin.delete(LEASES, SYSTEM, LEASE)

    def _arrives(self, ask: Ask) -> bool:
        if ask is self._ask:
            self.arrived.set()
        return False


@asynccontextmanager
async def controller(place: Borough, name: str, led: list[tuple[int, str]]) -> AsyncIterator[None]:
    """Elected as the real one is. `led`: told of each leadership, by term."""
    api = place.town.api
    async with (
        connect(api.kubeconfig(name, MASTERS)) as cluster,
        connect(api.kubeconfig(f"{name}-elector", MASTERS)) as electing,
    ):

        def tell(service: ServiceId, uid: str, verdict: Verdict, *, is_new: bool) -> None:
            if is_new:
                place.told.append((str(verdict.word), verdict.sentence))

        elector = Elector(electing, SYSTEM, LEASE, name, lease_s=LEASE_S, renew_s=0.5, retry_s=0.25)
        parts = AdoptParts(
            cluster=cluster,
            namespace=SYSTEM,
            leads=lambda: elector.leading,
            refusal=lambda namespace: place.refusal,
            tell=tell,
        )
        adopter = Adopter(parts)

        def lead(term: int) -> None:
            led.append((term, name))
            adopter.lead(term)

        tasks = [asyncio.create_task(adopter.run())]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await adopter.synced.wait()
            tasks.append(asyncio.create_task(elector.run(lead, adopter.follow)))
            yield
        finally:
            await adopter.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def pair(place: Borough) -> AsyncIterator[list[tuple[int, str]]]:
    """Two of them; the Lease was given away, so that one leads at once."""
    spec = {"holderIdentity": "", "leaseTransitions": 1}
    await place.admin.create(LEASES, SYSTEM, {"metadata": {"name": LEASE}, "spec": spec})
    led: list[tuple[int, str]] = []
    async with controller(place, "one", led), controller(place, "two", led):
        yield led


async def taking(place: Borough) -> None:
    await place.until_held()
    await place.until_read("web-0", "web-1")


async def handing_back(place: Borough) -> None:
    await place.well("web-1")
    await place.until_ordinary()
    await place.until_read("web-0", "web-1")


Work = Callable[[Borough], Awaitable[None]]


async def lost_at(work: Work, at: int | None) -> int:
    """How many writes `work` took; and whatever follows comes to its end."""
    async with borough() as place, pair(place) as led:
        if work is handing_back:
            await taking(place)
        held, before = Held(place, at), len(led)
        losing = asyncio.create_task(held.lose_the_lease())
        await work(place)
        losing.cancel()
        writes = held.writes
        if work is taking:
            await handing_back(place)
        if held.struck.is_set():
            async with asyncio.timeout(PATIENCE_S):
                await held.arrived.wait()
            assert len(led) > before, f"held back at write {at}: nobody else came to lead"
            await place.until_ordinary()
        await _judge(place, led, f"{work.__name__}, held back at write {at}: {place.told}")
        return writes


async def _judge(place: Borough, led: list[tuple[int, str]], what: str) -> None:
    assert place.never_gone("web-0"), what
    assert "HSE024" not in place.codes, f"taken for somebody else's: {what}"
    terms = [past.term for past in (await place.adoption()).history]
    assert terms == sorted(terms), f"an older one wrote over a newer one's record: {what}"
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(led)), f"a term was counted twice: {what}"


@pytest.mark.parametrize("work", [taking, handing_back])
def test_the_lease_is_lost_at_each_write(work: Work) -> None:  # I6
    @story
    async def run() -> None:
        count = await lost_at(work, None)
        assert count >= 3, "there are as many steps"
        places = asyncio.Semaphore(AT_ONCE)

        async def one(at: int) -> None:
            async with places:
                await lost_at(work, at)

        await asyncio.gather(*(one(at) for at in range(1, count + 1)))

    run()
