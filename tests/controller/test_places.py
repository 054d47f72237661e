"""Who takes a place of the budget, and until when (I3, I4): counted as open as long as it may be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hotswitch.act.order import Outcome
from hotswitch.cluster.pods import Pod
from hotswitch.controller.agents.office import Office
from hotswitch.controller.app import Controller
from hotswitch.controller.fleet import Fleet
from hotswitch.controller.picture import Picture
from hotswitch.controller.settings import ControllerSettings
from hotswitch.controller.surroundings import Limits
from hotswitch.model import Level, PodRef, PodUid
from tests.controller.world import CLOSED, SHIFT_S, Mischief, World, leading, lost, run

pytestmark = pytest.mark.k8s


def test_order_is_lost_on_its_way_and_may_have_arrived() -> None:  # I3
    async def story() -> None:
        world, uid = leading()
        world.kill(uid)
        world.kernel.mischief = Mischief(at=1, after=True, what=lost)  # ability, then the act
        await world.turn()
        assert world.workers[uid].counts_as_open
        world.lead()  # also for one that only reads what was written down
        world.kernel.refusal = "the helper cannot be asked"
        await world.turn()
        assert world.workers[uid].counts_as_open

    run(story)


def test_order_is_lost_and_the_helper_with_it() -> None:  # I3: the place is free again once the kernel has closed
    async def story() -> None:
        world, uid = leading(policy=replace(World().policy, expiry_s=0.1))
        world.kill(uid)
        world.kernel.outcome = Outcome.UNKNOWN
        await world.turn()
        worker = world.workers[uid]
        world.kernel.refusal = "the helper has ended"
        await world.turn()
        assert worker.counts_as_open
        worker._lasting._means = replace(worker._means, shift_s=lambda: SHIFT_S + 60.0)
        await world.turn(2)
        assert not worker.counts_as_open

    run(story)


def test_nothing_but_the_controller_closes_and_the_pod_cannot_be_reached() -> None:  # I4, S4.3b
    """It stays open, so it is said to be, and closed as soon as it can be."""

    async def story() -> None:
        world = World(policy=replace(World().policy, expiry_s=0.1))
        world.kernel.expires = False
        uid = world.add("web-0")
        world.lead()
        world.kill(uid)
        await world.turn(2)
        world.kernel.refusal = "exec fails"
        await asyncio.sleep(0.15)
        await world.turn(3)
        worker, status = world.workers[uid], world.api.status(uid)
        assert worker.counts_as_open and not worker.at_rest
        assert status is not None and Level.DIRECT in status.levels.values()
        assert world.codes().count("HSC003") == 1
        world.kernel.refusal = ""
        world.heal(uid)
        await world.turn(3)
        assert world.levels(uid) == CLOSED

    run(story)


def _pod(name: str, phase: str, node: str = "n1") -> Pod:
    about = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": "1"}
    proxy = {"name": "istio-proxy", "image": "proxyv2"}
    spec = {"nodeName": node, "containers": [{"name": "app"}, proxy]}
    return msgspec.convert({"metadata": about, "spec": spec, "status": {"phase": phase}}, Pod)


def picture() -> Picture:
    return Picture(None, "istio-system", lambda: SHIFT_S, lambda _: None)  # type: ignore[arg-type]


def test_completed_pods_make_no_share_larger() -> None:  # I3
    known = picture()
    for number in range(50):
        known.pod_there(_pod(f"job-{number}", "Running"))
        known.pod_there(_pod(f"job-{number}", "Succeeded"))
    known.pod_there(_pod("web-0", "Running"))
    ref = PodRef("web-0", "shop", PodUid("uid-web-0"), "pod/web-0")
    limits = known.limits(ref)
    assert known.census.living == 1 and (limits.mesh, limits.namespace, limits.node) == (1, 1, 1)


def test_pods_that_come_and_go_leave_nothing() -> None:
    known = picture()
    for number in range(50):
        pod = _pod(f"job-{number}", "Running", f"n{number}")
        known.pod_there(pod)
        known.pod_gone(pod)
    census = known.census
    assert not census._of_workload and not census._of_namespace and not census._of_node and known.census.living == 0


def test_node_has_a_budget_of_its_own() -> None:  # I3
    async def story() -> None:
        world = World()
        uids = [world.add("web-0", "deploy/a"), world.add("web-1", "deploy/b")]
        world.lead()
        controller = Controller(ControllerSettings())
        controller.picture = picture()
        controller.fleet = Fleet(lambda _: None, lambda _: False, lambda _: None, controller.picture.node_of)
        nobody: Any = None
        parts = controller.settings, controller.picture, controller.fleet, controller.metrics
        controller.office = Office(nobody, *parts)
        for name in ("web-0", "web-1"):
            controller.picture.pod_there(_pod(name, "Running"))
        mate = world.workers[uids[1]]
        mate.acting = True
        controller.fleet.neighbours.note(mate)
        limits = Limits(mesh=9, namespace=9, workload=9, node=1)
        controller.picture.limits = lambda _: limits  # type: ignore[method-assign]
        seen = controller._surroundings(world.workers[uids[0]].pod)
        assert (seen.open_on_node, seen.node_budget) == (1, 1)

    run(story)
