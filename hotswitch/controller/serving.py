"""Endpoints inside the controller: made of its settings, told to people by its voice, counted by its metrics (S0, S2).

What it says is in service_words.py; ordinary Services that are taken over are another page (adopting.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from aiohttp import web

from hotswitch.backends import HOME, ClusterState, Output, ServiceMode
from hotswitch.cluster.client import Cluster
from hotswitch.controller.adopting import Adopting
from hotswitch.controller.alarms import Alarms
from hotswitch.controller.explaining import RouteServer
from hotswitch.controller.invalid import InvalidObjects
from hotswitch.controller.istio_output import IstioOutput
from hotswitch.controller.listening import listen, target
from hotswitch.controller.service_words import Endings, IstioWords, ServiceWords
from hotswitch.controller.settings import ControllerSettings
from hotswitch.controller.speaking import Speaker
from hotswitch.decide.endpoints.availability import is_available
from hotswitch.endpoints.assemble import Place
from hotswitch.endpoints.cluster_states import ClusterStates
from hotswitch.endpoints.endpoints import Endpoints
from hotswitch.endpoints.parts import Parts
from hotswitch.endpoints.peer import connect_peer
from hotswitch.endpoints.publisher import Asked
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.role_server import Keepers, RoleServer
from hotswitch.endpoints.source import Source
from hotswitch.endpoints.xds.server import Identity
from hotswitch.endpoints.xds.serving import XdsServing, XdsSettings
from hotswitch.report.controller_metrics import ControllerMetrics

MISNAMED = "this is no cluster's name: lower-case letters, digits and -; it is not read"


class Serving:
    """`async with Serving.open(...) as serving`."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ControllerSettings,
        speaker: Speaker,
        metrics: ControllerMetrics,
        leads: Callable[[], bool],
        outputs: Callable[[str], frozenset[Output]],
        others: Mapping[str, Cluster],
        refusal: Callable[[str], str],
    ) -> None:
        self._speaker, self._metrics = speaker, metrics
        self.highest_term = 0  # that was ever seen in an election, or in a takeover
        self.alarms = Alarms(speaker.tell)
        self.invalid: list[InvalidObjects] = []  # one for each cluster
        registry = Registry()
        words = ServiceWords(speaker, metrics, self.alarms, registry, settings.namespace)
        self.sources = [
            self._source(cluster, registry, HOME, settings),
            *(self._source(other, registry, name, settings) for name, other in others.items()),
        ]
        self.xds = XdsServing(_xds(settings), self.sources[0].is_unread)
        self._routing = RouteServer(cluster, lambda: self.xds.publisher if leads() else None)
        self.istio = IstioOutput(cluster, outputs, leads, IstioWords(self.alarms, words.about), metrics.istio_written)
        parts = Parts(
            cluster=cluster,
            namespace=settings.namespace,
            sources=self.sources,
            registry=registry,
            leads=leads,
            tell=words.tell,
            foreign=words.foreign,
            written=metrics.slice_written,
            more=(Asked(Output.XDS, self.xds), Asked(Output.ISTIO, self.istio), Endings(self.alarms)),
        )
        self.endpoints = Endpoints(parts)
        self.adopting = Adopting(cluster, settings.namespace, speaker, metrics, self.alarms, leads, refusal)
        self.invalid.append(self.adopting.invalid)
        self._misnamed, self._began_s = settings.misnamed, time.monotonic()
        self._states = ClusterStates(cluster, settings.namespace, self._further, words.heard, leads)
        self._telling: asyncio.Task[None] | None = None
        self._server = RoleServer(
            self.endpoints.roles, Keepers(cluster, frozenset(settings.keepers)), self.endpoints.find
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        cluster: Cluster,
        settings: ControllerSettings,
        speaker: Speaker,
        metrics: ControllerMetrics,
        leads: Callable[[], bool],
        refusal: Callable[[str], str],
        outputs: Callable[[str], frozenset[Output]],
    ) -> AsyncIterator[Serving]:
        """`outputs`: those that policy gives to Services of a namespace."""
        async with AsyncExitStack() as stack:
            others = {}
            for name, (kubeconfig, context) in settings.clusters.items():
                others[name] = await stack.enter_async_context(connect_peer(kubeconfig, context))
            serving = cls(cluster, settings, speaker, metrics, leads, outputs, others, refusal)
            stack.push_async_callback(serving.xds.stop)
            stack.push_async_callback(serving.istio.stop)
            stack.push_async_callback(serving.adopting.adopter.stop)
            stack.push_async_callback(serving.endpoints.stop)
            stack.push_async_callback(serving._serve_end)
            await serving._serve(settings)
            yield serving

    def _source(self, cluster: Cluster, registry: Registry, name: str, settings: ControllerSettings) -> Source:
        place = Place(cluster=name, trust_domain=settings.trust_domain)
        invalid = InvalidObjects(self._speaker.invalid)
        self.invalid.append(invalid)
        return Source(
            cluster, registry, place, is_home=name == HOME, judged=invalid.read, trouble=self._speaker.trouble
        )

    # ---- the role endpoint ----

    async def _serve(self, settings: ControllerSettings) -> None:
        """Raises OSError when the port is taken."""
        app = web.Application()
        app.add_routes([*self._server.routes, *self._routing.routes])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.SockSite(self._runner, listen(settings.address, settings.roles_port)).start()

    async def _serve_end(self) -> None:
        await self._runner.cleanup()

    @property
    def roles_port(self) -> int:
        return int(self._runner.addresses[0][1])

    # ---- life ----

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.endpoints.run())
            tasks.create_task(self.adopting.adopter.run())

    async def synced(self) -> None:
        await self.endpoints.synced.wait()
        await self.adopting.adopter.synced.wait()
        self.highest_term = max(await self.endpoints.highest_term(), await self.adopting.adopter.highest_term())

    def lead(self, term: int) -> None:
        known = [*self.endpoints.registry.services.values(), *self.endpoints.home.unread()]
        self.xds.lead(each for each in known if Output.XDS in each.options.outputs)
        self.istio.lead(partial(self.endpoints.is_left, Output.ISTIO))
        self.endpoints.lead(term)
        self.adopting.adopter.lead(term)
        if self._further():
            self._telling = asyncio.get_running_loop().create_task(self._states.run())

    def follow(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        self.adopting.adopter.follow()
        self.endpoints.follow()
        self.istio.follow()
        self.xds.follow()
        self.alarms.stop()

    def _further(self) -> list[ClusterState]:
        return [*(each.state for each in self.sources if not each.is_home), *map(self._unread, self._misnamed)]

    def _unread(self, name: str) -> ClusterState:
        age_s = time.monotonic() - self._began_s
        return ClusterState(name=name, staleness=None, age_s=age_s, problem=MISNAMED, backends={})

    # ---- metrics ----

    def refresh_metrics(self) -> None:
        figures = self.xds.figures
        ended = {"malformed": figures.malformed, "full": figures.refused, "silent": figures.silent}
        self._metrics.xds(figures.streams, figures.pushes, figures.bytes_sent, figures.nacks, ended)
        registry = self.endpoints.registry
        modes = dict.fromkeys((str(each) for each in ServiceMode), 0)
        backends = {"available": 0, "unavailable": 0}
        without = 0
        for service, record in registry.services.items():
            modes[str(record.mode)] += 1
            election = self.endpoints.election(service)
            without += record.mode is ServiceMode.ACTIVE_STANDBY and election is not None and election.active is None
            for backend in registry.backends(service):
                backends["available" if is_available(backend, record.options) else "unavailable"] += 1
        self._metrics.serving(modes, backends, without)
        self.adopting.refresh_metrics()
        self._metrics.clusters(self._further())


def _xds(settings: ControllerSettings) -> XdsSettings:
    if settings.xds_port is None:
        return XdsSettings(domain=settings.domain)
    identity = None
    if settings.xds_certificate is not None and settings.xds_key is not None:
        identity = Identity(settings.xds_certificate, settings.xds_key, settings.xds_clients)
    address = target(settings.address, settings.xds_port)
    return XdsSettings(address=address, identity=identity, domain=settings.domain)
