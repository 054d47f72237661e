"""What an agent may do: places count what is open beside the pod, and end in time (I1, I3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from hotswitch.agent.authority import NO_RIGHT, Grant, OwnAuthority, Right, surroundings
from hotswitch.agent.neighbours import Neighbours
from hotswitch.decide import Code, step
from hotswitch.model import (
    Capabilities,
    Direction,
    Level,
    Mode,
    PodRef,
    PodUid,
    Policy,
    Standing,
    View,
)
from tests.decide.scenes import NOW, dead

pytestmark = pytest.mark.unit

MAY = Policy(mode=Mode.AUTO, inbound=(Level.RESCUE, Level.HOLD))
OPEN = Standing(levels={Direction.INBOUND: Level.RESCUE, Direction.OUTBOUND: Level.HOLD}, recent_faults_s=(NOW - 99.0,))


@dataclass
class Guarded:
    pod: PodRef
    standing: Standing = field(default_factory=Standing)
    sick: bool = False


def pod(name: str, workload: str = "deploy/web", namespace: str = "shop") -> PodRef:
    return PodRef(name, namespace, PodUid(name), workload)


def noted(*guarded: Guarded) -> Neighbours:
    here = Neighbours()
    for each in guarded:
        here.note(each)
    return here


def codes(of: Guarded, others: list[Guarded], right: Right) -> list[str]:
    around = surroundings(of, noted(of, *others), right, now_s=NOW)
    able = Capabilities(rescue=True)
    decided = step(View(NOW, of.pod, MAY, dead(NOW), of.standing, able, around))[1]
    return [decided[0].code, decided[0].evidence.get("not inbound rescue", "").partition(" ")[0]]


@pytest.mark.parametrize(
    ("others", "right", "refused"),
    [
        ([], Right(node=1, namespace=1, workload=1), ""),
        ([], Right(node=1, namespace=1, workload=1, until_s=NOW + 60), ""),
        ([], NO_RIGHT, Code.GRANT_ENDED),
        ([], Right(node=1, namespace=1, workload=1, until_s=NOW), Code.GRANT_ENDED),
        ([], Right(node=1, namespace=1, workload=1, frozen="the mesh looks sick"), Code.FROZEN),
        ([], Right(node=1, namespace=1, workload=0), Code.WORKLOAD_BUDGET),
        ([Guarded(pod("b"), OPEN)], Right(node=9, namespace=9, workload=1), Code.WORKLOAD_BUDGET),
        ([Guarded(pod("b", "deploy/db"), OPEN)], Right(node=9, namespace=1, workload=1), Code.NAMESPACE_BUDGET),
        ([Guarded(pod("b", "deploy/db", "bank"), OPEN)], Right(node=1, namespace=1, workload=1), Code.NODE_BUDGET),
        ([Guarded(pod("b", "deploy/web", "bank"), OPEN)], Right(node=2, namespace=1, workload=1), ""),
    ],
)
def test_places(others: list[Guarded], right: Right, refused: str) -> None:
    told = codes(Guarded(pod("a"), sick=True), others, right)
    assert told == ([Code.HELD, refused] if refused else [Code.OPENED, ""])


def test_a_mate_on_another_node_falls_ill() -> None:
    """I3: the induced-bypass rule sees across nodes."""
    right = Right(node=9, namespace=9, workload=9, mates_fell_ill_s=(NOW - 20.0,))
    mine = Guarded(pod("a"))
    here = noted(mine, Guarded(pod("b"), OPEN))
    assert surroundings(mine, here, right, now_s=NOW).workload_fault_ages_s == (20.0, 99.0)


def test_neighbours_come_change_and_go() -> None:
    """I3: what each adds to the counts is what it added last, and nothing once it is gone."""
    mine, mate, other = Guarded(pod("a"), sick=True), Guarded(pod("b"), OPEN, sick=True), Guarded(pod("c", "deploy/db"))
    here = noted(mate, other)
    assert here.around(mine, now_s=NOW).pods_on_node == 3, "one that was not noted yet counts itself"
    here.note(mine)
    other.standing = OPEN
    here.note(other)
    found = here.around(mine, now_s=NOW)
    assert (found.open_on_node, found.open_of_workload, found.pods_on_node, found.faulty_on_node) == (2, 1, 3, 2)
    assert found.workload_fault_ages_s == (99.0,)
    mate.standing, mate.sick = Standing(), False
    here.note(mate)
    here.forget(other.pod.uid)
    found = here.around(mine, now_s=NOW)
    assert (found.open_on_node, found.open_of_workload, found.pods_on_node, found.faulty_on_node) == (0, 0, 2, 1)
    assert found.workload_fault_ages_s == ()


def test_the_file_is_read_again() -> None:
    own, told = OwnAuthority(), list[str]()
    own.attach(pod("a"), lambda: told.append("changed"))
    assert own.grant(PodUid("a")) is None
    own.give(PodUid("a"), Grant(version=1, policy=MAY))
    own.allow(replace(own.rights, node=0))
    assert (told, own.right(pod("a")).node) == (["changed"] * 2, 0)
    own.detach(PodUid("a"))
    own.give(PodUid("a"), Grant(version=2, policy=MAY))
    assert len(told) == 2
