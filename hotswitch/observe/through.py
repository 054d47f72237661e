"""One request of a drill: the app's own declared probe, asked through the rescue from inside the namespace (S4.4, I2).

The socket carries a mark that the gate knows (capture.gate_table): its connection to the pod's address goes where a
client's would go, though it never leaves the namespace. Where the mesh speaks mTLS, the request does too, with the
pod's own identity: so it proves the rescue's certificate and key as well. A private key goes to TLS by an anonymous
file in memory; no disk ever sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from hotswitch.kernel.netns import Where, inside
from hotswitch.model import ProbeOutcome
from hotswitch.observe.health import REQUEST, outcome_of_status
from hotswitch.observe.path import ALPN, SETTLE_S, AppProbe

_HOST = "hotswitch-drill"


@dataclass(frozen=True, slots=True)
class Answer:
    """`took_s`: from the connection's start to the answer. TLS: the far end proved the pod's identity, and closed
    without an answer of the app."""

    outcome: ProbeOutcome
    detail: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM texts of the pod's own identity, and the SPIFFE id that the far end must show."""

    chain_pem: bytes
    key_pem: bytes
    roots_pem: bytes
    spiffe_id: str

    def __repr__(self) -> str:
        return f"Credentials({self.spiffe_id})"


class Through:
    """Asks for one pod. `credentials` None: plaintext."""

    def __init__(self, netns: Where, address: str, probe: AppProbe, credentials: Credentials | None) -> None:
        self._netns, self._address, self._probe, self._credentials = netns, address, probe, credentials

    async def ask(self, mark: int) -> Answer:
        """Never raises for what can go wrong on the way: that is the answer. Raises PermissionError without the right
        to mark a socket (NET_ADMIN)."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        sock = self._socket(mark)
        try:
            async with asyncio.timeout(self._probe.timeout_s):
                outcome, detail = await self._talk(sock)
        except TimeoutError:
            outcome, detail = ProbeOutcome.TIMEOUT, f"no answer within {self._probe.timeout_s:g} s"
        except ConnectionRefusedError:
            outcome, detail = ProbeOutcome.REFUSED, "refused"
        except (ssl.SSLError, OSError) as failure:
            outcome, detail = ProbeOutcome.RESET, str(failure) or type(failure).__name__
        finally:
            sock.close()
        return Answer(outcome, detail, loop.time() - started_s)

    def _socket(self, mark: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        with inside(self._netns):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _talk(self, sock: socket.socket) -> tuple[ProbeOutcome, str]:
        await asyncio.get_running_loop().sock_connect(sock, (self._address, self._probe.port))
        context = None if self._credentials is None else _context(self._credentials)
        name = None if context is None else _HOST
        reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
        try:
            if self._credentials is not None and (wrong := _stranger(writer, self._credentials.spiffe_id)):
                return ProbeOutcome.UNREADY, wrong
            return await self._request(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[ProbeOutcome, str]:
        closed = ProbeOutcome.RESET if self._credentials is None else ProbeOutcome.TLS
        if self._probe.path is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    if not await reader.read(1):
                        return closed, "closed before a word"
            return ProbeOutcome.OK, "connected"
        host = f"[{self._address}]" if ":" in self._address else self._address
        writer.write(REQUEST % (self._probe.path.encode(), host.encode()))
        await writer.drain()
        line = await reader.readline()
        return outcome_of_status(line) if line else (closed, "closed before an answer")


def _stranger(writer: asyncio.StreamWriter, wanted: str) -> str:
    """Whom we speak to, if it is not the pod itself: the roots alone vouch for everybody of the mesh."""
    certificate = writer.get_extra_info("peercert") or {}
    shown = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return "" if wanted in shown else f"answered as {', '.join(shown) or 'nobody'}, not as {wanted}"


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # SPIFFE ids are compared instead
    context.load_verify_locations(cadata=credentials.roots_pem.decode())
    context.set_alpn_protocols(ALPN)
    with _in_memory(credentials.chain_pem) as chain, _in_memory(credentials.key_pem) as key:
        context.load_cert_chain(chain, key)
    return context


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """OpenSSL reads keys from paths alone."""
    fd = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
