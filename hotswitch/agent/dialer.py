"""The agent's way to a controller: its addresses, whose certificate counts, the token, and one call (S4.2, I1).

Whom it obeys: a server whose certificate is vouched for by the CA that the agent was given, under the name that it
asked for. Files are read anew for each call, because Secrets and tokens are renewed in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hotswitch.rescue.calls import Call, Line

METHOD = "/hotswitch.agent.v1.AgentLink/Speak"
RECEIVED_BYTES = 4 * 2**20
CONNECT_WITHIN_S = 10.0
GOODBYE_S = 1.0  # gRPC never answers the one of TLS, and sees no end of the link before the connection is closed


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """`addresses`: host:port, each of which may have several addresses; the agent tries them all, for one leads.
    `authority`: PEM of the CA that vouches for controllers; None: plaintext, for tests on loopback. `server_name`:
    whose certificate it must be; "": the host's. `certificate`, `key`: the agent's own, where the controller asks for
    one. `token`: of the audience hotswitch-agent, read anew each time. `kept`: the file of agent.kept."""

    node: str = ""
    pod_uid: str = ""
    addresses: tuple[str, ...]
    token: Path
    authority: Path | None = None
    server_name: str = ""
    certificate: Path | None = None
    key: Path | None = None
    kept: Path | None = None


async def resolve(address: str) -> list[str]:
    """All addresses behind a name. Raises OSError."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return list(dict.fromkeys(f"[{each[4][0]}]:{port}" if ":" in str(each[4][0]) else f"{each[4][0]}:{port}"
                              for each in found))  # fmt: skip


class Dialer:
    """Knows where controllers are, and calls one of them."""

    def __init__(self, settings: LinkSettings, resolve: Callable[[str], Awaitable[list[str]]] = resolve) -> None:
        self._settings, self._resolve = settings, resolve
        self._known: list[str] = []

    async def addresses(self) -> list[str]:
        """In any order. As they were, when names cannot be asked (I1)."""
        found: list[str] = []
        for each in self._settings.addresses:
            with contextlib.suppress(OSError, ValueError):
                found += await self._resolve(each)
        self._known = found or self._known
        return random.sample(self._known, len(self._known))

    @asynccontextmanager
    async def call(self, address: str) -> AsyncIterator[Call]:
        """Raises OSError (CallFailed is one, and so is a certificate that is not good), TimeoutError."""
        token = self._token()  # before there is anything to be closed
        line = await self._connected(address)
        listening = asyncio.get_running_loop().create_task(line.listen())
        try:
            yield line.call(METHOD, scheme="https", host=self._name, authorization=f"Bearer {token}")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _connected(self, address: str) -> Line:
        host, _, port = address.rpartition(":")
        tls = self._tls()
        async with asyncio.timeout(CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"),
                int(port),
                ssl=tls,
                server_hostname=self._name if tls is not None else None,
                ssl_shutdown_timeout=GOODBYE_S if tls is not None else None,
            )
        return Line(reader, writer, RECEIVED_BYTES)

    @property
    def _name(self) -> str:
        """Whose certificate the controller must show."""
        return self._settings.server_name or self._settings.addresses[0].rpartition(":")[0].strip("[]")

    def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if settings.authority is None:
            return None
        context = ssl.create_default_context(cafile=str(settings.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
        return context

    def _token(self) -> str:
        return self._settings.token.read_text().strip()
