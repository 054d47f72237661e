"""Followed through everything that happens to the way, what the watcher knows is what the API server has (S4.2a)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.objects import Key
from hotswitch.cluster.patch import patch_pod_status, status_patch
from hotswitch.cluster.pods import Pod
from hotswitch.cluster.watch import Change, ChangeType, Watcher
from tests.cluster.apis import Api, Place, end_pod, make_pod
from tests.cluster.wire import Wire, wired

PATIENCE_S = 30.0
LABEL = "hotswitch.io/mode"
SELECTED = f"{LABEL}=auto"


class Mirror:
    """Knows only what it was told, and refuses what cannot be: twice ADDED, MODIFIED or DELETED before ADDED."""

    def __init__(self) -> None:
        self.pods: dict[Key, Pod] = {}
        self.changes: list[str] = []

    def on_event(self, change: Change[Pod]) -> None:
        pod = change.object
        assert (pod.key in self.pods) == (change.type is not ChangeType.ADDED), (change.type, pod.key)
        if change.type is ChangeType.DELETED:
            assert self.pods.pop(pod.key).uid == pod.uid
        else:
            assert pod.key not in self.pods or self.pods[pod.key].uid == pod.uid
            self.pods[pod.key] = pod
        self.changes.append(f"{change.type} {pod.metadata.name}")

    @property
    def comings(self) -> list[str]:
        """And goings; a real API server tells of a deletionTimestamp in between."""
        return [change for change in self.changes if not change.startswith("MODIFIED")]

    @property
    def versions(self) -> dict[str, str]:
        return {name: pod.metadata.resource_version for (_, name), pod in self.pods.items()}


@asynccontextmanager
async def followed(cluster: Cluster, namespace: str, **options: Any) -> AsyncIterator[tuple[Mirror, Watcher[Pod]]]:
    mirror = Mirror()
    watcher = Watcher(cluster, PODS, Pod, on_event=mirror.on_event, namespace=namespace, **options)
    task = asyncio.create_task(watcher.run())
    try:
        await asyncio.wait_for(watcher.synced.wait(), PATIENCE_S)
        yield mirror, watcher
        assert watcher.counters.failed_callbacks == 0, "it was told what cannot be"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            await asyncio.sleep(0.01)


async def truth(place: Place, selector: str = "") -> dict[str, str]:
    pods = await place.cluster.list(PODS, place.namespace, label_selector=selector)
    return {pod["metadata"]["name"]: pod["metadata"]["resourceVersion"] for pod in pods}


async def label(place: Place, name: str, value: str | None) -> None:
    uid = (await place.cluster.get(PODS, place.namespace, name))["metadata"]["uid"]
    patch = status_patch(uid=uid, resource_version="", labels={LABEL: value})
    await patch_pod_status(place.cluster, place.namespace, name, patch)


def test_only_what_is_selected_and_while_it_is(api: Api) -> None:
    """The label is what a person opts in and out with: both are told at once."""

    async def run() -> None:
        async with api() as place:
            await make_pod(place.cluster, place.namespace, "in", labels={LABEL: "auto"})
            await make_pod(place.cluster, place.namespace, "out")
            async with followed(place.cluster, place.namespace, label_selector=SELECTED) as (mirror, _):
                assert set(mirror.versions) == {"in"}
                await label(place, "out", "auto")
                await label(place, "in", None)
                await until(lambda: set(mirror.versions) == {"out"})
                await make_pod(place.cluster, place.namespace, "other")
                await end_pod(place.cluster, place.namespace, "out")
                await until(lambda: not mirror.pods)
                assert mirror.comings == ["ADDED in", "ADDED out", "DELETED in", "DELETED out"]

    asyncio.run(run())


def test_a_pod_is_replaced_by_one_of_the_same_name(api: Api) -> None:
    async def run() -> None:
        async with api() as place, followed(place.cluster, place.namespace) as (mirror, _):
            await make_pod(place.cluster, place.namespace, "db-0")
            await end_pod(place.cluster, place.namespace, "db-0")
            await make_pod(place.cluster, place.namespace, "db-0")
            await until(lambda: len(mirror.comings) == 3)
            assert mirror.comings == ["ADDED db-0", "DELETED db-0", "ADDED db-0"]

    asyncio.run(run())


async def _happen(place: Place, chance: random.Random, names: list[str]) -> None:
    """Something happens to one of the pods."""
    name = chance.choice(names)
    try:
        await chance.choice([
            lambda: make_pod(place.cluster, place.namespace, name, labels={LABEL: "auto"}),
            lambda: label(place, name, chance.choice(["auto", "off", None])),
            lambda: end_pod(place.cluster, place.namespace, name),
        ])()  # fmt: skip
    except ApiFailure as failure:
        assert failure.is_missing or failure.is_taken, failure


def _befall(place: Place, wire: Wire, chance: random.Random) -> None:
    """Something befalls the way, or the server."""
    fates: list[Callable[[], Any]] = [wire.cut, wire.silence, wire.speak, wire.speak, wire.refuse, wire.speak]
    if place.embedded is not None:
        pods = place.embedded.catalogue.find("pods").table
        faults = place.embedded.faults
        fates += [
            lambda: faults.expire_watches("pods"),
            lambda: place.embedded and place.embedded.store.forget(pods),
            lambda: faults.fail(500, resource="pods", verb="list", times=1),
            lambda: faults.fail(503, resource="pods", verb="watch", times=2),
            faults.cut_watches,
        ]
    chance.choice(fates)()


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("selector", ["", SELECTED])
def test_whatever_befalls_the_way(api: Api, tmp_path: Path, seed: int, selector: str) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        names = [f"p-{number}" for number in range(6)]
        async with api() as place, wired(place.kubeconfig, tmp_path) as (cluster, wire):
            options: dict[str, Any] = {"label_selector": selector, "silence_s": 0.5}
            async with followed(cluster, place.namespace, **options) as (mirror, watcher):
                for _ in range(120):
                    await _happen(place, chance, names)
                    if chance.random() < 0.25:
                        _befall(place, wire, chance)
                    await asyncio.sleep(chance.uniform(0, 0.02))
                wire.speak()
                if place.embedded is not None:
                    place.embedded.faults.clear()
                known = await truth(place, selector)
                await until(lambda: mirror.versions == known)
                assert {key[1] for key in watcher.store} == set(known)
                assert len(mirror.changes) >= 5 and watcher.counters.failures > 0

    asyncio.run(run())
