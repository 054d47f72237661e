"""pods/exec over WebSocket: v5 and v4 of channel.k8s.io, the node's command behind it.

A frame's first byte is its channel: 0 stdin, 1 stdout, 2 stderr, 3 the result as a Status; v5 adds 255, which closes
the channel named after it. Without a frame on channel 3 the client does not know what became of its command.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from hotswitch.sandbox.kubeapi.backend import CannotRun, NodeBackend
from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.record import at, encode

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, RESULT, CLOSE = 0, 1, 2, 3, 255
CHUNK = 32 * 1024  # bytes in a frame, as kubelet's streams are copied


def container_of(pod: Obj, asked: str) -> str:
    """The container that is meant. Raises ApiError 400 when there is no such one, or several and none was named."""
    names = [
        container["name"]
        for field in ("containers", "initContainers", "ephemeralContainers")
        for container in at(pod, "spec", field) or []
    ]
    name = pod["metadata"]["name"]
    if not asked:
        default = at(pod, "metadata", "annotations", "kubectl.kubernetes.io/default-container")
        return str(default or names[0])
    if asked not in names:
        raise ApiError(400, f"container {asked} is not valid for pod {name}")
    return asked


def options(request: web.BaseRequest) -> Obj:
    """What the query asks for, as the PodExecOptions that admission sees."""
    query = request.query
    streams = {name: True for name in ("stdin", "stdout", "stderr", "tty") if asked(query, name)}
    named = {"container": query["container"]} if "container" in query else {}
    return {"kind": "PodExecOptions", "apiVersion": "v1", **streams, **named, "command": query.getall("command", [])}


def asked(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")


class Session:
    """The channels of one exec (backend.Channels)."""

    def __init__(self, socket: web.WebSocketResponse, wants: Callable[[str], bool]) -> None:
        self._socket, self._wants = socket, wants
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = not wants("stdin")

    async def read(self) -> bytes:
        if self._ended:
            return b""
        data = await self._stdin.get()
        self._ended = not data
        return data

    async def stdout(self, data: bytes) -> None:
        await self._send(STDOUT, data, "stdout")

    async def stderr(self, data: bytes) -> None:
        await self._send(STDERR, data, "stderr")

    async def _send(self, channel: int, data: bytes, name: str) -> None:
        if not self._wants(name):
            return
        for start in range(0, len(data), CHUNK):
            await self._socket.send_bytes(bytes([channel]) + data[start : start + CHUNK])

    async def receive(self) -> None:
        """Feed stdin until the client goes away."""
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == CLOSE and data[:1] == bytes([STDIN]):
                self._stdin.put_nowait(b"")
            elif channel == STDIN and data:
                self._stdin.put_nowait(data)


async def serve_exec(
    request: web.BaseRequest, pod: Obj, backend: NodeBackend, ended: Callable[[], None]
) -> web.StreamResponse:
    """Run the query's `command`. What `ended` raises comes in place of its result."""
    argv = request.query.getall("command", [])
    if not argv:
        raise ApiError(400, "you must specify at least one command for the container")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError(400, "Upgrade request required")
    container = container_of(pod, request.query.get("container", ""))
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
    await socket.prepare(request)
    session = Session(socket, lambda name: asked(request.query, name))
    result = await _run_until_gone(session, backend.exec(pod, container, argv, session))
    ended()
    if result is not None:
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes([RESULT]) + encode(result))
            await socket.close(code=WSCloseCode.OK)
    return socket


async def _run_until_gone(session: Session, command: Coroutine[Any, Any, int]) -> Obj | None:
    """The command's result, None when the client left before it."""
    running = asyncio.ensure_future(_result(command))
    reading = asyncio.ensure_future(session.receive())
    try:
        await asyncio.wait((running, reading), return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        for task in (running, reading):
            task.cancel()
        await asyncio.gather(running, reading, return_exceptions=True)


async def _result(command: Coroutine[Any, Any, int]) -> Obj:
    try:
        code = await command
    except CannotRun as failure:
        return ApiError(500, f"error executing command in container: {failure}").status()
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
