"""An act was carried out, and whoever wanted it could not say so: killed, or its answer was lost (I1, I6, I8).

It is told as what it was, once for everybody who reads, whoever tells it. Only what the pod shows is believed of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from hotswitch.api import names
from hotswitch.api.status import PodStatus, encode
from hotswitch.controller.carried import told_lately
from hotswitch.controller.memory import instant
from hotswitch.controller.seen import LATELY_S, spoke_lately
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Fault, Level, Opening
from tests.controller.world import (
    CLOSED,
    OPEN,
    POLICY,
    SHIFT_S,
    Kernel,
    Killed,
    Mischief,
    World,
    ends,
    leading,
    lost,
    run,
    server_error,
)

pytestmark = pytest.mark.k8s


async def killed(world: World, *, after: bool = True) -> None:
    """At its next order, once that was carried out (or `after` False: before it was); another one leads then."""
    world.kernel.mischief = Mischief(at=1, after=after)  # ability, then the act
    with pytest.raises(Killed):
        await world.turn()
    world.kernel.mischief = Mischief()
    world.term = (world.term or 0) + 1
    world.lead()


def told(world: World) -> Counter[str]:
    """What was told of acts: the same of the same instant is one Event."""
    return Counter(code for code, _, _ in {(each.code, each.starts_unix_s, each.resolved) for each in world.notices})


def journalled(world: World) -> list[tuple[str, str]]:
    return [(line.event, line.code) for line in world.journal if not line.failed]


def test_killed_when_it_had_opened() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await killed(world)
        assert world.levels(uid) == OPEN and not world.journal
        await world.turn(2)
        assert journalled(world) == [("open", Code.OPENED)] and ends(world, Code.OPENED) == [False]
        (line,) = world.journal
        assert line.who == "hotswitch" and line.generation == 1 and "inbound rescue" in line.rules_after
        assert "told by nobody" in line.evidence["found"]
        status = world.api.status(uid)
        assert status is not None and not status.under_way and not status.after and Code.OPENED in status.alerts
        assert world.kernel.gates[uid].log == [1]
        world.heal(uid)
        await world.turn(4)
        assert world.levels(uid) == CLOSED and ends(world, Code.OPENED) == [False, True]
        assert Code.RESTORED in world.codes() and Code.EXPIRED not in world.codes()

    run(story)


def test_killed_when_it_had_restored() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        world.heal(uid)
        await killed(world)
        assert world.levels(uid) == CLOSED
        await world.turn(2)
        assert journalled(world) == [("open", Code.OPENED), ("close", Code.RESTORED)]
        assert told(world)[Code.OPENED] == 2 and Code.EXPIRED not in world.codes()  # its beginning and its end
        status = world.api.status(uid)
        assert status is not None and not status.under_way and not status.alerts and status.code == Code.RESTORED

    run(story)


@pytest.mark.parametrize("heals", [False, True])
def test_killed_before_it_was_carried_out(heals: bool) -> None:
    """What was only written down is not told: it is decided anew."""

    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        if heals:
            await world.turn(2)
            world.heal(uid)
        await killed(world, after=False)
        await world.turn(3)
        assert told(world)[Code.OPENED] == (2 if heals else 1) and told(world)[Code.RESTORED] == heals
        assert Code.EXPIRED not in world.codes() and world.levels(uid) == (CLOSED if heals else OPEN)

    run(story)


def test_killed_when_it_had_told_and_not_yet_written() -> None:
    """Its Event may be there: it is told of the same instant, and so it stays one."""

    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        world.api.mischief = Mischief(at=1)  # the write-ahead, then what stands
        with pytest.raises(Killed):
            await world.turn()
        world.api.mischief = Mischief()
        world.lead()
        await world.turn(2)
        assert len(ends(world, Code.OPENED)) == 2 and told(world)[Code.OPENED] == 1

    run(story)


@pytest.mark.parametrize("after", [False, True])
def test_killed_as_it_wrote_down_that_nothing_was_done(after: bool) -> None:
    """Nobody is told before it is written down, so nobody is told twice."""

    async def story() -> None:
        world, uid = leading(policy=replace(POLICY, inbound=(Level.HOLD,), outbound=(Level.HOLD,)))
        world.kill(uid)
        world.api.mischief = Mischief(at=0, after=after)
        with pytest.raises(Killed):
            await world.turn()
        world.api.mischief = Mischief()
        world.lead()
        await world.turn(2)
        assert told(world)[Code.HELD] == 1 and ("hold", Code.HELD) in journalled(world)
        status = world.api.status(uid)
        assert status is not None and Code.HELD in status.alerts

    run(story)


def test_rescue_dies_twice_beside_a_helper() -> None:  # I3
    """What the helper counts is what a person is called for."""

    async def story() -> None:
        world, uid = leading(policy=replace(POLICY, inbound=(Level.RESCUE, Level.HOLD), outbound=(Level.HOLD,)))
        world.kill(uid)
        await world.turn(2)
        assert world.levels(uid) != CLOSED
        world.kernel.rescue_deaths = 2
        await world.turn(2)
        assert world.levels(uid) == CLOSED and ends(world, Code.RESCUE_DIED_TWICE) == [False]
        assert Code.CLOSED_NO_LEVEL in world.codes()

    run(story)


def test_nothing_can_be_written_and_people_hear_of_it_all_the_same() -> None:
    async def story() -> None:
        world, uid = leading(policy=replace(POLICY, inbound=(Level.HOLD,), outbound=(Level.HOLD,)))
        world.kill(uid)
        world.api.mischief = Mischief(at=0, what=server_error)
        await world.turn()
        assert Code.HELD not in world.codes()
        await world.turn()
        assert ends(world, Code.HELD) == [False]
        world.api.mischief = Mischief()
        await world.turn(2)
        assert ends(world, Code.HELD) == [False]

    run(story)


def test_killed_when_it_had_opened_and_a_person_is_needed() -> None:
    """What was decided with the act was not told with it: whoever goes on decides it again."""

    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        world.heal(uid)
        await world.turn(4)
        world.kill(uid)
        await killed(world)
        assert Code.FAULT_AGAIN not in world.codes() and world.levels(uid) == OPEN
        await world.turn(3)
        assert told(world)[Code.FAULT_AGAIN] == 1 and ("page", Code.FAULT_AGAIN) in journalled(world)
        assert journalled(world).count(("open", Code.OPENED)) == 2

    run(story)


def test_answer_was_lost() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        world.kernel.mischief = Mischief(at=1, after=True, what=lost)
        await world.turn(3)
        assert journalled(world)[-1] == ("open", Code.OPENED) and told(world)[Code.OPENED] == 1
        assert world.kernel.gates[uid].log == [1], "it was so already"

    run(story)


def test_told_once_while_nothing_can_be_written() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await killed(world)
        world.api.mischief = Mischief(at=0, what=server_error)
        await world.turn(3)
        assert journalled(world) == [("open", Code.OPENED)] and ends(world, Code.OPENED) == [False]
        status = world.api.status(uid)
        assert status is not None and not status.under_way

    run(story)


def test_opening_ran_out_while_nobody_led() -> None:
    """It was opened, and it ran out: both are told."""

    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await killed(world)
        world.kernel.gates[uid].ends_s = asyncio.get_running_loop().time()
        world.heal(uid)
        await world.turn(3)
        assert world.levels(uid) == CLOSED
        assert told(world)[Code.OPENED] == 2 and told(world)[Code.EXPIRED] >= 1  # its beginning and its end
        assert [code for _, code in journalled(world)][:2] == [Code.OPENED, Code.EXPIRED]

    run(story)


def test_history_of_the_opening_are_known() -> None:  # I3
    """It is not opened a second time, and the fault counts towards the hold-down as though nobody had been killed."""

    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await killed(world)
        await world.turn(2)
        standing = world.workers[uid].standing
        assert standing.fault is Fault.DEAD and len(standing.recent_faults_s) == 1 and standing.hold_down_s > 0
        assert not standing.rebuilt and world.kernel.gates[uid].log == [1]

    run(story)


def test_opened_in_part() -> None:
    """Its other direction is a further act."""

    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await killed(world)
        world.kernel.gates[uid].openings = {Direction.OUTBOUND: Opening(Level.DIRECT)}
        await world.turn(2)
        assert world.levels(uid) == OPEN
        assert [code for _, code in journalled(world)] == [Code.OPENED, Code.CHANGED]

    run(story)


def test_commands_that_leave_no_generation() -> None:  # S4.3b
    """What Istio's commands did is known by the rules alone: as wanted, and not so before."""

    async def story() -> None:
        world, uid = leading(kernel=NoGeneration(expires=False))
        world.kill(uid)
        await killed(world)
        await world.turn(3)
        assert journalled(world) == [("open", Code.OPENED)] and world.levels(uid) == OPEN
        worker = world.workers[uid]
        worker._lasting._doubt_until_s = asyncio.get_running_loop().time()
        await world.turn()
        assert not world.api.status(uid).under_way  # type: ignore[union-attr]
        world.heal(uid)
        await killed(world)
        await world.turn(3)
        assert journalled(world)[1:] == [("close", Code.RESTORED)] and world.levels(uid) == CLOSED

    run(story)


