"""Capture is back, and the label cannot go back yet: what is done is done, and is told as what it was (S4.5, I8)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.tlsmode import Meshed
from hotswitch.api.status import PodStatus
from hotswitch.controller.pen import Pen
from hotswitch.controller.seen import SeenPod
from hotswitch.decide.codes import Code
from hotswitch.decide.preflight import Preflight
from hotswitch.model import Direction, Level, Mtls
from tests.controller.world import CLOSED, POLICY, Killed, Mischief, World, leading, run, server_error

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


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(_calls()))
def test_controller_is_killed_between_the_acts_of_one_opening(at: int, after: bool) -> None:  # I6
    """Outbound may be open by then; what the next one does about inbound is a change. Nothing is told twice."""

    async def story() -> None:
        world, uid = flipping()
        world.api.mischief = world.kernel.mischief = Mischief(at=at, after=after)
        for happens, level in ((world.kill, Level.DIRECT), (world.heal, Level.CAPTURE)):
            happens(uid)
            for _ in range(6):
                try:
                    await world.turn()
                except Killed:
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
