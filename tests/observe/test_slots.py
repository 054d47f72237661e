"""One timer for many watches."""

import asyncio

import pytest

from hotswitch.observe.slots import SLOT_S, slots_of

pytestmark = pytest.mark.unit


def test_one_fails_and_the_others_of_its_slot_are_called() -> None:
    called, failures = [], []

    def fail() -> None:
        raise ValueError("of its own making")

    async def scenario() -> None:
        loop, last = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, told: failures.append(told["exception"]))
        slots, at_s = slots_of(loop), loop.time() + SLOT_S
        assert slots_of(loop) is slots
        dues = [slots.call_at(at_s, call) for call in (fail, lambda: called.append("no"), lambda: called.append("yes"))]
        dues[1].cancel()
        assert all(at_s <= due.when() < at_s + SLOT_S * 1.01 for due in dues)
        slots.call_at(at_s + SLOT_S, last.set)
        await asyncio.wait_for(last.wait(), 30)
        assert loop.time() >= dues[0].when()

    asyncio.run(scenario())
    assert called == ["yes"] and [str(failure) for failure in failures] == ["of its own making"]
