"""The embedded Kubernetes API: a server on loopback that clients take for an API server (S4.6, for tests and the demo).

It can be stopped and started again on the same port; what it stores, and who it knows, stays. Where it differs from a
real API server is written in docs/explanation/embedded-api.md, and tests/kubeapi/test_conformance.py runs against both.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from types import TracebackType

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from hotswitch.sandbox.kubeapi import bootstrap
from hotswitch.sandbox.kubeapi.admin import Admin
from hotswitch.sandbox.kubeapi.admission import Admission
from hotswitch.sandbox.kubeapi.backend import NodeBackend
from hotswitch.sandbox.kubeapi.crd import Definitions
from hotswitch.sandbox.kubeapi.failure import Obj
from hotswitch.sandbox.kubeapi.faults import Faults
from hotswitch.sandbox.kubeapi.handlers import Handlers
from hotswitch.sandbox.kubeapi.identity import Tokens, write_kubeconfig
from hotswitch.sandbox.kubeapi.rbac import Denial, Rbac, Uses
from hotswitch.sandbox.kubeapi.resources import Catalogue
from hotswitch.sandbox.kubeapi.store import Store
from hotswitch.sandbox.kubeapi.tls import Served, serve_tls
from hotswitch.sandbox.kubeapi.writes import Writes

LARGEST = 3 * 1024 * 1024  # bytes of a request body, as a real API server
GOODBYE_S = 0.1  # open requests (watches) are cut this long after a stop


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=LARGEST
    )


class _Server(web.Server):
    """Keeps the transports that aiohttp lets go of: those it closed itself, which TLS keeps open until the other side
    has said goodbye, and those whose handshake ends after the server has ended."""

    def __init__(self, handlers: Handlers) -> None:
        super().__init__(handlers.handle, request_factory=_request, access_log=None)
        self._transports: dict[RequestHandler, asyncio.Transport] = {}
        self._is_over = False

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._transports[handler] = transport
        if self._is_over:
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._transports.pop(handler, None)

    def abort(self) -> None:
        """All connections, now and from now on."""
        self._is_over = True
        for transport in list(self._transports.values()):
            transport.abort()


class EmbeddedApi:
    """`async with EmbeddedApi() as api`. `directory`: for certificates and kubeconfigs; a temporary one by default."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: bool = True, directory: Path | None = None
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._served: Served | None = None
        self._runner: web.ServerRunner | None = None
        self._server: _Server | None = None
        self.catalogue, self.store, self.tokens, self.faults = Catalogue(), Store(), Tokens(), Faults()
        self.writes = Writes(self.store)
        self.rbac = Rbac(self.store)
        definitions, admission = Definitions(self.catalogue, self.store), Admission(self.store, self.rbac)
        self.writes.shapers = [definitions.shape, admission.shape]
        self.writes.guards = [admission.guard]
        self.handlers = Handlers(self.catalogue, self.store, self.writes, self.rbac, self.tokens, self.faults)
        self.admin = Admin(self.catalogue, self.store, self.writes)
        self.admin.apply(bootstrap.objects())

    async def __aenter__(self) -> EmbeddedApi:
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="hotswitch-api-")
        if self._tls:
            self._served = serve_tls(self.directory, self._host)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    async def start(self) -> None:
        """Listen (again). Raises OSError when the port is taken."""
        if self._runner is not None:
            return
        self._server = _Server(self.handlers)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=GOODBYE_S)
        await self._runner.setup()
        context = self._served.context if self._served else None
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=context, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections and cut those that are open; everything stored stays."""
        runner, server = self._runner, self._server
        self._runner = self._server = None
        if runner is None or server is None:
            return
        self.faults.cut_watches()
        await runner.cleanup()
        server.abort()

    @property
    def directory(self) -> Path:
        """Of certificates and kubeconfigs. Raises RuntimeError when it is a temporary one and nothing is served yet."""
        if self._directory is not None:
            return self._directory
        if self._temporary is None:
            raise RuntimeError("the API has no folder before it is entered")
        return Path(self._temporary.name)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def ca_file(self) -> Path | None:
        """The CA that clients have to trust; None without TLS."""
        return self._served.ca_file if self._served else None

    @property
    def backend(self) -> NodeBackend:
        return self.handlers.backend

    @backend.setter
    def backend(self, backend: NodeBackend) -> None:
        self.handlers.backend = backend

    def token(self, user: str, groups: tuple[str, ...] = ()) -> str:
        return self.tokens.issue(user, groups)

    def kubeconfig(self, user: str = "admin", groups: tuple[str, ...] = ()) -> Path:
        """A file for this user (`admin`, a name, or `system:serviceaccount:NAMESPACE:NAME`) with a new token."""
        path = self.directory / f"{user.replace(':', '-')}.kubeconfig"
        return write_kubeconfig(path, url=self.url, ca_file=self.ca_file, token=self.token(user, groups), name=user)

    def apply(self, manifests: list[Obj]) -> list[Obj]:
        """As the cluster's admin, in order; see Admin.apply."""
        return self.admin.apply(manifests)

    @property
    def denied(self) -> list[Denial]:
        """Every request that RBAC refused."""
        return self.rbac.denied

    @property
    def rules_used(self) -> Uses:
        return self.rbac.uses
