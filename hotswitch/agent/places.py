"""The places that an agent has on lease: how many pods it may have open, until when, and what holds it back (I1, I3).

What is decided on them is decide.grants.Lease's; this is the same in words of the link, and on the loop's clock. The
lease itself counts on the boot clock, which goes on while a machine sleeps and is the same for the next process.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from hotswitch.agent.authority import NO_RIGHT, Right
from hotswitch.agent.kept import Memory, boot_s
from hotswitch.api.agent.checked import count, seconds
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.decide.grants import Allotment, Lease, Scope, scopes_of
from hotswitch.model import PodRef

LIFE_AT_MOST_S = 3600.0
BEATS_SKIPPED = 2**20
"""By a process that goes on with what another one remembered: that one has sent more than it had written down."""


class Places:
    def __init__(self) -> None:
        self.lease = Lease()
        self._frozen = ""
        self._mates: dict[Scope, tuple[float, ...]] = {}

    def take_up(self, memory: Memory) -> None:
        """What a predecessor had."""
        self.lease = Lease(
            term=memory.term, serial=memory.serial, acts_on=memory.acts_on, beats=memory.beats + BEATS_SKIPPED,
            ends_s=memory.ends_boot_s if memory.places else -math.inf,
            places={Scope(name): number for name, number in memory.places.items()},
        )  # fmt: skip

    @property
    def is_alive(self) -> bool:
        return self.lease.ends_s > boot_s()

    def right(self, pod: PodRef, used: Mapping[Scope, int]) -> Right:
        """`used`: how many are open here."""
        scopes = scopes_of(pod)
        places = self.lease.places
        if not places:
            return NO_RIGHT
        mesh, near, own = (places.get(scope, 0) for scope in scopes)
        return Right(
            node=mesh,
            namespace=near,
            workload=own,
            until_s=self.lease.until_s(scopes, used) - boot_s() + asyncio.get_running_loop().time(),
            frozen=self._frozen,
            mates_fell_ill_s=self._mates.get(scopes[2], ()),
        )

    def take(self, message: wire.Allotment) -> bool:
        """Whether a guard may have to do something else now. Raises Malformed, Refused."""
        before = self.lease.places
        allotment = _allotment(message)
        self.lease.take(allotment)
        mates = _mates(message)
        moved = (before, self._frozen, mates.keys()) != (allotment.places, message.frozen, self._mates.keys())
        self._frozen, self._mates = message.frozen, mates
        return moved

    # ---- as they are told and kept ----

    @property
    def acts_on(self) -> wire.Order:
        return wire.Order(term=self.lease.acts_on[0], serial=self.lease.acts_on[1])

    def named(self) -> dict[str, int]:
        return in_words(self.lease.places)

    def beat(self, used: Mapping[Scope, int], dropped: int) -> wire.Beat:
        return wire.Beat(number=self.lease.beat(boot_s()), acts_on=self.acts_on, used=in_words(used), dropped=dropped)


def in_words(places: Mapping[Scope, int]) -> dict[str, int]:
    return {str(scope): number for scope, number in places.items()}


def _allotment(message: wire.Allotment) -> Allotment:
    """Raises Malformed."""
    return Allotment(
        term=message.term,
        serial=message.serial,
        beat=message.beat,
        life_s=seconds("life_s", message.life_s, at_most=LIFE_AT_MOST_S),
        places={Scope(name): count("places", number, 10**6) for name, number in message.places.items()},
    )


def _mates(message: wire.Allotment) -> dict[Scope, tuple[float, ...]]:
    """When pods of a workload fell ill elsewhere (the loop's clock). Raises Malformed."""
    now_s = asyncio.get_running_loop().time()
    return {
        Scope(each.workload): tuple(now_s - seconds("mates", age_s) for age_s in each.ages_s) for each in message.mates
    }
