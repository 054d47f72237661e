"""Istio's objects with the shipped rights: written, kept, taken away, never taken over (S2.5, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hotswitch.api import service as said
from hotswitch.backends import Output, Published, ServiceId, ServiceMode, ServicePort, ServiceRecord
from hotswitch.cli.main import app as cli
from hotswitch.cluster.client import connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import (
    DESTINATION_RULES,
    NAMESPACES,
    NODES,
    POLICIES,
    SERVICE_ENTRIES,
    SERVICES,
    Kind,
)
from hotswitch.controller.app import Controller
from hotswitch.controller.settings import ControllerSettings
from hotswitch.endpoints.istio import config
from hotswitch.endpoints.istio.publisher import IstioPublisher
from hotswitch.endpoints.istio.refusal import Refusal
from hotswitch.endpoints.publisher import Asked
from hotswitch.sandbox.cluster.installed import ACCOUNT, NAMESPACE, ROOT_NAMESPACE, manifests
from hotswitch.sandbox.kubeapi import istio
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.controller.test_serving import codes
from tests.endpoints.town import SHOP, Leader, Town, leader, story, until

pytestmark = pytest.mark.k8s

NAME = "db-hotswitch"
TIER = "tier-3-endpoints"
POLICY = {"metadata": {"name": "outputs"}, "spec": {"endpoints": {"outputs": ["slices", "xds", "istio"]}}}
DB_RECORD = ServiceRecord(
    id=ServiceId(SHOP, "db"), uid="u", mode=ServiceMode.NEAREST, ports=(ServicePort("sql", 5432, 5432),)
)
OTHERS = {
    "metadata": {"name": NAME},
    "spec": {"hosts": ["bank.example"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]},
}


class Mesh(Town):
    """`allowed`: what policy says; `refusals`: what people were told; `counted`: writes by verb."""

    def __init__(self, town: Town) -> None:
        super().__init__(town.api, town.cluster)
        self.allowed = True
        self.refusals: list[tuple[Refusal | None, str]] = []
        self.counted: list[str] = []

    def refused(self, service: ServiceRecord, refusal: Refusal | None, sentence: str) -> None:
        if not self.refusals or self.refusals[-1] != (refusal, sentence):
            self.refusals.append((refusal, sentence))

    async def have(self, kind: Kind = SERVICE_ENTRIES, name: str = NAME) -> dict[str, Any] | None:
        try:
            return await self.cluster.get(kind, SHOP, name)
        except ApiFailure as failure:
            if failure.is_missing:
                return None
            raise

    async def hosts(self, *names: str) -> bool:
        """Exactly the addresses of these pods are endpoints."""
        entry, wanted = await self.have(), []
        for name in names:
            pod = await self.cluster.request("GET", f"/api/v1/namespaces/{SHOP}/pods/{name}")
            wanted.append(yaml.safe_load(pod)["status"]["podIP"])
        return entry is not None and [each["address"] for each in entry["spec"]["endpoints"]] == wanted

    async def none(self) -> bool:
        return await self.have() is None and await self.have(DESTINATION_RULES) is None


@asynccontextmanager
async def api() -> AsyncIterator[Mesh]:
    async with EmbeddedApi() as server, connect(server.kubeconfig("admin", ("system:masters",))) as cluster:
        for name in (SHOP, ROOT_NAMESPACE):
            await cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
        server.apply([*istio.definitions(), *manifests(TIER, ())])
        await cluster.create(NODES, None, {"metadata": {"name": "node-a"}})
        yield Mesh(Town(server, cluster))


@asynccontextmanager
async def leading(mesh: Mesh, term: int = 1) -> AsyncIterator[Leader]:
    """A leader whose objects of Istio are written by the controller's account, and by nobody else."""
    made: list[Leader] = []
    kubeconfig = mesh.api.kubeconfig(service_account(NAMESPACE, ACCOUNT))
    async with connect(kubeconfig) as cluster:
        publisher = IstioPublisher(
            cluster,
            allowed=lambda namespace: mesh.allowed,
            refused=mesh.refused,
            written=mesh.counted.append,
            leads=lambda: not made or made[0].leads,
        )
        async with leader(mesh, term, more=(Asked(Output.ISTIO, publisher),)) as found:
            made.append(found)
            try:
                await publisher.tidy(lambda service: found.endpoints.is_left(Output.ISTIO, service))
                yield found
            finally:
                await publisher.stop()
    assert mesh.api.denied == []


