"""A further cluster whose API server hangs, is cut off, refuses, or is suddenly another one (S2.4, S2.7, I1, I7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hotswitch.backends import Staleness
from hotswitch.cli.controller import registered
from hotswitch.cli.main import app as cli
from hotswitch.cluster.client import connect
from hotswitch.cluster.kinds import NAMESPACES, NODES, SERVICES
from hotswitch.controller.app import Controller
from hotswitch.controller.settings import ControllerSettings
from hotswitch.endpoints import memory
from hotswitch.endpoints.assemble import Place
from hotswitch.endpoints.peer import connect_peer
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.source import Source
from hotswitch.sandbox.cluster.installed import ACCOUNT, NAMESPACE, ROOT_NAMESPACE, manifests
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.manifests import MANIFESTS, render
from tests.endpoints.town import DB, SHOP, Town, leader, story, town, until

pytestmark = pytest.mark.k8s

PEER = service_account("hotswitch-peer", "hotswitch-peer")
TIER = "tier-3-endpoints"


@dataclass
class East:
    """A further cluster, as its owners see it (`town`), and as the home cluster does (`source`), with the rights that
    are shipped for that and no others."""

    town: Town
    registry: Registry
    source: Source

    @property
    def api(self) -> EmbeddedApi:
        return self.town.api

    def states(self) -> dict[str, Staleness]:
        return {each.pod.name: each.staleness for each in self.registry.backends(DB)}


@asynccontextmanager
async def cluster() -> AsyncIterator[Town]:
    async with EmbeddedApi() as api, connect(api.kubeconfig("admin", ("system:masters",))) as admin:
        await admin.create(NAMESPACES, None, {"metadata": {"name": SHOP}})
        await admin.create(NODES, None, {"metadata": {"name": "node-e"}})
        api.apply(render(MANIFESTS / "overlays" / "peer"))
        yield Town(api, admin)


@asynccontextmanager
async def both(**annotations: str) -> AsyncIterator[tuple[Town, East]]:
    """One pod here, one there, both in one registry."""
    words = {"mode": "all", "stale_after": "2s", "lost_after": "3s", **annotations}
    async with town() as home, cluster() as far, connect_peer(far.api.kubeconfig(PEER)) as peer:
        await home.service(**words)
        await home.pod("db-0")
        await far.pod("db-9", node="node-e", address="10.9.0.9")
        registry = Registry()
        east = East(far, registry, Source(peer, registry, Place("east"), is_home=False))
        own = Source(home.cluster, registry)
        tasks = [asyncio.create_task(each.run()) for each in (own, east.source)]
        try:
            await until(lambda: east.states() == {"db-0": Staleness.FRESH, "db-9": Staleness.FRESH})
            yield home, east
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


Trouble = Callable[[EmbeddedApi], Coroutine[Any, Any, Callable[[], Coroutine[Any, Any, None]]]]


async def cut_off(api: EmbeddedApi) -> Callable[[], Coroutine[Any, Any, None]]:
    await api.stop()
    return api.start


async def hangs(api: EmbeddedApi) -> Callable[[], Coroutine[Any, Any, None]]:
    """Connections are taken and nothing is answered; open watches say nothing more."""
    api.faults.silence_watches()
    fault = api.faults.slow(3600.0)

    async def mended() -> None:
        fault.cancel()
        api.faults.cut_watches()

    return mended


def refuses(status: int) -> Trouble:
    async def begin(api: EmbeddedApi) -> Callable[[], Coroutine[Any, Any, None]]:
        fault = api.faults.fail(status)
        api.faults.cut_watches()

        async def mended() -> None:
            fault.cancel()

        return mended

    return begin


async def revoked(api: EmbeddedApi) -> Callable[[], Coroutine[Any, Any, None]]:
    """Really 401; a new kubeconfig under the same name is taken up without a restart."""
    api.tokens.revoke(PEER)
    api.faults.cut_watches()

    async def mended() -> None:
        api.kubeconfig(PEER)

    return mended


async def is_another_one(api: EmbeddedApi) -> Callable[[], Coroutine[Any, Any, None]]:
    """At the same address, with the same credentials, and without any pod of ours. Then the old one is back."""
    old = api.store.get(*_identity(api))
    await api.stop()
    pods = api.admin.list("pods")
    for pod in pods:
        api.admin.delete("pods", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_s=0)
    api.admin.delete("namespaces", "kube-system")
    api.admin.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}])
    await api.start()

    async def mended() -> None:
        await api.stop()
        resource, _ = _identity(api)
        api.store.put(resource.table, old.object(resource))
        for pod in pods:
            api.store.put(api.catalogue.find("pods").table, pod)
        await api.start()

    return mended


@story
async def test_it_becomes_another_one_between_its_hello_and_its_answer() -> None:  # S2.4, I1
    async with both() as (_, east):

        def swaps(ask: Ask) -> bool:
            east.api.admin.delete("pods", "db-9", SHOP, grace_s=0)
            east.api.admin.delete("namespaces", "kube-system")
            east.api.admin.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}])
            return True

        east.api.faults.slow(0.0, verb="list", resource="pods", times=1, when=swaps)
        east.api.faults.expire_watches("pods")
        await until(lambda: east.states().get("db-9") is not Staleness.FRESH)
        assert east.states()["db-9"] is Staleness.STALE, "what the other one says of it counts for nothing"


def _identity(api: EmbeddedApi) -> Any:
    return api.catalogue.find("namespaces"), ("", "kube-system")


@pytest.mark.parametrize(
    "begin",
    [cut_off, hangs, refuses(401), refuses(403), refuses(503), revoked, is_another_one],
    ids=["cut off", "hangs", "401", "403", "503", "token revoked", "another one"],
)
def test_cluster_that_cannot_be_heard_is_kept_then_lost_and_then_itself_again(begin: Trouble) -> None:  # S2.4, S2.7
    async def tale() -> None:
        async with both() as (_, east):
            mend = await begin(east.api)
            began_s = asyncio.get_running_loop().time()
            seen: list[Staleness | None] = []

            def lost() -> bool:
                seen.append(east.states().get("db-9"))
                return seen[-1] is Staleness.LOST

            await until(lost)
            assert asyncio.get_running_loop().time() - began_s > 2.0, "it is kept for as long as was said"
            assert None not in seen, "nothing that is known is deleted for silence"
            assert list(dict.fromkeys(seen)) == [Staleness.FRESH, Staleness.STALE, Staleness.LOST]
            assert east.states()["db-0"] is Staleness.FRESH
            assert (east.source.state.word, bool(east.source.problem)) == ("lost", True)
            await mend()
            await until(lambda: east.states() == {"db-0": Staleness.FRESH, "db-9": Staleness.FRESH})
            assert east.source.problem == ""

    story(tale)()


@story
async def test_with_the_service_that_it_was_lost_for_a_cluster_is_lost_no_more() -> None:  # S2.4
    """Each Service says for itself after how long; of one that is gone nobody waits for a word."""
    async with both() as (home, east):
        await home.service("web", mode="all", stale_after="2s", lost_after="1h")
        await east.api.stop()
        await until(lambda: east.source.state.word == "lost")
        await home.cluster.delete(SERVICES, SHOP, "db")
        await until(lambda: east.source.state.word == "stale")


@story
async def test_cluster_is_asked_for_pods_and_nodes_alone() -> None:  # least privilege
    async with both() as (_, east):
        await east.town.pod("db-8", node="node-e", address="10.9.0.8")
        await until(lambda: "db-8" in east.states())
        used = {" ".join(action.split(" ")[:2]) for _, action in east.api.rules_used.alone}
        assert used == {"list pods", "watch pods", "list nodes", "watch nodes", "get namespaces"}
        assert east.api.denied == []


@story
async def test_another_cluster_at_that_address_never_proves_that_the_active_pod_is_gone() -> None:  # I7
    """The home cluster elects; of a further one's pods only its own API server is believed, and only while it is the
    one that it was. Here the active pod is over there, and whoever answers says that there are no pods."""
    async with town() as home, cluster() as far, connect_peer(far.api.kubeconfig(PEER)) as peer:
        await home.service(stale_after="2s", lost_after="4s")
        await far.pod("db-9", node="node-e", address="10.9.0.9")

        def source(registry: Registry) -> Source:
            return Source(peer, registry, Place("east"), is_home=False)

        async def active() -> str:
            found = memory.read(await home.lease()).active
            return found.name if found is not None else ""

        async def serves() -> bool:
            return bool(await home.slices()) and await active() == "db-9"

        async with leader(home, further=(source,)):
            await until(serves)
            await home.pod("db-0")
            mend = await is_another_one(far.api)
            await until(lambda: "HSE004" in home.codes)  # withdrawn when it was lost, and not known to be fenced
            assert await active() == ""
            assert memory.read(await home.lease()).fencing is not None
            await mend()
            await far.delete("db-9")
            await home.until_ready("db-0")  # and this does prove it


@asynccontextmanager
async def controller_of_two(folder: Path | None = None) -> AsyncIterator[tuple[Town, Town, Controller]]:
    """With the shipped rights, here and there; the further one by a file of --clusters-dir's kind. `folder`: more."""
    async with cluster() as far, EmbeddedApi() as api, connect(api.kubeconfig("admin", ("system:masters",))) as admin:
        for name in (SHOP, ROOT_NAMESPACE):
            await admin.create(NAMESPACES, None, {"metadata": {"name": name}})
        await admin.create(NODES, None, {"metadata": {"name": "node-a"}})
        api.apply(manifests(TIER, ()))
        more, misnamed = registered(folder)
        settings = ControllerSettings(
            kubeconfig=api.kubeconfig(service_account(NAMESPACE, ACCOUNT)),
            clusters={"east": (far.api.kubeconfig(PEER), None), **more},
            misnamed=misnamed,
            endpoints=True, address="127.0.0.1", port=0, roles_port=0, lease_s=2, renew_s=0.5, retry_s=0.2,
        )  # fmt: skip
        async with Controller(settings) as made:
            task = asyncio.create_task(made.run())
            try:
                yield Town(api, admin), far, made
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@story
async def test_people_are_told_how_a_cluster_is_heard_of() -> None:  # S2.4: CLI, metric, alarm
    async with controller_of_two() as (home, far, made):
        await home.service(mode="all", stale_after="1s", lost_after="3s")
        await home.pod("db-0")
        await far.pod("db-9", node="node-e", address="10.9.0.9")
        kubeconfig = str(home.api.kubeconfig("admin"))

        async def shown(*words: str) -> bool:
            found = await asyncio.to_thread(CliRunner().invoke, cli, ["mesh", "endpoints", "--kubeconfig", kubeconfig])
            return found.exit_code == 0 and all(word in found.output for word in words)

        await until(lambda: shown("cluster east: fresh", "backends: 1 fresh"))
        await far.api.stop()
        await until(lambda: shown("cluster east: lost", "backends: 1 lost", "ConnectionLost"))
        assert made.serving is not None
        await until(lambda: made.serving is not None and made.serving.alarms.goes_on("endpoints/cluster:east"))
        made.refresh_metrics()
        value = made.metrics.registry.get_sample_value
        age_s = value("hotswitch_endpoints_cluster_age_seconds", {"cluster": "east"})
        assert age_s is not None and age_s > 2.0
        assert value("hotswitch_endpoints_cluster_backends", {"cluster": "east", "state": "lost"}) == 1.0
        await far.api.start()
        await until(lambda: shown("cluster east: fresh"))
        await until(lambda: made.serving is not None and not made.serving.alarms.goes_on("endpoints/cluster:east"))
        assert home.api.denied == [] and far.api.denied == []