def test_commands_are_taken_back_while_they_are_still_in_doubt() -> None:
    """What stood before the restore was never written down as what stands; it is what was restored from."""

    async def story() -> None:
        world, uid = leading(kernel=NoGeneration(expires=False))
        world.kill(uid)
        await killed(world)
        await world.turn(3)
        assert world.api.status(uid).under_way and world.levels(uid) == OPEN  # type: ignore[union-attr]
        world.heal(uid)
        await killed(world)
        await world.turn(3)
        assert journalled(world) == [("open", Code.OPENED), ("close", Code.RESTORED)] and world.levels(uid) == CLOSED
        assert told(world)[Code.RESTORED] == 1

    run(story)


class NoGeneration(Kernel):
    def truth(self, uid: str):  # type: ignore[no-untyped-def]
        return replace(super().truth(uid), generation=0)


@pytest.mark.parametrize(
    "forged",
    [
        {"code": "HSX999"},
        {"code": ""},
        {"generation": 7},
        {"wanted": {}},
        {"after": {}},
        {"after": {"opened_s": "nan", "fault": "dead"}},
    ],
    ids=str,
)
def test_somebody_writes_of_an_act_that_nobody_wanted(forged: dict[str, object]) -> None:  # I2
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await killed(world)
        text = msgspec.json.decode(world.api.pods[uid].annotations[names.STATUS])
        world.api.change(uid, annotations={names.STATUS: msgspec.json.encode({**text, **forged}).decode()})
        await world.turn(3)
        assert world.levels(uid) == OPEN and ("open", Code.OPENED) not in journalled(world)[:1]
        world.heal(uid)
        await world.turn(4)
        assert world.levels(uid) == CLOSED and not world.api.status(uid).under_way  # type: ignore[union-attr]

    run(story)


