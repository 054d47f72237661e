"""Endpoints over an embedded API: a Service, pods whose status tests write as a kubelet would, a reader of slices."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hotswitch.api import service as said
from hotswitch.backends import ServiceId, ServiceRecord
from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES, NAMESPACES, NODES, PODS, SERVICES
from hotswitch.config.objects import Problem
from hotswitch.decide.endpoints.active_standby import Verdict
from hotswitch.endpoints.endpoints import Endpoints
from hotswitch.endpoints.parts import Parts
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.source import Source
from hotswitch.sandbox.kubeapi.server import EmbeddedApi

PATIENCE_S = 60.0  # for a machine with two cores that others use as well
SYSTEM, SHOP = "hotswitch-system", "shop"
DB = ServiceId(SHOP, "db")
LABELS = {"app": "db"}


class Town:
    """`api` may be stopped, started and made to fail; `words`: what people were told, oldest first."""

    def __init__(self, api: EmbeddedApi, cluster: Cluster) -> None:
        self.api, self.cluster = api, cluster
        self.words: list[tuple[str, str]] = []
        self.problems: list[Problem] = []
        self.foreign: list[tuple[str, ...]] = []
        self.writes: list[str] = []
        self._numbers = 0

    # ---- making ----

    async def service(self, name: str = "db", mode: str = "active-standby", **annotations: str) -> None:
        """Annotations without their prefix, with _ for -."""
        words = {said.MODE: mode, said.SELECTOR: "app=db"}
        words |= {said.PREFIX + key.replace("_", "-"): text for key, text in annotations.items()}
        ports = [{"name": "sql", "port": 5432, "targetPort": 5432, "protocol": "TCP"}]
        spec = {"ports": ports, "ipFamilies": ["IPv4"]}
        await self.cluster.create(SERVICES, SHOP, {"metadata": {"name": name, "annotations": words}, "spec": spec})

    async def annotate(self, **annotations: str | None) -> None:
        words = {said.PREFIX + key.replace("_", "-"): text for key, text in annotations.items()}
        await self.cluster.patch_merge(SERVICES, SHOP, "db", {"metadata": {"annotations": words}})

    async def pod(
        self, name: str, *, ready: bool = True, node: str = "node-a", address: str = "", **metadata: Any
    ) -> str:
        """Its uid."""
        self._numbers += 1
        made = await self.cluster.create(
            PODS,
            SHOP,
            {
                "metadata": {"name": name, **{"labels": LABELS, **metadata}},
                "spec": {"nodeName": node, "containers": [{"name": "app", "image": "db:1"}]},
            },
        )
        address = address or f"10.1.0.{self._numbers}"
        await self.status(name, ready, {"podIP": address, "podIPs": [{"ip": address}]})
        return str(made["metadata"]["uid"])

    async def status(self, name: str, ready: bool, more: Mapping[str, Any] | None = None, *, runs: bool = True) -> None:
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if runs else {"terminated": {"exitCode": 0}}
        app = {"name": "app", "image": "db:1", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        patch = {"status": {"phase": "Running", "conditions": conditions, "containerStatuses": [app], **(more or {})}}
        await self.cluster.patch_strategic(PODS, SHOP, name, patch, "status")

    async def delete(self, name: str, *, clean: bool = True) -> None:
        """`clean` False: by force, while its containers run."""
        await self.cluster.request("DELETE", PODS.path(SHOP, name), {"gracePeriodSeconds": "30"})
        if clean:
            await self.status(name, False, runs=False)
        await self.cluster.request("DELETE", PODS.path(SHOP, name), {"gracePeriodSeconds": "0"})

    # ---- looking ----

    async def slices(self, service: str = "db") -> list[dict[str, Any]]:
        return await self.cluster.list(ENDPOINTSLICES, SHOP, label_selector=f"kubernetes.io/service-name={service}")

    async def ready(self, service: str = "db") -> list[str]:
        """Names of the pods that a reader of slices would send requests to."""
        endpoints = [each for content in await self.slices(service) for each in content.get("endpoints") or ()]
        return sorted(each["targetRef"]["name"] for each in endpoints if each["conditions"]["ready"])

    async def lease(self) -> dict[str, Any]:
        return await self.cluster.get(LEASES, SYSTEM, f"endpoints.{SHOP}.db")

    async def until_ready(self, *names: str, service: str = "db") -> None:
        await until(lambda: self._is_ready(list(names), service))

    async def _is_ready(self, names: list[str], service: str) -> bool:
        return await self.ready(service) == names

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self.words]


async def until(holds: Callable[[], Any]) -> None:
    """`holds` may be a coroutine function."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


class Leader:
    """One controller's endpoints. `leads` may be set to False, as a lease that has run out does it."""

    def __init__(self, town: Town, endpoints: Endpoints) -> None:
        self.town, self.endpoints = town, endpoints
        self.leads = True


@asynccontextmanager
async def leader(town: Town, term: int = 1, **parts: Any) -> AsyncIterator[Leader]:
    """Synced and leading. What it holds is cut off at the end, as by a kill: nothing is given back."""
    registry = Registry()

    def tell(service: ServiceRecord, verdict: Verdict, *, is_new: bool) -> None:
        town.words.append((str(verdict.word), verdict.sentence))

    made: list[Leader] = []
    source = Source(town.cluster, registry, judged=lambda ref, problems: town.problems.extend(problems))
    further: tuple[Callable[[Registry], Source], ...] = parts.pop("further", ())
    endpoints = Endpoints(
        Parts(
            cluster=town.cluster,
            namespace=SYSTEM,
            sources=[source, *(each(registry) for each in further)],
            registry=registry,
            leads=lambda: bool(made) and made[0].leads,
            tell=tell,
            foreign=lambda service, names: town.foreign.append(names),
            written=town.writes.append,
            **parts,
        )
    )
    made.append(Leader(town, endpoints))
    task = asyncio.create_task(endpoints.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await endpoints.synced.wait()
        endpoints.lead(term)
        yield made[0]
    finally:
        await endpoints.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    admin = ("system:masters",)
    async with EmbeddedApi() as api, connect(api.kubeconfig("admin", admin), manager="kubectl-edit") as cluster:
        for name in (SYSTEM, SHOP):
            await cluster.create(NAMESPACES, None, {"metadata": {"name": name}})
        labels = {"topology.kubernetes.io/zone": "zone-a", "topology.kubernetes.io/region": "north"}
        node = {"metadata": {"name": "node-a", "labels": labels}}
        node["status"] = {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}
        await cluster.create(NODES, None, node)
        yield Town(api, cluster)


def story(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that is a coroutine function without arguments."""

    @functools.wraps(work)
    def test() -> None:
        asyncio.run(work())
        gc.collect()  # what was not closed is this test's failure, not a later one's

    del test.__wrapped__  # pytest would look at the coroutine function
    return test
