"""Whose fault is it? The app's own declared probe, once through the proxy and once straight to the app (S4.2, I2).

Both start inside the namespace. Istio's rules send a connection of the proxy's uid to podIP:port through 15006, and any
other's straight to the app: that one is made by a user and group that are nobody's, whoever we are. The gate never
touches loopback traffic, so this holds while it is open too. Only what the app itself declares as a probe is asked,
with GET, at the pod's own address. Where only mTLS passes, a TLS answer from the proxy is the pass, and its
certificate's end is read on the way (S4.2c).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from dataclasses import dataclass

from cryptography import x509

from hotswitch.kernel.netns import Where, as_user, inside
from hotswitch.model import STAND_IN_UID, PathComparison, Port, Probe, ProbeOutcome
from hotswitch.observe.health import HttpProbe

ALPN = ["istio-http/1.1", "istio", "http/1.1"]  # what an Istio client sidecar offers
SETTLE_S = 0.05  # a proxy that cannot reach the app closes an accepted connection within this (loopback)


@dataclass(frozen=True, slots=True)
class AppProbe:
    """The app's own probe: GET `path` on `port`, or a TCP connection when `path` is None."""

    port: Port
    path: str | None = "/"
    timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PathReport:
    comparison: PathComparison
    certificate_ends_unix_s: float | None = None  # the proxy's own, where TLS was spoken


class PathProbe:
    """Compares both ways for one pod. `address`: the pod's own, never loopback. `strict`: the port takes mTLS only."""

    def __init__(
        self, netns: Where, address: str, probe: AppProbe, *, proxy_uid: int, strict: bool, lag_s: float
    ) -> None:
        self._netns, self._address, self._probe = netns, address, probe
        self._proxy_uid, self.strict, self._lag_s = proxy_uid, strict, lag_s

    async def compare(self) -> PathReport:
        (proxied, ends), direct = await asyncio.gather(self._proxied(), self._ask(STAND_IN_UID))
        now_s = asyncio.get_running_loop().time()
        return PathReport(PathComparison(now_s, proxied=proxied, direct=direct), ends)

    async def _proxied(self) -> tuple[ProbeOutcome, float | None]:
        if self.strict:
            return await self._greet_tls()
        return await self._ask(self._proxy_uid), None

    async def _ask(self, uid: int) -> ProbeOutcome:
        return await (self._connect(uid) if self._probe.path is None else self._get(uid, self._probe.path))

    async def _get(self, uid: int, path: str) -> ProbeOutcome:
        answer: asyncio.Future[Probe] = asyncio.get_running_loop().create_future()
        where = (self._address, self._probe.port)
        probe = HttpProbe(
            self._netns, where, path, answer.set_result, timeout_s=self._probe.timeout_s, lag_s=self._lag_s, uid=uid
        )
        try:
            return (await answer).outcome
        finally:
            probe.cancel()

    async def _connect(self, uid: int) -> ProbeOutcome:
        """Connected and still open a moment later: a proxy accepts first and closes when it cannot reach the app."""
        try:
            async with asyncio.timeout(self._probe.timeout_s):
                sock = await self._open(uid)
                with sock, contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SETTLE_S):
                        greeting = await asyncio.get_running_loop().sock_recv(sock, 1)
                        return ProbeOutcome.OK if greeting else ProbeOutcome.RESET
                return ProbeOutcome.OK
        except (OSError, TimeoutError) as failure:
            return _outcome_of(failure)

    async def _greet_tls(self) -> tuple[ProbeOutcome, float | None]:
        """As far as the proxy's certificate; we present none, so nothing of the app is ever reached."""
        try:
            async with asyncio.timeout(self._probe.timeout_s):
                sock = await self._open(self._proxy_uid)
                with sock:
                    return await _handshake(sock)
        except (OSError, TimeoutError) as failure:
            return _outcome_of(failure), None

    async def _open(self, uid: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        with inside(self._netns), as_user(uid, uid):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (self._address, self._probe.port))
        except BaseException:
            sock.close()
            raise
        return sock


async def _handshake(sock: socket.socket) -> tuple[ProbeOutcome, float | None]:
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = _context().wrap_bio(incoming, outgoing, server_hostname=None)
    answered = False
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(sock, outgoing.read())
            data = await loop.sock_recv(sock, 16384)
            if not data:
                return (ProbeOutcome.TLS if answered else ProbeOutcome.RESET), None
            answered = True
            incoming.write(data)
        except ssl.SSLError:  # an alert is an answer: somebody who speaks TLS is alive
            return ProbeOutcome.TLS, None
        else:
            return ProbeOutcome.TLS, _ends(tls.getpeercert(binary_form=True))


@functools.cache
def _context() -> ssl.SSLContext:
    """One for all greetings, which leave nothing in it: to make one takes longer than to greet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # we ask whether it answers, not whom; nothing is sent over this connection
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(ALPN)
    return context


def _ends(der: bytes | None) -> float | None:
    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp() if der else None


def _outcome_of(failure: BaseException) -> ProbeOutcome:
    if isinstance(failure, ConnectionRefusedError):
        return ProbeOutcome.REFUSED
    if isinstance(failure, ConnectionError):
        return ProbeOutcome.RESET
    return ProbeOutcome.TIMEOUT if isinstance(failure, TimeoutError) else ProbeOutcome.INVALID
