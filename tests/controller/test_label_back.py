"""Capture is back, and the label cannot go back yet: what is done is done, and is told as what it was (S4.5, I8)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.steps import step_failed
from hotswitch.act.tlsmode import Meshed
from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.pen import Pen
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.switch import PATIENCE_MOST_S, PATIENCE_S
from hotswitch.controller.telling import ACT_FAILED
from hotswitch.decide.codes import Code
from hotswitch.decide.preflight import Preflight
from hotswitch.model import Direction, Level, Mtls
from tests.controller.world import CLOSED, POLICY, Killed, Mischief, World, leading, lost, run, server_error

pytestmark = pytest.mark.k8s
ACTS = (Code.OPENED, Code.CHANGED, Code.RESTORED, Code.EXPIRED)


def flipping() -> tuple[World, str]:
    """A pod that has no label, so that nobody has to be told, and whose inbound opens by `direct` alone."""

    def meshed(pod: Any, label: str | None, generation: int) -> Meshed:
        nobody: Any = None
        return Meshed(
            cluster=nobody, clients=nobody, pod=pod.ref, addresses=frozenset(), label_before=label,
            generation=generation,
        )  # fmt: skip

    policy = replace(POLICY, inbound=(Level.DIRECT,))
    preflight = Preflight(findings=(), mtls=Mtls.PERMISSIVE, flip=True)
    world, uid = leading(policy=policy, preflight=preflight, meshed=meshed)
    world.api.change(uid, labels={})
    return world, uid


def test_api_server_fails_as_the_label_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was restored. It has not run out, which is what people would be told of an opening that nobody has closed."""

    async def story() -> None:
        world, uid = flipping()
        world.kill(uid)
        await world.turn(6)
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)
        assert world.codes().count(Code.OPENED) == 1, "outbound first, then both: one act"
        known = Pen.turn_to_newest

        async def failing(_: Pen) -> None:
            raise server_error()

        monkeypatch.setattr(Pen, "turn_to_newest", failing)
        world.heal(uid)
        await world.turn(4)
        assert world.levels(uid) == CLOSED
        monkeypatch.setattr(Pen, "turn_to_newest", known)
        await world.turn(4)
        status = world.api.status(uid)
        assert status is not None and status.tls_mode_before is None and not status.under_way
        codes = world.codes()
        assert codes.count(Code.RESTORED) == 1 and Code.EXPIRED not in codes, codes

    run(story)


def _calls() -> int:
    async def count() -> int:
        world, uid = flipping()
        shared = world.api.mischief = world.kernel.mischief = Mischief()
        for happens in (world.kill, world.heal):
            happens(uid)
            await world.turn(6)
        return shared.calls

    return asyncio.run(count())


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(_calls()))
def test_controller_is_killed_between_the_acts_of_one_opening(at: int, after: bool, heard: bool) -> None:  # I6, I8
    """Outbound may be open by then; what the next one does about inbound is a change. Nothing is told twice, and
    nothing never: what the killed one said in its last turn may not have left its process (`heard`)."""

    async def story() -> None:
        world, uid = flipping()
        world.api.mischief = world.kernel.mischief = Mischief(at=at, after=after)
        for happens, level in ((world.kill, Level.DIRECT), (world.heal, Level.CAPTURE)):
            happens(uid)
            for _ in range(6):
                told_before = len(world.notices)
                try:
                    await world.turn()
                except Killed:
                    if not heard:
                        del world.notices[told_before:]
                    world.term = (world.term or 0) + 1
                    world.lead()
            assert world.levels(uid) == (level, level)
        acts = {(each.starts_unix_s, each.code) for each in world.notices if not each.resolved}
        told = [code for _, code in sorted(acts) if code in ACTS]
        assert told in ([Code.OPENED, Code.RESTORED], [Code.OPENED, Code.CHANGED, Code.RESTORED])
        status = world.api.status(uid)
        assert status is not None and status.tls_mode_before is None and not status.under_way

    run(story)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(_calls()))