def test_nothing_that_was_written_of_it_outlasts_the_policy() -> None:  # I2, I4
    async def story() -> None:
        world, uid = leading(policy=replace(POLICY, expiry_s=5.0))
        world.kill(uid)
        await killed(world)
        text = msgspec.json.decode(world.api.pods[uid].annotations[names.STATUS])
        text["after"]["expires_s"] += 86400.0
        world.api.change(uid, annotations={names.STATUS: msgspec.json.encode(text).decode()})
        await world.turn()
        expires_s = world.workers[uid].standing.expires_s
        assert expires_s is not None and expires_s <= asyncio.get_running_loop().time() + 5.0

    run(story)


def test_killed_when_it_had_written_and_nobody_had_heard() -> None:
    """Events and alerts go out on their own; what they were to say is said again, of the same instant."""

    async def story() -> None:
        world, uid = leading()
        for happens, code in ((world.kill, Code.OPENED), (world.heal, Code.RESTORED)):
            happens(uid)
            await world.turn(2)
            before = [(each.code, each.starts_unix_s, each.severity) for each in world.notices]
            world.notices.clear()
            world.lead()
            await world.turn(2)
            again = [(each.code, each.starts_unix_s, each.severity) for each in world.notices]
            assert again == [each for each in before if each[0] == code and each in again] and again
        assert [code for _, code in journalled(world)] == [Code.OPENED, Code.RESTORED]

    run(story)


def test_what_was_told_a_while_ago_is_not_told_again() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        world.notices.clear()
        text, ago = world.api.pods[uid].annotations[names.STATUS], instant(-LATELY_S, SHIFT_S)
        told_at = msgspec.json.decode(text)["at"]
        world.api.change(uid, annotations={names.STATUS: text.replace(told_at, ago)})
        world.lead()
        await world.turn(2)
        assert not world.notices

    run(story)


@pytest.mark.parametrize("age_s", [0.0, 59.0, -59.0, 61.0, 86400.0])
def test_pod_that_was_acted_on_lately_gets_a_worker(age_s: float) -> None:
    now = 1_800_000_000.0
    text = encode(PodStatus(uid="x", why='"at":"never"', at=instant(now - age_s, 0.0)))
    assert spoke_lately(text, now) is (abs(age_s) <= LATELY_S)


@pytest.mark.parametrize("at", ["", "soon", "0001-01-01T00:00:00+23:00", "9" * 50])
def test_instant_that_nobody_wrote_hires_nobody(at: str) -> None:
    assert not spoke_lately(f'{{"uid":"x","at":"{at}"}}', 1_800_000_000.0)


def test_killed_while_the_label_goes_back() -> None:
    """Capture was restored by then, and is told; that what is under way will tell is not."""
    at = instant(0.0, SHIFT_S)
    status = PodStatus(uid="x", step="mtls-eds", code=Code.RESTORED, why="restored", at=at)
    assert told_lately(status, SHIFT_S) == [(Code.RESTORED, at, "restored")]
    begun = PodStatus(uid="x", step="gate", code=Code.RESTORED, at=at, wanted={Direction.INBOUND: Level.CAPTURE})
    assert told_lately(begun, SHIFT_S) == []
