"""Openings that nothing in the kernel ends are not lost from sight: late commands, labels taken away (S4.3, I1, I4)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.order import Outcome
from hotswitch.api import names
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import lasting
from hotswitch.controller.seen import SeenPod
from hotswitch.decide.agree import Container
from hotswitch.decide.codes import Code
from hotswitch.model import Diagnosis, Direction, Fault, Grade, Level, Opening, ProbeOutcome
from tests.controller.world import CLOSED, OPEN, POLICY, Kernel, Mischief, World, leading, run, server_error

pytestmark = pytest.mark.unit
DIRECT = {way: Opening(Level.DIRECT) for way in Direction}


def by_exec(**fields: Any) -> tuple[World, str]:
    """A world in which the actuator's openings last."""
    made, uid = leading(kernel=Kernel(expires=False), **fields)
    return made, uid


def test_pod_leaves_the_mesh_while_it_is_open() -> None:
    """Its tlsMode label is taken away: no watch shows it any more, and its gate would stay open for good."""

    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        assert world.levels(uid) == OPEN
        world.left.add(uid)
        await world.turn()
        status = world.api.status(uid)
        assert world.levels(uid) == CLOSED and world.workers[uid].gone
        assert status is not None and set(status.levels.values()) <= {Level.CAPTURE, Level.HOLD}
        assert [line.event for line in world.journal].count("close") == 1

    run(story)


def test_pod_leaves_the_mesh_and_its_controller_dies() -> None:
    """The next one never saw it in the mesh: it finds it by the label that was written with the status."""

    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        assert world.levels(uid) == OPEN and world.api.pods[uid].labels[names.OPENED_BY_LABEL] == "helper"
        world.left.add(uid)
        world.lead()
        await world.turn()
        assert world.levels(uid) == CLOSED and world.workers[uid].gone
        assert names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_pod_leaves_the_mesh_its_controller_dies_and_its_status_is_garbled() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.left.add(uid)
        world.api.change(uid, annotations={names.STATUS: "garbled"})
        world.lead()
        await world.turn()
        status = world.api.status(uid)
        assert world.levels(uid) == CLOSED and world.workers[uid].gone and "HSC001" in world.codes()
        assert status is not None and not status.may_be_open
        assert names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_status_is_garbled_while_it_is_open_and_its_controller_dies() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.api.change(uid, annotations={names.STATUS: "garbled"})
        world.heal(uid)
        world.lead()
        await world.turn(4)
        assert world.levels(uid) == CLOSED and names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_pod_leaves_the_mesh_while_its_clean_up_may_still_run() -> None:
    """Closed again until no command can live any longer, whoever leads."""

    async def story() -> None:
        world, uid = by_exec()
        world.kernel.outcome = Outcome.UNKNOWN
        world.kill(uid)
        await world.turn()
        world.kernel.outcome = None
        world.left.add(uid)
        world.lead()
        await world.turn()
        worker = world.workers[uid]
        assert not worker.gone and not worker.at_rest and worker._pause_s() <= 1.0
        world.kernel.gate(uid).openings = dict(DIRECT)  # now
        await world.turn()
        assert world.levels(uid) == CLOSED and not worker.gone
        worker._lasting._doubt_until_s = asyncio.get_running_loop().time()
        await world.turn()
        assert worker.gone and names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_closed_behind_a_label_and_not_written_down() -> None:
    """The API server refuses the write: the pod would be closed by each leader anew, and never be said to be."""

    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.left.add(uid)
        world.lead()
        world.api.mischief = Mischief(at=1, what=server_error)  # does it exist?, then the write
        await world.turn()
        worker = world.workers[uid]
        assert world.levels(uid) == CLOSED and not worker.gone and not worker.at_rest
        await world.turn()
        assert worker.gone and names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_pod_comes_back_into_the_mesh() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.left.add(uid)
        world.kernel.outcome = Outcome.FAILED
        await world.turn()
        world.kernel.outcome = None
        world.left.clear()
        await world.turn(2)
        assert world.levels(uid) == OPEN and not world.workers[uid].gone, "it is as ill as before"

    run(story)


