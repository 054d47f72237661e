"""A status annotation that no controller wrote: whoever may edit a pod can write anything there, and gets nothing by it
(I2, I6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hotswitch.api import names
from hotswitch.cluster.pods import Pod
from hotswitch.controller.picture import Picture
from hotswitch.controller.protecting import _changing
from tests.controller.world import CLOSED, OPEN, SHIFT_S, Kernel, World, run

pytestmark = pytest.mark.k8s


def forged(world: World, uid: str, **told: Any) -> None:
    text = msgspec.json.encode({"uid": uid, **told}).decode()
    world.api.change(uid, annotations={names.STATUS: text})


@pytest.mark.parametrize(
    "told",
    [
        {"standing": {"levels": []}},
        {"standing": {"openings": [1]}},
        {"standing": {"openings": {"inbound": {"level": "rescue", "ports": {"8080": "direct"}}}, "fault": 7}},
        {"standing": {"generation": 10**18}},
        {"standing": {"generation": 1e300}},
        {"standing": {"generation": -1}},
        {"standing": {"opened_s": "nan", "fault": "dead"}},
        {"standing": {"opened_s": "-inf", "fault": "dead"}},
        {"standing": {"opened_s": 1e15, "fault": "dead"}},
        {"standing": {"hold_down_s": "nan"}},
        {"standing": {"hold_down_until_s": 1e300}},
        {"standing": {"recent_faults_s": ["inf"]}},
        {"generation": 10**18},
        {"step": "gate", "expires": "tomorrow"},
        {"step": "gate", "expires": "9999-12-31T23:59:59-23:59", "actuator": "helper"},
        {"alerts": {"HSD001": "yesterday"}},
        {"alerts": {"HSD001": "0001-01-01T00:00:00+23:00"}},
    ],
    ids=str,
)
def test_forged_status_stops_no_worker(told: dict[str, Any]) -> None:
    async def story() -> None:
        world = World()
        uid = world.add("web-0")
        forged(world, uid, **told)
        world.lead()
        world.kill(uid)
        await world.turn(4)
        assert world.levels(uid) == OPEN
        world.heal(uid)
        await world.turn(5)
        status = world.api.status(uid)
        assert world.levels(uid) == CLOSED and status is not None and not status.under_way
        assert status.generation < 2**53

    run(story)


def test_forged_status_names_an_actuator_that_no_policy_lists() -> None:  # I2
    async def story() -> None:
        world = World()
        uid = world.add("web-0")
        forbidden = Kernel(name="exec", expires=False)
        forged(world, uid, step="gate", actuator="exec", wanted={"outbound": "direct"})
        world.lead()
        for worker in world.workers.values():
            worker._means = replace(worker._means, actuators={"helper": world.kernel, "exec": forbidden})
        world.kill(uid)
        forbidden.beside = world.kernel.beside
        await world.turn(4)
        assert not forbidden.gates[uid].log and world.levels(uid) == OPEN

    run(story)


def test_forged_opening_without_an_end_takes_a_place_for_no_longer_than_an_opening() -> None:  # I3, I4
    async def story() -> None:
        world = World(policy=replace(World().policy, expiry_s=0.2))
        uid = world.add("web-0")
        standing = {"levels": {"inbound": "rescue"}, "expires_s": SHIFT_S + 86400.0, "fault": "dead"}
        forged(world, uid, levels={"inbound": "rescue"}, actuator="unheard of", standing=standing)
        world.lead()
        await world.turn()
        assert world.workers[uid].counts_as_open
        await asyncio.sleep(0.25)
        await world.turn(2)
        assert not world.workers[uid].counts_as_open

    run(story)


def _pod(**metadata: Any) -> Pod:
    about = {"name": "web-0", "namespace": "shop", "uid": "uid-web-0", "resourceVersion": "1", **metadata}
    return msgspec.convert({"metadata": about}, Pod)


def picture() -> Picture:
    return Picture(None, "istio-system", lambda: SHIFT_S, lambda _: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("term", ["9" * 5000, "9" * 11, "-3", '"7"'])
def test_forged_term_keeps_nobody_from_leading(term: str) -> None:  # I6
    known = picture()
    known.pod_there(_pod(annotations={names.STATUS: f'{{"uid":"x","term":{term}}}'}))
    assert known.highest_term == 0


def test_manifest_is_asked_for_again_when_other_policies_may_select_the_pod() -> None:  # I2
    before = _changing(_pod(labels={"app": "web"}))
    assert _changing(_pod(labels={"app": "web", "tier": "public"})) != before
    assert _changing(_pod(labels={"app": "web"}, annotations={"sidecar.istio.io/inject": "true"})) != before
    assert _changing(_pod(labels={"app": "web"}, annotations={names.STATUS: "{}"})) == before
