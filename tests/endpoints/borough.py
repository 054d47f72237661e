"""A town with an ordinary Service: Kubernetes makes its slices, its Endpoints object and mirrors; pods whose sidecar
dies and is bypassed; a reader like kube-proxy; and whoever takes the Service over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hotswitch.api.adopt import ADOPT
from hotswitch.api.names import STATUS
from hotswitch.api.service import PREFIX
from hotswitch.api.status import PodStatus, encode
from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTS, ENDPOINTSLICES, LEASES, PODS, SERVICES
from hotswitch.cluster.watch import Watcher
from hotswitch.decide.endpoints.adopt import Phase, Verdict
from hotswitch.endpoints import adoption_ledger
from hotswitch.endpoints.adopter import Adopter, AdoptParts
from hotswitch.endpoints.adoption_ledger import Adoption
from hotswitch.endpoints.hands import CONTROLLER_MANAGER
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from hotswitch.model import Direction, Level
from hotswitch.sandbox.cluster.installed import ACCOUNT, ROOT_NAMESPACE, manifests
from hotswitch.sandbox.cluster.slice_controller import SliceController
from hotswitch.sandbox.kubeapi.identity import service_account
from tests.endpoints.mirror import Mirror
from tests.endpoints.town import PATIENCE_S, SHOP, SYSTEM, Town, town, until

WEB = ServiceId(SHOP, "web")
SELECTOR = {"app": "web", "example.org/tier": "front"}
CONTROLLER = service_account(SYSTEM, ACCOUNT)
MASTERS = ("system:masters",)
Object = dict[str, Any]


class Reader:
    """Reads slices as kube-proxy does, and where two of them say different things of one address believes the worse.
    `history`: the addresses that it would send to, after each event."""

    def __init__(self, cluster: Cluster) -> None:
        self.history: list[frozenset[str]] = []
        self._watcher: Watcher[Object] = Watcher(
            cluster,
            ENDPOINTSLICES,
            dict,
            on_event=lambda change: self.history.append(self.ready),
            namespace=SHOP,
            label_selector=f"{SERVICE_NAME}=web",
        )

    @property
    def ready(self) -> frozenset[str]:
        said: dict[str, bool] = {}
        for content in self._watcher.store.values():
            for each in content.get("endpoints") or ():
                address = each["addresses"][0]
                said[address] = said.get(address, True) and each["conditions"]["ready"]
        return frozenset(address for address, ready in said.items() if ready)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watcher.run())
        await self._watcher.synced.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Borough:
    """`told`: code and sentence of what was done or begins; `alarm`: the newest that lasts, "" when none does;
    `word`: how it stands now."""

    def __init__(self, place: Town, cluster: Cluster, family: str) -> None:
        self.family = family
        self.town, self.admin, self.cluster = place, place.cluster, cluster
        self.told: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.alarm = ""
        self.word = ""
        self.refusal = ""
        self.addresses: dict[str, str] = {}
        self.reader = Reader(place.cluster)

    # ---- making ----

    async def service(self, asks: bool = True, **words: str) -> None:
        """Annotations without their prefix, with _ for -."""
        annotations = {ADOPT: "when-below"} if asks else {}
        annotations |= {PREFIX + key.replace("_", "-"): text for key, text in words.items()}
        ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
        metadata = {"name": "web", "annotations": annotations, "labels": {"team": "shop"}}
        spec = {"ports": ports, "ipFamilies": [self.family], "selector": SELECTOR}
        await self.admin.create(SERVICES, SHOP, {"metadata": metadata, "spec": spec})

    async def pod(self, name: str) -> None:
        """With an address of each family."""
        number = len(self.addresses) + 1
        first, second = f"10.2.0.{number}", f"fd00::{number}"
        self.addresses[name] = second if self.family == "IPv6" else first
        await self.town.pod(name, labels=SELECTOR, address=first)
        patch = {"status": {"podIPs": [{"ip": first}, {"ip": second}]}}
        await self.admin.patch_strategic(PODS, SHOP, name, patch, "status")

    async def bypassed(self, name: str) -> None:
        """Its sidecar is dead, the rescue serves in its place, the kubelet calls the pod not ready."""
        pod = await self.admin.get(PODS, SHOP, name)
        uid = pod["metadata"]["uid"]
        status = encode(PodStatus(uid=uid, levels={Direction.INBOUND: Level.RESCUE}))
        await self.admin.patch_merge(PODS, SHOP, name, {"metadata": {"annotations": {STATUS: status}}})
        await self._status(name, ready=False)

    async def well(self, name: str) -> None:
        """Its sidecar is back, and capture with it."""
        await self._status(name, ready=True)
        await self.admin.patch_merge(PODS, SHOP, name, {"metadata": {"annotations": {STATUS: None}}})

    async def _status(self, name: str, *, ready: bool) -> None:
        running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        dead = {"terminated": {"exitCode": 137}}
        common = {"image": "x:1", "imageID": "", "restartCount": 0}
        containers = [
            {"name": "app", "ready": True, "state": running, **common},
            {"name": "istio-proxy", "ready": ready, "state": running if ready else dead, **common},
        ]
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        patch = {"status": {"conditions": conditions, "containerStatuses": containers}}
        await self.admin.patch_strategic(PODS, SHOP, name, patch, "status")

    async def annotate(self, **words: str | None) -> None:
        annotations = {PREFIX + key.replace("_", "-"): text for key, text in words.items()}
        await self.admin.patch_merge(SERVICES, SHOP, "web", {"metadata": {"annotations": annotations}})

    async def endpoints_by_kubernetes(self, address: str) -> None:
        """As if its controller had not heard yet that the selector is away."""
        subsets = [{"addresses": [{"ip": address}], "ports": [{"name": "http", "port": 8080}]}]
        body = {"metadata": {"name": "web"}, "subsets": subsets}
        async with connect(self.town.api.kubeconfig("kubernetes", MASTERS), manager=CONTROLLER_MANAGER) as theirs:
            await theirs.create(ENDPOINTS, SHOP, body)

    @asynccontextmanager
    async def gitops(self) -> AsyncIterator[Cluster]:
        """Another client, which applies as a GitOps tool does."""
        async with connect(self.town.api.kubeconfig("argocd", MASTERS), manager="argocd") as tool:
            yield tool

    # ---- looking ----

    async def web(self) -> Object:
        return await self.admin.get(SERVICES, SHOP, "web")

    async def selector(self) -> Object | None:
        found: Object | None = (await self.web())["spec"].get("selector")
        return found

    async def managers(self) -> list[str]:
        """Who wrote the slices that there are."""
        return sorted(each["metadata"]["labels"][MANAGED_BY] for each in await self.town.slices("web"))

    async def adoption(self) -> Adoption:
        try:
            return adoption_ledger.read(await self.admin.get(LEASES, SYSTEM, adoption_ledger.lease_name(WEB)))
        except ApiFailure:
            return Adoption()

    async def until_held(self) -> None:
        """Taken over whole: nothing of others is left."""
        await until(self._is_held)

    async def _is_held(self) -> bool:
        held = (await self.adoption()).phase is Phase.HELD and await self.selector() is None
        return held and await self.managers() == [MANAGER] and not await self._has_endpoints()

    async def _has_endpoints(self) -> bool:
        return any(each["metadata"]["name"] == "web" for each in await self.admin.list(ENDPOINTS, SHOP))

    async def until_ordinary(self, phase: Phase = Phase.IDLE) -> None:
        """Kubernetes' again, without a trace of ours."""
        await until(lambda: self._is_ordinary(phase))

    async def _is_ordinary(self, phase: Phase) -> bool:
        service = await self.web()
        as_it_was = service["spec"].get("selector") == SELECTOR and PREFIX + "adopted" not in _annotations(service)
        others = await self.managers()
        return as_it_was and bool(others) and MANAGER not in others and (await self.adoption()).phase is phase

    async def until_read(self, *names: str) -> None:
        """The reader would send to these pods, and to no others."""
        wanted = frozenset(self.addresses[name] for name in names)
        await until(lambda: self.reader.ready == wanted)

    def never_gone(self, *names: str) -> bool:
        """At every moment these were served."""
        wanted = {self.addresses[name] for name in names}
        first = next(place for place, ready in enumerate(self.reader.history) if wanted <= ready)
        return all(wanted <= ready for ready in self.reader.history[first:])

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self.told]


