"""A pod of the cluster in miniature as an actuator is told of it, and waiting for what an actuator says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hotswitch.act.order import Ability, Actuator, Order, Target
from hotswitch.cluster.kinds import PODS
from hotswitch.model import Direction, Generation, Level, Mode, Mtls, Opening, PodRef, PodUid, Policy
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published

PATIENCE_S = 60.0
IMAGE = "registry.test/hotswitch-agent:1"
POLICY = Policy(mode=Mode.AUTO, mtls=Mtls.PERMISSIVE)


async def target(cluster: SandboxCluster, pod: Published, policy: Policy = POLICY) -> Target:
    manifest = await cluster.cluster.get(PODS, pod.pod.namespace, pod.pod.name)
    uid = PodUid(manifest["metadata"]["uid"])
    return Target(pod=PodRef(pod.pod.name, pod.pod.namespace, uid, pod.pod.workload), manifest=manifest, policy=policy)


def order(generation: int, level: Level | None = None, *ways: Direction, **more: Any) -> Order:
    """None: close."""
    openings = {} if level is None else {way: Opening(level) for way in ways or tuple(Direction)}
    return Order(
        generation=Generation(generation), openings=openings, expiry_s=60.0, code="HSD001", reason="a test", **more
    )


async def until_able(
    actuator: Actuator, look: Callable[[], Any], wanted: Callable[[Ability], bool] = lambda able: bool(able.levels)
) -> Ability:
    """`look`: makes a fresh target."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        await actuator.prepare(await look())
        able = await actuator.ability(await look())
        if wanted(able):
            return able
        assert time.monotonic() < deadline_s, able
        await asyncio.sleep(0.05)