def test_pod_leaves_the_mesh_and_cannot_be_reached() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.left.add(uid)
        world.kernel.outcome = Outcome.FAILED
        await world.turn(2)
        assert not world.workers[uid].gone and world.levels(uid) == OPEN and "HSC003" in world.codes()
        world.kernel.outcome = None
        await world.turn()
        assert world.workers[uid].gone and world.levels(uid) == CLOSED

    run(story)


def test_pod_is_deleted_while_it_is_open() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        acts = len(world.kernel.gate(uid).log)
        del world.api.pods[uid]
        await world.turn()
        assert world.workers[uid].gone and len(world.kernel.gate(uid).log) == acts

    run(story)


def test_nobody_knows_whether_the_pod_is_gone() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.left.add(uid)

        async def away(pod: SeenPod) -> bool:
            raise ApiFailure(0, "ConnectionLost", "")

        world.api.exists = away  # type: ignore[method-assign]
        await world.turn()
        assert not world.workers[uid].gone

    run(story)


def test_pod_whose_gate_ends_by_itself_leaves_the_mesh() -> None:
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        await world.turn(2)
        acts = len(world.kernel.gate(uid).log)
        world.left.add(uid)
        await world.turn()
        assert world.workers[uid].gone and len(world.kernel.gate(uid).log) == acts

    run(story)


def test_hung_sidecar_is_opened_all_or_nothing() -> None:  # I8
    """Istio's commands end no flows, so none are said to have been ended."""

    async def story() -> None:
        levels = (Level.DIRECT, Level.HOLD)
        policy = replace(POLICY, inbound=levels, outbound=levels)
        world, uid = leading(kernel=Kernel(expires=False, all_or_nothing=True), policy=policy)
        world.api.change(uid, container=Container(running=True, ready=False, since_s=0.0, told="running, not ready"))
        world.far[uid] = ProbeOutcome.TIMEOUT
        world.kernel.beside = Diagnosis(Fault.HUNG, Grade.CORROBORATED, "hung", {}, 0.0)
        await world.turn(3)
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)
        events = [line.event for line in world.journal]
        assert "open" in events and "cut" not in events and not {"HSC003", Code.CUT} & set(world.codes())

    run(story)


def test_clean_up_comes_late() -> None:
    """Its answer was lost, the rules were as before when they were looked at, and then it ran after all."""

    async def story() -> None:
        world, uid = by_exec()
        world.kernel.outcome = Outcome.UNKNOWN
        world.kill(uid)
        await world.turn()
        world.kernel.outcome = None
        world.heal(uid)
        await world.turn(3)
        worker = world.workers[uid]
        assert world.levels(uid) == CLOSED and not worker.at_rest, "nobody would look any more"
        assert worker._pause_s() <= 1.0
        world.kernel.gate(uid).openings = dict(DIRECT)  # now
        await world.turn(4)
        assert world.levels(uid) == CLOSED
        assert worker.status is not None

    run(story)


def test_clean_up_comes_late_and_another_leads_by_then() -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kernel.outcome = Outcome.UNKNOWN
        world.kill(uid)
        await world.turn()
        world.kernel.outcome = None
        world.heal(uid)
        await world.turn()
        world.lead()
        await world.turn(2)
        assert not world.workers[uid].at_rest
        world.kernel.gate(uid).openings = dict(DIRECT)
        await world.turn(4)
        assert world.levels(uid) == CLOSED

    run(story)


def test_no_command_can_live_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world, uid = by_exec()
        world.kernel.outcome = Outcome.UNKNOWN
        world.kill(uid)
        await world.turn()
        world.kernel.outcome = None
        world.heal(uid)
        await world.turn(2)
        worker = world.workers[uid]
        now_s = asyncio.get_running_loop().time()
        assert lasting.LATE_S - 5 < worker._lasting._doubt_until_s - now_s <= lasting.LATE_S
        worker._lasting._doubt_until_s = now_s
        await world.turn(2)
        status = world.api.status(uid)
        assert status is not None and not status.under_way and not worker._lasting.in_doubt

    run(story)
