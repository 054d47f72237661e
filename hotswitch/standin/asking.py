"""Asks the app what its own probes ask, as pilot-agent does it (S4.2): at the pod's address, from 127.0.0.6 or ::6, as
a user that Istio's rules do not know; HTTPS without verification, redirects within the pod's address followed, others
taken for a success. What the app answers is passed on; an app that cannot be asked is a 500.

Source: Istio's pilot/cmd/pilot-agent/status/server.go (handleAppProbe*).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote, urljoin, urlsplit

from hotswitch.capture.probes import Action, AppProbe
from hotswitch.kernel.netns import Where, as_user, inside
from hotswitch.model import STAND_IN_UID, Port
from hotswitch.standin.health_check import is_serving
from hotswitch.standin.http1 import HEAD_BYTES, Head, Malformed, read_answer

TIMEOUT_AT_MOST_S = 60.0
REDIRECTS_AT_MOST = 10  # Go's http.Client, and so pilot-agent
MAGIC_SOURCES = {socket.AF_INET: "127.0.0.6", socket.AF_INET6: "::6"}  # Istio's rules let them pass on lo
_FRAMING = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer", "keep-alive"}
)
_FOLLOWED = frozenset({301, 302, 303, 307, 308})
_SAFE = "/?&=%:@!$'()*+,;~-._[]"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kubelet is told; `why`: for people, when it is no answer of the app's own."""

    status: int
    body: bytes = b""
    why: str = ""


class Asker:
    """Asks one pod's app. `status_port`: what the kubelet's Host header names instead of the app's own port."""

    def __init__(self, netns: Where, address: str, status_port: Port) -> None:
        self._netns, self._address, self._status_port = netns, address, status_port
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET

    async def ask(self, probe: AppProbe, request: Head) -> Answer:
        """Within the probe's own timeout; never raises for what can go wrong on the way."""
        try:
            async with asyncio.timeout(min(probe.timeout_s, TIMEOUT_AT_MOST_S)):
                match probe.action:
                    case Action.HTTP_GET:
                        return await self._http_get(probe, request)
                    case Action.TCP_SOCKET:
                        return await self._tcp_socket(probe)
                    case Action.GRPC:
                        return await self._grpc(probe, request)
        except TimeoutError:
            return Answer(500, why=f"no answer within {probe.timeout_s:g} s")
        except (OSError, Malformed, ssl.SSLError) as failure:
            return Answer(500, why=str(failure) or type(failure).__name__)

    # ---- httpGet ----

    async def _http_get(self, probe: AppProbe, request: Head) -> Answer:
        at = f"{self._host}:{probe.port}"
        url = f"{'https' if probe.scheme.upper() == 'HTTPS' else 'http'}://{at}/{probe.path.removeprefix('/')}"
        host = self._host_header(request, probe.port)
        for _ in range(REDIRECTS_AT_MOST):
            head, body = await self._get(url, host, request)
            if not 300 <= head.status < 400:
                return Answer(head.status, body)
            where = urljoin(url, _location(head)) if head.status in _FOLLOWED else ""
            if not self._is_here(where):
                return Answer(200, why=f"redirected by {head.status}")
            url, host = where, urlsplit(where).netloc
        raise Malformed(f"more than {REDIRECTS_AT_MOST} redirects")

    async def _get(self, url: str, host: str, request: Head) -> tuple[Head, bytes]:
        parts = urlsplit(url)
        target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        passed = [(name, value) for name, value in request.headers if name.lower() not in _FRAMING]
        asked = Head(f"GET {target} HTTP/1.1", (("Host", host), *passed, ("Connection", "close")))
        secure = parts.scheme == "https"
        async with self._connected(parts.port or (443 if secure else 80), secure=secure) as (reader, writer):
            writer.write(asked.encode())
            return await read_answer(reader)

    def _host_header(self, request: Head, port: Port) -> str:
        """The kubelet's, with the app's own port in the place of pilot-agent's."""
        host = request.get("host")
        stem, colon, number = host.rpartition(":")
        return f"{stem}:{port}" if colon and number == str(self._status_port) else host or f"{self._host}:{port}"

    def _is_here(self, url: str) -> bool:
        with contextlib.suppress(ValueError):
            parts = urlsplit(url)
            return parts.scheme in ("http", "https") and parts.hostname == self._address and parts.port != 0
        return False

    @property
    def _host(self) -> str:
        return f"[{self._address}]" if self._family == socket.AF_INET6 else self._address

    # ---- tcpSocket, grpc ----

    async def _tcp_socket(self, probe: AppProbe) -> Answer:
        (await self._connect(probe.port)).close()
        return Answer(200)

    async def _grpc(self, probe: AppProbe, request: Head) -> Answer:
        async with self._connected(probe.port) as (reader, writer):
            authority = f"{self._host}:{probe.port}"
            serves = await is_serving(reader, writer, authority, probe.service, request.get("user-agent"))
            return Answer(200) if serves else Answer(500, why="the app says that it does not serve")

    # ---- connections ----

    @contextlib.asynccontextmanager
    async def _connected(
        self, port: Port, *, secure: bool = False
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        sock = await self._connect(port)
        tls, name = (_unverified(), self._address) if secure else (None, None)
        try:
            reader, writer = await asyncio.open_connection(sock=sock, limit=HEAD_BYTES, ssl=tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _connect(self, port: Port) -> socket.socket:
        with inside(self._netns), as_user(STAND_IN_UID, STAND_IN_UID):
            sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(OSError):  # ::6 is there only where istio-init has put it; without, it works too
                sock.bind((MAGIC_SOURCES[self._family], 0))
            await asyncio.get_running_loop().sock_connect(sock, (self._address, port))
        except BaseException:
            sock.close()
            raise
        return sock


def _location(head: Head) -> str:
    if not (where := head.get("location")):
        raise Malformed(f"redirected by {head.status} to nowhere")
    return where


@cache
def _unverified() -> ssl.SSLContext:
    """As the kubelet and pilot-agent: a probe asks whether the app is well, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.set_alpn_protocols(["http/1.1"])
    return context