def test_a_status_at_rest_says_of_inbound_what_stands(
    at: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # I6, I8
    """Whatever fails between the two acts: that outbound was opened proves nothing of inbound."""

    async def story() -> None:
        world, uid = flipping()
        world.api.mischief = world.kernel.mischief = Mischief(at=at, after=after, what=server_error)
        write = world.api._write

        def watched(pod: SeenPod, status: PodStatus, condition: Mapping[str, Any] | None) -> str:
            if not status.under_way:
                assert status.levels[Direction.INBOUND] is world.levels(uid)[0]
            return write(pod, status, condition)

        monkeypatch.setattr(world.api, "_write", watched)
        world.kill(uid)
        await world.turn(6)
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)

    run(story)


def test_kubelet_writes_the_pod_during_each_act() -> None:  # I6, I8
    """One in a crash loop changes all the time: inbound is opened all the same, and each act is told once."""

    async def story() -> None:
        world, uid = flipping()
        world.kernel.meanwhile = lambda uid: world.api.change(uid)
        world.kill(uid)
        await world.turn()
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)
        await world.turn(2)
        assert [line.event for line in world.journal if line.code == Code.OPENED] == ["open", "open"]
        assert world.codes().count(Code.OPENED) == 1

    run(story)


def test_answer_about_outbound_was_lost() -> None:
    """It is looked at before anything else is done, and told as the act that it was."""

    async def story() -> None:
        world, uid = flipping()
        world.kernel.mischief = Mischief(at=1, after=True, what=lost)  # ability, then the act
        world.kill(uid)
        await world.turn()
        assert world.levels(uid) == (Level.CAPTURE, Level.DIRECT)
        status = world.api.status(uid)
        assert status is not None and status.under_way and status.tls_mode_before is None
        await world.turn(3)
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)
        acts = [code for code in world.codes() if code in ACTS]
        assert acts == [Code.OPENED, Code.CHANGED]

    run(story)


def test_status_cannot_be_written_once_outbound_is_open(monkeypatch: pytest.MonkeyPatch) -> None:  # I8
    """What this controller has told itself it does not find told by nobody."""

    async def story() -> None:
        world, uid = flipping()
        known = Pen.turn_to_newest

        async def failing(_: Pen) -> None:
            raise server_error()

        monkeypatch.setattr(Pen, "turn_to_newest", failing)
        world.kill(uid)
        await world.turn(2)
        monkeypatch.setattr(Pen, "turn_to_newest", known)
        await world.turn(2)
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)
        assert not [line for line in world.journal if "told by nobody" in line.evidence.get("found", "")]
        assert world.codes().count(Code.OPENED) == 1

    run(story)


def test_right_to_tell_clients_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:  # S4.3, I8
    """Named as such; inbound falls to the next level, and once it was said twice nobody tries for long."""

    async def story() -> None:
        world, uid = flipping()
        asked = 0

        async def refused(*_: object) -> None:
            nonlocal asked
            asked += 1
            raise step_failed("the label", "patch pods/status in namespace shop", ApiFailure(403, "Forbidden", "no"))

        monkeypatch.setattr("hotswitch.controller.switch.carry_out", refused)
        world.kill(uid)
        switch = world.workers[uid]._switch
        for expected in (PATIENCE_S, PATIENCE_MOST_S):
            await world.turn(3)
            assert world.levels(uid) == (Level.CAPTURE, Level.DIRECT)
            left_s = switch._telling._until_s - asyncio.get_running_loop().time()
            assert expected - PATIENCE_S / 2 < left_s <= expected
            switch._telling._until_s = float("-inf")
        told = [each.sentence for each in world.notices if each.code == ACT_FAILED]
        assert told and all("hotswitch may not patch pods/status in namespace shop" in each for each in told)
        assert world.api.status(uid).levels[Direction.INBOUND] is Level.HOLD  # type: ignore[union-attr]

    run(story)
