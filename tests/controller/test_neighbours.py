"""Counts that are kept say the same as counting anew, whatever became of whom in which order (I3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.controller.surroundings import Limits, Neighbours
from hotswitch.model import PodRef, PodUid, Standing, Surroundings

pytestmark = pytest.mark.unit
LIMITS = Limits(mesh=5, namespace=4, workload=3, node=2)
NOW_S = 100.0


@dataclass
class Worker:
    pod: PodRef
    node: str
    counts_as_open: bool = False
    sick: bool = False
    standing: Standing = field(default_factory=Standing)


WORKERS = st.builds(
    lambda number, namespace, workload, node, is_open, sick, began: Worker(
        PodRef(f"p{number}", namespace, PodUid(f"u{number}"), workload),
        f"{node}{number % 2}" if node else "",
        is_open,
        sick,
        Standing(recent_faults_s=() if began is None else (1.0, began)),
    ),
    st.integers(0, 5),
    st.just("shop"),
    st.sampled_from(["deploy/a", "deploy/b", ""]),
    st.sampled_from(["", "n"]),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.floats(0, 99)),
)


def counted(of: PodRef, workers: dict[str, Worker], nodes: dict[str, str]) -> Surroundings:
    """As the rule reads: look at every other pod."""
    others = [each for uid, each in workers.items() if uid != of.uid]
    near = [each for each in others if each.pod.namespace == of.namespace]
    mates = [each for each in near if of.workload and each.pod.workload == of.workload]
    node = nodes[of.uid]
    on_node = sum(each.counts_as_open and nodes[each.pod.uid] == node for each in others)
    full = bool(node) and on_node >= LIMITS.node
    return Surroundings(
        open_on_node=on_node if full else sum(each.counts_as_open for each in others),
        open_in_namespace=sum(each.counts_as_open for each in near),
        open_of_workload=sum(each.counts_as_open for each in mates),
        node_budget=LIMITS.node if full else LIMITS.mesh,
        namespace_budget=LIMITS.namespace,
        workload_budget=LIMITS.workload,
        pods_on_node=20,
        faulty_on_node=sum(each.sick for each in others) + 1,
        workload_fault_ages_s=tuple(
            sorted(NOW_S - each.standing.recent_faults_s[-1] for each in mates if each.standing.recent_faults_s)
        ),
    )


@given(st.lists(st.tuples(WORKERS, st.booleans()), max_size=30))
def test_counts_kept_are_the_counts_made(steps: list[tuple[Worker, bool]]) -> None:
    """A step: a worker's news, or its end."""
    workers: dict[str, Worker] = {}
    nodes: dict[str, str] = {}
    known = Neighbours(lambda pod: nodes[pod.uid])
    for worker, ends in steps:
        uid = str(worker.pod.uid)
        if ends and uid in workers:
            known.forget(uid)
            del workers[uid]
            continue
        if uid in workers:  # a pod keeps its place
            worker.pod = workers[uid].pod
        else:
            nodes[uid] = worker.node
        workers[uid] = worker
        known.note(worker)
    for worker in workers.values():
        found = known.around(worker.pod, LIMITS, pods=20, now_s=NOW_S)
        ages = tuple(sorted(found.workload_fault_ages_s))
        assert replace(found, workload_fault_ages_s=ages) == counted(worker.pod, workers, nodes)
    known.clear()
    assert not known._open and not known._ill and not known._notes and known._sick == 0


def test_a_drilled_pod_counts_as_open_whatever_its_worker_says() -> None:
    """The worker has not looked yet, has ended, or never was there."""
    mate, other = (PodRef(name, "shop", PodUid(name), "deploy/a") for name in ("mate", "other"))
    neighbours = Neighbours(lambda _: "n")

    def seen_by_other() -> tuple[int, int, int]:
        around = neighbours.around(other, LIMITS, pods=2, now_s=NOW_S)
        return around.open_on_node, around.open_in_namespace, around.open_of_workload

    neighbours.drills(mate)
    assert seen_by_other() == (1, 1, 1)
    neighbours.note(Worker(mate, "n"))
    assert seen_by_other() == (1, 1, 1)
    neighbours.unattended(mate.uid)
    assert seen_by_other() == (1, 1, 1)
    own = neighbours.around(mate, LIMITS, pods=2, now_s=NOW_S)
    assert (own.open_on_node, own.open_of_workload) == (0, 0)
    neighbours.drilled.pop(mate.uid)
    neighbours.note(Worker(mate, "n"))
    assert seen_by_other() == (0, 0, 0)
    neighbours.drills(mate)
    neighbours.clear()
    neighbours.note(Worker(mate, "n"))
    assert seen_by_other() == (0, 0, 0)