@story
async def test_active_one_fails_and_istio_is_told_of_the_next() -> None:  # S0.5, S0.7, I7
    async with api() as mesh:
        await mesh.service(activity_lease="2s", output="slices,istio")
        seen: list[int] = []
        mesh.api.admin.listen("serviceentries", lambda what, now, old: seen.append(len(now["spec"]["endpoints"])))
        for name in ("db-0", "db-1"):
            await mesh.pod(name)
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))
            await mesh.status("db-0", False)
            await until(lambda: mesh.hosts("db-1"))
            entry = await mesh.have()
            assert entry is not None
            assert entry["metadata"]["annotations"]["endpoints.hotswitch.io/generation"] == "2"
            assert entry["metadata"]["ownerReferences"][0]["kind"] == "Service"
            assert await mesh.have(DESTINATION_RULES) is None
            assert max(seen) == 1 and 0 in seen, "nobody between the one and the other, and never two"
            assert await mesh.ready() == ["db-1"]  # slices say the same


@story
async def test_written_once_for_each_difference() -> None:
    async with api() as mesh:
        await mesh.service(mode="nearest", output="istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))
            await until(lambda: len(mesh.counted) == 2)
            assert mesh.counted == ["create", "create"]  # the entry, and the rule
            await mesh.pod("db-1", ready=False)
            await mesh.annotate(check_period="2s")
            await mesh.status("db-1", True)
            await until(lambda: mesh.hosts("db-0", "db-1"))
            assert mesh.counted == ["create", "create", "update"]
            assert await mesh.slices() == []  # they were not asked for
        async with leading(mesh, term=2):
            await mesh.status("db-1", False)
            await until(lambda: mesh.hosts("db-0"))
            assert mesh.counted[3:] == ["update"], "what the leader before has written is taken over"


@story
async def test_object_of_somebody_else_is_left_alone_and_named() -> None:
    async with api() as mesh:
        await mesh.cluster.create(SERVICE_ENTRIES, SHOP, OTHERS)
        before = await mesh.have()
        await mesh.service(mode="nearest", output="slices,istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.refusals)
            refusal, sentence = mesh.refusals[-1]
            assert refusal is Refusal.NOT_OURS and f"ServiceEntry {NAME}" in sentence
            assert await mesh.have() == before and mesh.counted == []
            await mesh.until_ready("db-0")  # other outputs go on
            await mesh.cluster.delete(SERVICE_ENTRIES, SHOP, NAME)
            await mesh.pod("db-1")
            await until(lambda: mesh.hosts("db-0", "db-1"))
            assert mesh.refusals[-1] == (None, "")


@story
async def test_edited_and_deleted_by_hand_it_is_made_right_again() -> None:
    async with api() as mesh:
        await mesh.service(mode="nearest", output="istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))
            patch = {"spec": {"endpoints": [{"address": "10.66.66.66"}]}}
            await mesh.cluster.patch_merge(SERVICE_ENTRIES, SHOP, NAME, patch)
            await until(lambda: mesh.hosts("db-0"))
            await mesh.cluster.delete(DESTINATION_RULES, SHOP, NAME)

            async def is_back() -> bool:
                return await mesh.have(DESTINATION_RULES) is not None

            await until(is_back)


@story
async def test_asked_for_no_more_it_goes_and_the_rest_stays() -> None:
    async with api() as mesh:
        await mesh.service(mode="nearest", output="slices,istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))
            await mesh.annotate(output=None)
            await until(mesh.none)
            await mesh.until_ready("db-0")
            await mesh.annotate(output="istio")
            await until(lambda: mesh.hosts("db-0"))

            async def no_slices() -> bool:
                return await mesh.slices() == []

            await until(no_slices)
        await mesh.annotate(output="slices")  # while nobody leads
        async with leading(mesh, term=2):
            await until(mesh.none)
            await mesh.until_ready("db-0")


@story
async def test_policy_does_not_allow_it_or_no_longer() -> None:  # I2
    async with api() as mesh:
        mesh.allowed = False
        await mesh.service(mode="nearest", output="istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.refusals)
            assert mesh.refusals[-1][0] is Refusal.NOT_ALLOWED and await mesh.none()
            mesh.allowed = True
            await mesh.pod("db-1")
            await until(lambda: mesh.hosts("db-0", "db-1"))
            mesh.allowed = False
            await mesh.status("db-1", False)
            await until(mesh.none)


@story
async def test_what_cannot_be_said_any_more_is_taken_away() -> None:  # I7
    """What was written would go on to lead to the pod that was active then."""
    async with api() as mesh:
        await mesh.service(activity_lease="2s", output="slices,istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))
            ports = [{"name": "sql", "port": 5432, "targetPort": 5432, "protocol": "UDP"}]
            await mesh.cluster.patch_merge(SERVICES, SHOP, "db", {"spec": {"ports": ports}})
            await until(mesh.none)
            await until(lambda: mesh.refusals[-1][0] is Refusal.UNSAID)
            ports[0]["protocol"] = "TCP"
            await mesh.cluster.patch_merge(SERVICES, SHOP, "db", {"spec": {"ports": ports}})
            await until(lambda: mesh.hosts("db-0"))
            assert mesh.refusals[-1] == (None, "")


def test_more_endpoints_than_one_object_bears_and_the_host_stays(monkeypatch: pytest.MonkeyPatch) -> None:  # S2.7
    monkeypatch.setattr(config, "AT_MOST", 2)

    @story
    async def tale() -> None:
        async with api() as mesh:
            await mesh.service(mode="nearest", output="istio")
            for number in range(3):
                await mesh.pod(f"db-{number}")
            async with leading(mesh):
                await until(lambda: mesh.refusals and mesh.refusals[-1][0] is Refusal.TOO_MANY)
                assert "1 more" in mesh.refusals[-1][1]
                (entry,) = await mesh.cluster.list(SERVICE_ENTRIES, SHOP)
                assert len(entry["spec"]["endpoints"]) == 2
                await mesh.delete("db-0")
                await until(lambda: mesh.refusals[-1] == (None, ""))

    tale()


@story
async def test_what_cannot_be_written_for_long_is_told() -> None:  # S0.7
    async with api() as mesh:
        await mesh.service(mode="nearest", output="istio")
        await mesh.pod("db-0")
        fault = mesh.api.faults.fail(403, verb="patch", resource="serviceentries")
        async with leading(mesh):
            await until(lambda: mesh.refusals)
            assert mesh.refusals[-1][0] is Refusal.NOT_WRITTEN
            fault.cancel()
            await until(lambda: mesh.hosts("db-0"))
            await until(lambda: mesh.refusals[-1] == (None, ""))


@story
async def test_nothing_is_said_of_a_service_that_asks_no_more() -> None:  # S0.7
    """The end of what was said would never come."""
    async with api() as mesh:
        mesh.allowed = False
        publisher = IstioPublisher(mesh.cluster, allowed=lambda namespace: mesh.allowed, refused=mesh.refused)
        publisher.publish(Published(DB_RECORD))
        await until(lambda: mesh.refusals)
        mesh.refusals.clear()
        publisher.look_again()
        publisher.withdraw(DB_RECORD.id)
        await until(mesh.none)
        assert mesh.refusals == []
        await publisher.stop()


@story
async def test_asked_for_no_more_and_again_it_is_kept_once() -> None:
    async with api() as mesh:
        publisher = IstioPublisher(mesh.cluster, allowed=lambda namespace: True)

        def kept() -> int:
            return sum("IstioPublisher._keep" in repr(each.get_coro()) for each in asyncio.all_tasks())

        publisher.publish(Published(DB_RECORD))
        await until(lambda: mesh.have(DESTINATION_RULES))
        publisher.withdraw(DB_RECORD.id)
        publisher.publish(Published(DB_RECORD))
        await until(lambda: kept() == 1)
        await publisher.stop()
        assert kept() == 0


@story
async def test_deposed_leader_writes_nothing_more() -> None:  # I6
    async with api() as mesh:
        await mesh.service(mode="nearest", output="istio")
        await mesh.pod("db-0")
        async with leading(mesh) as made:
            await until(lambda: mesh.hosts("db-0"))
            made.leads = False
            await mesh.cluster.delete(SERVICE_ENTRIES, SHOP, NAME)
            await mesh.pod("db-1")
            await asyncio.sleep(0.5)  # nothing is to come: there is no event to be awaited
            assert await mesh.have() is None


@story
async def test_service_of_the_same_name_is_another_one() -> None:  # I6
    """What belonged to the one before is not taken over: the API server is about to remove it."""
    async with api() as mesh:
        await mesh.service(mode="nearest", output="istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))
        first = await mesh.have()
        await mesh.cluster.delete(SERVICES, SHOP, "db")
        await mesh.service(mode="nearest", output="istio")
        async with leading(mesh, term=2):

            async def is_new() -> bool:
                now = await mesh.have()
                return first is not None and now is not None and now["metadata"]["uid"] != first["metadata"]["uid"]

            await until(is_new)


@story
async def test_cluster_has_no_istio() -> None:
    async with api() as mesh:
        for each in istio.definitions():
            mesh.api.admin.delete("customresourcedefinitions", each["metadata"]["name"], "")
        await mesh.service(mode="nearest", output="slices,istio")
        await mesh.pod("db-0")
        async with leading(mesh):
            await until(lambda: any(refusal is Refusal.NOT_SERVED for refusal, _ in mesh.refusals))
            await mesh.until_ready("db-0")


@asynccontextmanager
async def controller(mesh: Mesh) -> AsyncIterator[Controller]:
    settings = ControllerSettings(
        kubeconfig=mesh.api.kubeconfig(service_account(NAMESPACE, ACCOUNT)),
        endpoints=True, address="127.0.0.1", port=0, roles_port=0, lease_s=2, renew_s=0.5, retry_s=0.2,
    )  # fmt: skip
    async with Controller(settings) as made:
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@story
async def test_a_policy_of_the_root_namespace_gives_it_and_people_are_told_until_then() -> None:  # I2
    async with api() as mesh, controller(mesh) as made:
        await mesh.service(mode="nearest", output="slices,istio")
        await mesh.pod("db-0")
        await mesh.cluster.create(POLICIES, SHOP, POLICY)  # its own namespace's word does not give it

        async def told() -> bool:
            return "HSE030" in await codes(mesh)

        await until(told)
        assert made.serving is not None and made.serving.alarms.goes_on(f"endpoints/{SHOP}/db:istio")
        assert await mesh.none()
        await mesh.cluster.create(POLICIES, ROOT_NAMESPACE, POLICY)
        await until(lambda: mesh.hosts("db-0"))
        await until(lambda: made.serving and not made.serving.alarms.goes_on(f"endpoints/{SHOP}/db:istio"))
        made.refresh_metrics()
        value = made.metrics.registry.get_sample_value
        assert value("hotswitch_istio_config_writes_total", {"verb": "create"}) == 2.0
        await mesh.cluster.delete(POLICIES, ROOT_NAMESPACE, "outputs")
        await until(mesh.none)
        assert mesh.api.denied == []


@story
async def test_cli_prints_what_the_controller_writes() -> None:
    async with api() as mesh:
        await mesh.service(activity_lease="2s", output="istio")
        await mesh.service("web", mode="nearest", output="slices,istio")
        for name in ("db-0", "db-1"):
            await mesh.pod(name)
        words = ["mesh", "endpoints", "--output", "istio", "--kubeconfig", str(mesh.api.kubeconfig("admin"))]
        async with leading(mesh):
            await until(lambda: mesh.hosts("db-0"))

            async def web() -> bool:
                return await mesh.have(DESTINATION_RULES, "web-hotswitch") is not None

            await until(web)
        found = await asyncio.to_thread(CliRunner().invoke, cli, words)
        assert found.exit_code == 0, found.output
        printed = [each for each in yaml.safe_load_all(found.output)]
        assert [each["kind"] for each in printed] == ["ServiceEntry", "ServiceEntry", "DestinationRule"]
        for each in printed:
            kind = SERVICE_ENTRIES if each["kind"] == "ServiceEntry" else DESTINATION_RULES
            written = await mesh.have(kind, each["metadata"]["name"])
            assert written is not None and not config.differs(each, written)
            assert each["metadata"]["annotations"] == written["metadata"]["annotations"]
        assert ServiceId(SHOP, "db").name in found.output and said.MODE not in found.output
