"""A command in a container, by the API server's exec over WebSocket; what became of it is said, never guessed (S4.3).

Frames of v5.channel.k8s.io (or v4, where nothing is sent to standard input): one byte tells the channel. How the
command ended comes on channel 3 at the very end. A connection that ends without it tells nothing: UNKNOWN, never a
success; so does a command that did not end in time, for it may still be running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from hotswitch.cluster import exec_outcome
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.exec_outcome import ExecOutcome, Executed
from hotswitch.cluster.failure import ApiFailure, ConnectError
from hotswitch.cluster.kinds import PODS

__all__ = ["ExecOutcome", "Executed", "exec_in"]

STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
CLOSE_STDIN = bytes([255, STDIN])  # v5 only
PIECE_BYTES = 32 * 1024
TIMEOUT_S = 20.0
LIMIT_BYTES = 2**20
GOODBYE_S = 1.0  # the last output may come so much later than the status
Words = list[tuple[str, str]]


async def exec_in(
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str,
    argv: Sequence[str],
    stdin: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    limit: int = LIMIT_BYTES,
) -> Executed:
    """Never raises for what happens there or on the way. `stdin` is sent whole and then closed. Of standard output and
    error `limit` bytes each are kept; the rest is read and dropped. The name may belong to another pod by now: a
    command that must not hit one has to carry its own check."""
    path = PODS.path(namespace, pod, "exec")
    query = [("container", container), ("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin is not None else []
    query += [("command", word) for word in argv]
    heard = _Heard(limit)
    try:
        async with asyncio.timeout(timeout_s):
            return await _run(cluster, path, query, stdin, heard)
    except TimeoutError:
        return heard.executed(ExecOutcome.UNKNOWN, None, f"it did not end within {timeout_s:g} s, and may still run")


async def _run(cluster: Cluster, path: str, query: Words, stdin: bytes | None, heard: _Heard) -> Executed:
    try:
        headers = await cluster.headers()
        return await _connected(cluster, path, query, headers, stdin, heard)
    except aiohttp.WSServerHandshakeError as refusal:
        if refusal.status == 401 and await cluster.renew(headers):
            return await _run(cluster, path, query, stdin, heard)
        sentence = await _why(cluster, path, query, refusal)
        return heard.executed(exec_outcome.of_handshake(refusal.status), None, sentence)
    except (aiohttp.ClientConnectorError, ConnectError) as failure:
        return heard.executed(ExecOutcome.NOT_STARTED, None, f"the API server cannot be reached: {failure}")
    except (aiohttp.ClientError, OSError) as failure:
        sentence = f"the connection was lost: {type(failure).__name__}: {failure}"
        return heard.executed(ExecOutcome.UNKNOWN, None, sentence)


async def _connected(
    cluster: Cluster, path: str, query: Words, headers: dict[str, str], stdin: bytes | None, heard: _Heard
) -> Executed:
    protocols = (V5, V4) if stdin is None else (V5,)
    async with cluster.web_socket(cluster.url(path, query), protocols, headers) as socket:
        return await _talk(socket, stdin, heard)


async def _talk(socket: aiohttp.ClientWebSocketResponse, stdin: bytes | None, heard: _Heard) -> Executed:
    sending = asyncio.create_task(_send(socket, stdin)) if stdin is not None else None
    try:
        await _listen(socket, heard)
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    outcome, code, sentence = exec_outcome.of_status(bytes(heard.status))
    return heard.executed(outcome, code, sentence)


async def _listen(socket: aiohttp.ClientWebSocketResponse, heard: _Heard) -> None:
    """To the end of the connection; not for long once it was said how the command ended."""
    while True:
        try:
            async with asyncio.timeout(GOODBYE_S if heard.status else None):
                message = await socket.receive()
        except TimeoutError:
            return
        if message.type is aiohttp.WSMsgType.BINARY:
            heard.frame(message.data)
        elif message.type is not aiohttp.WSMsgType.TEXT:
            return


async def _send(socket: aiohttp.ClientWebSocketResponse, stdin: bytes) -> None:
    for start in range(0, len(stdin), PIECE_BYTES):
        await socket.send_bytes(bytes([STDIN]) + stdin[start : start + PIECE_BYTES])
    await socket.send_bytes(CLOSE_STDIN)


async def _why(cluster: Cluster, path: str, query: Words, refusal: aiohttp.WSServerHandshakeError) -> str:
    """The handshake's own answer is not shown by the library; the same request without an upgrade gets the same one,
    and runs nothing."""
    try:
        await cluster.request("GET", path, query, timeout_s=5.0)
    except ApiFailure as failure:
        if failure.status == refusal.status:
            return f"{failure.status} {failure.reason}: {failure.message}"
    return f"{refusal.status} {refusal.message}"


@dataclass(slots=True)
class _Heard:
    """What came on each channel so far."""

    limit: int
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    status: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def frame(self, data: bytes) -> None:
        """Frames of other channels, and empty ones (each channel begins with one), say nothing."""
        if len(data) < 2:
            return
        if data[0] == STATUS:
            self.status += data[1:]
        elif data[0] in (STDOUT, STDERR):
            self._keep(self.stdout if data[0] == STDOUT else self.stderr, data[1:])

    def _keep(self, kept: bytearray, data: bytes) -> None:
        room = self.limit - len(kept)
        kept += data[:room]
        self.truncated = self.truncated or len(data) > room

    def executed(self, outcome: ExecOutcome, code: int | None, sentence: str) -> Executed:
        said = f"{sentence}; only {self.limit} bytes of its output were kept" if self.truncated else sentence
        return Executed(outcome, code, bytes(self.stdout), bytes(self.stderr), said)