def _annotations(content: Object) -> Object:
    found: Object = content["metadata"].get("annotations") or {}
    return found


class Hand:
    """One controller's hand. `leads` may be set to False, as a lease that has run out does it."""

    def __init__(self) -> None:
        self.leads = True
        self.adopter: Adopter


@asynccontextmanager
async def hand(borough: Borough, term: int = 1, cluster: Cluster | None = None) -> AsyncIterator[Hand]:
    """Synced and leading; at the end it is cut off, as by a kill: nothing is given back."""
    made = Hand()

    def tell(service: ServiceId, uid: str, verdict: Verdict, *, is_new: bool) -> None:
        borough.word = str(verdict.word)
        borough.alarm = f"{verdict.word}" if verdict.alarm else ""
        if is_new:
            borough.told.append((str(verdict.word), verdict.sentence))

    made.adopter = Adopter(
        AdoptParts(
            cluster=cluster or borough.cluster,
            namespace=SYSTEM,
            leads=lambda: made.leads,
            refusal=lambda namespace: borough.refusal,
            tell=tell,
            judged=lambda ref, problems: borough.problems.extend(each.field for each in problems),
        )
    )
    task = asyncio.create_task(made.adopter.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await made.adopter.synced.wait()
        made.adopter.lead(term)
        yield made
    finally:
        await made.adopter.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def borough(
    *,
    ready: int = 1,
    bypassed: int = 1,
    asks: bool = True,
    shipped: bool = False,
    family: str = "IPv4",
    **words: str,
) -> AsyncIterator[Borough]:
    """Pods web-0, web-1 and so on, the bypassed ones last; the reader reads before anything of ours begins. `shipped`:
    with the rights of the manifests and no others, which takes a while to set up; else with all. `family`: of the
    Service; the pods have addresses of both."""
    async with contextlib.AsyncExitStack() as stack:
        place = await stack.enter_async_context(town())
        if shipped:
            place.api.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ROOT_NAMESPACE}}])
            place.api.apply(manifests("tier-3-endpoints", ()))
        groups = () if shipped else MASTERS
        cluster = await stack.enter_async_context(connect(place.api.kubeconfig(CONTROLLER, groups)))
        made = Borough(place, cluster, family)
        controllers = place.api.kubeconfig("kubernetes", MASTERS)
        theirs = await stack.enter_async_context(connect(controllers, manager=CONTROLLER_MANAGER))
        kubernetes = SliceController(theirs)
        stack.push_async_callback(kubernetes.stop)
        await kubernetes.start()
        await stack.enter_async_context(Mirror(theirs, SHOP))
        await made.service(asks, **{"adopt_minimum": "100%", "adopt_hold": "1s", **words} if asks else words)
        for number in range(ready + bypassed):
            await made.pod(f"web-{number}")
        await stack.enter_async_context(made.reader.reading())
        await made.until_read(*(f"web-{number}" for number in range(ready + bypassed)))
        for number in range(ready, ready + bypassed):
            await made.bypassed(f"web-{number}")
        await made.until_read(*(f"web-{number}" for number in range(ready)))
        yield made
