"""The xDS server of a controller that may or may not lead: it listens while it does, and only then (S0.7, S2.5).

Only the leader knows what is published. Who follows does not listen, so that a client that was sent there is refused at
once and tries another one; a client whose server stops leading is cut off, keeps what it has, and comes back elsewhere.
A new leader says nothing of a Service before it has decided on it, so nothing is taken away in between (I1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass

from hotswitch.backends import HOME, Published, ServiceId, ServiceRecord
from hotswitch.endpoints.xds.callers import caller_of
from hotswitch.endpoints.xds.figures import Figures
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.loads import Loads
from hotswitch.endpoints.xds.names import DOMAIN
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.server import Identity, XdsServer

RETRY_S = 1.0
log = logging.getLogger("hotswitch.xds")


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsSettings:
    """`address`: host:port; "": nothing is served. `identity` None: plaintext. `domain`, `home`: the cluster's domain,
    and its name."""

    address: str = ""
    identity: Identity | None = None
    domain: str = DOMAIN
    home: str = HOME


class XdsServing:
    """A Publisher; `publish` and `withdraw` are only called while it leads. `unread`: as EdsPublisher has it."""

    def __init__(self, settings: XdsSettings, unread: Callable[[ServiceId], bool] = lambda service: False) -> None:
        self._settings, self._unread, self.figures = settings, unread, Figures()
        self.server: XdsServer | None = None
        self.publisher = self._new_publisher()
        self.loads = self._new_loads()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def lead(self, services: Iterable[ServiceRecord]) -> None:
        """Begin to serve; `services` are all that exist."""
        self.publisher = self._new_publisher()
        self.loads = self._new_loads()
        for each in services:
            self.publisher.expect(each)
        if self._settings.address:
            self._serve()

    def _serve(self) -> None:
        self.server = XdsServer(
            self.publisher, caller_of, address=self._settings.address, identity=self._settings.identity,
            figures=self.figures, loads=self.loads,
        )  # fmt: skip
        self.server.open()
        self._begin(self._start(self.server))

    def follow(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            self._begin(self._end(server))

    async def stop(self) -> None:
        self.follow()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def publish(self, published: Published) -> None:
        self.publisher.publish(published)

    def withdraw(self, service: ServiceId) -> None:
        self.publisher.withdraw(service)

    def _new_publisher(self) -> EdsPublisher:
        settings = self._settings
        return EdsPublisher(self._changed, home=settings.home, domain=settings.domain, unread=self._unread)

    def _new_loads(self) -> Loads:
        publisher = self.publisher
        return Loads(
            publisher.load, publisher.placed, self._settings.domain, lambda service: service in publisher.services
        )

    def _changed(self, kinds: Collection[Kind], names: Collection[str]) -> None:
        if self.server is not None:
            self.server.changed(kinds, names)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, server: XdsServer) -> None:
        """Until it listens, or does not lead any more: a predecessor may still hold the port."""
        async with self._turn:
            while server is self.server:
                try:
                    return await server.start()
                except OSError as failure:
                    log.error("xDS is not served", extra={"reason": str(failure)})
                    await asyncio.sleep(RETRY_S)

    async def _end(self, server: XdsServer) -> None:
        async with self._turn:
            await server.stop()
