"""What bounds a worker: budgets, and a mesh of which most looks sick (I3)."""

from __future__ import annotations

import asyncio

import pytest

from hotswitch.controller.surroundings import Limits
from hotswitch.decide.codes import Code
from hotswitch.model import Diagnosis, Fault, Grade
from tests.controller.world import (
    CLOSED,
    OPEN,
    World,
    leading,
    run,
)

pytestmark = pytest.mark.k8s


def test_two_pods_fall_ill_and_the_budget_is_one() -> None:  # I3
    async def story() -> None:
        world = World(limits=Limits(mesh=1, namespace=5, workload=5, node=99))
        uids = [world.add("web-0", "deploy/a"), world.add("web-1", "deploy/b")]
        world.lead()
        for uid in uids:
            world.kill(uid)
        await asyncio.gather(*(worker.turn() for worker in world.workers.values()))
        await world.turn(2)
        opened = [uid for uid in uids if world.levels(uid) == OPEN]
        assert len(opened) == 1
        held = next(uid for uid in uids if uid not in opened)
        assert any(n.code == Code.HELD and n.pod and n.pod.uid == held for n in world.notices)

    run(story)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(mesh=0, namespace=5, workload=5, node=99), Code.NODE_BUDGET),
        (Limits(mesh=5, namespace=0, workload=5, node=99), Code.NAMESPACE_BUDGET),
        (Limits(mesh=5, namespace=5, workload=0, node=99), Code.WORKLOAD_BUDGET),
    ],
)
def test_budget_is_full(limits: Limits, code: Code) -> None:  # I3
    async def story() -> None:
        world, uid = leading(limits=limits)
        world.kill(uid)
        await world.turn(3)
        assert world.levels(uid) == CLOSED
        held = next(notice for notice in world.notices if notice.code == Code.HELD)
        assert any(code in why for why in held.evidence.values())

    run(story)


def test_most_of_the_mesh_looks_sick() -> None:  # I3
    async def story() -> None:
        world = World(limits=Limits(mesh=9, namespace=9, workload=9, node=99), protected=5)
        uids = [world.add(f"web-{n}", f"deploy/{n}") for n in range(4)]
        world.lead()
        for uid in uids:
            world.kill(uid)
        for worker in world.workers.values():  # seen by all before anybody acts
            worker.diagnosis = Diagnosis(Fault.DEAD, Grade.CONFIRMED, "dead")
            world.neighbours.note(worker)
        await world.turn(2)
        assert [world.levels(uid) for uid in uids] == [CLOSED] * 4
        assert Code.MASS_FAILURE in world.codes()

    run(story)