def test_registered_clusters_are_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    for name in ("east", "WEST_1"):
        (tmp_path / name).write_text(yaml.safe_dump({}))
    assert registered(tmp_path) == ({"east": (tmp_path / "east", None)}, ("WEST_1",))
    assert registered(tmp_path / "none") == ({}, ())


PLUGIN = """
apiVersion: v1
kind: Config
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
clusters: [{name: it, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: it, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: COMMAND}}}]
"""
BAD = {
    "malformed": "clusters: [",
    "empty": "",
    "no-mapping": "- 1",
    "failing": PLUGIN.replace("COMMAND", "/bin/false"),
    "hanging": PLUGIN.replace("COMMAND", "/bin/sleep, args: ['3']"),
    "WEST_1": PLUGIN,
}


def test_a_bad_registered_cluster_stops_nobody_and_is_named(tmp_path: Path) -> None:  # S2.4, I1
    for name, text in BAD.items():
        (tmp_path / name).write_text(text)

    async def tale() -> None:
        async with controller_of_two(tmp_path) as (home, far, made):
            await home.service(mode="all", stale_after="2s", lost_after="3s")
            await home.pod("db-0")
            await far.pod("db-9", node="node-e", address="10.9.0.9")

            def backends() -> set[str]:
                found = made.serving.endpoints.registry.backends(DB) if made.serving is not None else ()
                return {f"{each.locality.cluster}/{each.pod.name}" for each in found}

            def alarmed(name: str) -> bool:
                return made.serving is not None and made.serving.alarms.goes_on(f"endpoints/cluster:{name}")

            await until(lambda: {"/db-0", "east/db-9"} == backends())
            for name in BAD:
                await until(partial(alarmed, name))
            assert made.serving is not None and not alarmed("east")
            sources = {each.place.cluster: each for each in made.serving.sources}
            for name in BAD.keys() - {"WEST_1"}:
                await until(partial(getattr, sources[name], "problem"))
            assert "kubeconfig cannot be loaded" in sources["malformed"].problem
            (tmp_path / "malformed").write_bytes(far.api.kubeconfig(PEER).read_bytes())
            await until(lambda: "malformed/db-9" in backends())
            await until(lambda: not alarmed("malformed"))

    story(tale)()
