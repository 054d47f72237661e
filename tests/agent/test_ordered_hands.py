"""A drill by order takes back what it has opened, and nothing else (S4.4, I4, I6). In the kernel: test_helper_drill."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from hotswitch.agent.ordered import OrderedGuard
from hotswitch.agent.ordered_drill import OrderedHands
from hotswitch.api.orders import OrderText
from hotswitch.model import Direction, Fault, Generation, Level, Standing

pytestmark = pytest.mark.unit

OPEN = Standing(
    generation=Generation(7), levels={Direction.INBOUND: Level.RESCUE, Direction.OUTBOUND: Level.CAPTURE}, opened_s=1.0
)
ORDER = OrderText(uid="u", generation=7)


class Guard:
    """Obeys every order, unless `first` has come before with the same generation and the same gate."""

    closed = False

    def __init__(self, first: OrderText | None = None) -> None:
        self.obeyed, self.standing = first, OPEN if first is not None else Standing()
        self.orders: list[OrderText] = []

    async def order(self, order: OrderText) -> None:
        self.orders.append(order)
        if self.obeyed is None or order.generation > self.obeyed.generation:
            self.obeyed, self.standing = order, OPEN if order.openings else Standing(generation=Generation(8))


def drilled(guard: Guard, fault: Fault = Fault.WELL) -> list[OrderText]:
    async def story() -> None:
        hands = OrderedHands(cast(OrderedGuard, guard), ORDER)
        await hands.open(7.0, "drill, 2 s")
        guard.standing = replace(guard.standing, fault=fault)
        await hands.close()

    asyncio.run(story())
    return guard.orders


def test_what_it_opened_is_closed() -> None:
    opening, closing = drilled(Guard())
    assert (opening.generation, opening.expiry_s, list(opening.openings)) == (7, 7.0, [Direction.INBOUND])
    assert (closing.generation, closing.openings) == (8, {})


def test_an_order_of_the_same_generation_that_came_during_the_trial_stands() -> None:
    (opening,) = drilled(Guard(OrderText(uid="u", generation=7, expiry_s=60.0)))
    assert opening.openings


def test_a_fault_keeps_it_open() -> None:
    assert len(drilled(Guard(), Fault.DEAD)) == 1
