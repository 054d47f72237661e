"""An agent comes to a pod that is open by what nothing but a controller closes (I1, I2)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hotswitch.act.order import Outcome
from hotswitch.api import names
from hotswitch.model import Diagnosis, Direction, Fault, Generation, Grade, Level, Standing
from tests.controller.test_lasting import DIRECT, by_exec
from tests.controller.world import CLOSED, OPEN, run

pytestmark = pytest.mark.unit


DEAD_THERE = Diagnosis(Fault.DEAD, Grade.CORROBORATED, "dead", {}, 0.0)


WELL_THERE = Diagnosis(Fault.WELL, Grade.NONE, "well")


def test_an_agent_comes_while_it_is_open() -> None:  # S4.3, I1, I2, I4
    """The agent finds no capture to open and says that its gate is shut: nobody would ever put capture back."""

    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.agent_says(uid, DEAD_THERE)
        await world.turn(2)
        worker, status = world.workers[uid], world.api.status(uid)
        assert world.levels(uid) == OPEN and worker.counts_as_open and not worker.mirrors
        assert status is not None and status.may_be_open
        assert world.api.pods[uid].labels[names.OPENED_BY_LABEL] == "helper"
        world.lead()  # nor does the next one forget it
        world.heal(uid)
        world.agent_says(uid, WELL_THERE)
        await world.turn(4)
        assert world.levels(uid) == CLOSED and world.workers[uid].mirrors
        assert names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_an_agent_comes_and_the_clean_up_comes_late() -> None:  # I1, I2
    """Nothing is begun beside the agent, and what the command has done after all is ended."""

    async def story() -> None:
        world, uid = by_exec()
        world.kernel.outcome = Outcome.UNKNOWN
        world.kill(uid)
        await world.turn()
        world.kernel.outcome = None
        world.lead()
        world.agent_says(uid, DEAD_THERE)
        await world.turn(3)
        worker = world.workers[uid]
        assert world.levels(uid) == CLOSED and not worker.mirrors
        world.kernel.gate(uid).openings = dict(DIRECT)  # now
        world.heal(uid)
        await world.turn(4)
        assert world.levels(uid) == CLOSED
        worker._lasting._doubt_until_s = asyncio.get_running_loop().time()
        await world.turn(2)
        assert worker.mirrors and names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


def test_an_agent_has_opened_and_its_line_is_late() -> None:  # I2
    """The opening is not taken for one by commands, which were the last that acted here."""

    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.heal(uid)
        await world.turn(4)
        acts = len(world.kernel.gate(uid).log)
        levels = dict.fromkeys(Direction, Level.DIRECT)
        world.agent_says(uid, DEAD_THERE, replace(Standing(), levels=levels, generation=Generation(99)))
        world.kill(uid)
        await world.turn(2)
        status = world.api.status(uid)
        assert world.workers[uid].mirrors and len(world.kernel.gate(uid).log) == acts
        assert status is not None and status.actuator == "agent"
        assert names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)


@pytest.mark.parametrize("in_the_mesh", [True, False])
def test_the_next_controller_is_not_given_the_actuator(in_the_mesh: bool) -> None:  # I1, I8
    """Nobody closes what it opened: that is said, it counts as open, and is closed once the actuator is back."""

    async def story() -> None:
        world, uid = by_exec()
        world.kill(uid)
        await world.turn(2)
        world.heal(uid)
        world.left = set() if in_the_mesh else {uid}
        world.offered = False
        world.notices.clear()
        world.lead()
        await world.turn(3)
        worker, status = world.workers[uid], world.api.status(uid)
        said = [each.sentence for each in world.notices if each.code == "HSC003"]
        assert len(said) == 1 and "label hotswitch.io/opened-by: 'helper'" in said[0]
        assert not worker.gone and not worker.at_rest and worker.counts_as_open
        assert world.levels(uid) == OPEN and status is not None and status.may_be_open
        assert world.api.pods[uid].labels[names.OPENED_BY_LABEL] == "helper"
        world.offered = True
        world.lead()
        await world.turn(4)
        assert world.levels(uid) == CLOSED and names.OPENED_BY_LABEL not in world.api.pods[uid].labels

    run(story)
