"""gRPC calls as streams of bytes: the few that the agent makes and answers. HTTP/2's state is h2's.

The usual library takes 15 MB of memory and eight threads for it, in every agent; here there is one task a connection. A
message may not be larger than its reader allows: the peers are a pod's workload socket, an Envoy that strangers talk
to, and the controller; no more waits for a reader than a few of them. Sources: grpc/doc/PROTOCOL-HTTP2.md, RFC 9113.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions

OK, UNIMPLEMENTED = "0", "12"
_HEAD_BYTES = 5
_READ_BYTES = 65536
_WAITING_AT_MOST = 4  # of the largest messages: what a call may have sent that nobody has read yet
_OBJECT_BYTES = 64  # what a waiting message takes beside its content
_UNSENT_BYTES = 16 << 20  # what a connection may hold back for a peer that asks and does not read
_ANSWER = ((":status", "200"), ("content-type", "application/grpc"))


class CallFailed(ConnectionError):
    """The peer ended the call with another status than OK, or sent what is no call; the message has its own words."""


class Call:
    """One stream of messages each way. Iterating yields the peer's until it ends; raises CallFailed."""

    def __init__(self, line: Line, number: int, most_bytes: int) -> None:
        self._line, self.number, self._most_bytes = line, number, most_bytes
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._data = bytearray()
        self._failure = ""
        self.ended = False

    def hear(self, data: bytes) -> None:
        """Raises CallFailed."""
        self._data += data
        while len(self._data) >= _HEAD_BYTES:
            size = int.from_bytes(self._data[1:_HEAD_BYTES], "big")
            if self._data[0] or size > self._most_bytes:
                raise CallFailed(f"a message is compressed, or larger than {self._most_bytes} bytes")
            if len(self._data) < _HEAD_BYTES + size:
                return
            self._waiting_bytes += size + _OBJECT_BYTES
            if self._waiting_bytes > _WAITING_AT_MOST * (self._most_bytes + _OBJECT_BYTES):
                raise CallFailed("the peer says more than is read")
            self._messages.put_nowait(bytes(self._data[_HEAD_BYTES : _HEAD_BYTES + size]))
            del self._data[: _HEAD_BYTES + size]

    def judge(self, said: Mapping[str, str]) -> None:
        """What the peer says of the call's state, first or last."""
        if said.get(":status", "200") != "200":
            self._failure = f"HTTP {said[':status']}"
        elif said.get("grpc-status", OK) != OK:
            self._failure = f"status {said['grpc-status']}: {unquote(said.get('grpc-message', ''))}"

    def end(self, failure: str = "") -> None:
        if not self.ended:
            self.ended, self._failure = True, self._failure or failure
            self._messages.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._messages.get()) is not None:
            self._waiting_bytes -= len(message) + _OBJECT_BYTES
            yield message
        if self._failure:
            raise CallFailed(self._failure)

    async def send(self, message: bytes) -> None:
        """Raises CallFailed."""
        await self._line.send(self, b"\0" + len(message).to_bytes(4, "big") + message)

    def say_no_more(self) -> None:
        """Nothing is sent after this: what a call of one message and one answer waits for."""
        self._line.close_sending(self)


class Line:
    """One HTTP/2 connection. `begun`: what to do with a call of the peer's, by its path."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        most_bytes: int,
        begun: Callable[[Call, str], None] | None = None,
    ) -> None:
        self._reader, self._writer, self._most_bytes, self._begun = reader, writer, most_bytes, begun
        config = h2.config.H2Configuration(client_side=begun is None)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._calls: dict[int, Call] = {}
        self._room = asyncio.Event()
        self._flush()

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._writer.write(data)

    async def listen(self) -> None:
        """Until the peer goes away, or does what it must not; then every call has ended."""
        why = "the connection was closed"
        try:
            while data := await self._reader.read(_READ_BYTES):
                for event in self._h2.receive_data(data):
                    self._hear(event)
                self._flush()
                if self._writer.transport.get_write_buffer_size() > _UNSENT_BYTES:
                    raise CallFailed("the peer does not read what it asks for")
        except (h2.exceptions.H2Error, OSError) as failure:
            why = str(failure)
        finally:
            for call in tuple(self._calls.values()):
                call.end(why)
            self._room.set()
            self._writer.close()

    def _hear(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                call = self._calls[event.stream_id] = Call(self, event.stream_id, self._most_bytes)
                if self._begun is not None:
                    self._begun(call, _words(event.headers).get(":path", ""))
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.stream_id in self._calls:
                    self._calls[event.stream_id].hear(event.data)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                if event.stream_id in self._calls:
                    self._calls[event.stream_id].judge(_words(event.headers))
            case h2.events.StreamEnded() | h2.events.StreamReset():
                reset = "the call was reset" if isinstance(event, h2.events.StreamReset) else ""
                if (ended := self._calls.pop(event.stream_id, None)) is not None:
                    ended.end(reset)
                self._room.set()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._room.set()

    # ---- our side ----

    def call(self, path: str, *, scheme: str = "http", host: str = "localhost", **more: str) -> Call:
        """Begin a call; `more`: further headers."""
        number = self._h2.get_next_available_stream_id()
        call = self._calls[number] = Call(self, number, self._most_bytes)
        first = ((":method", "POST"), (":scheme", scheme), (":path", path), (":authority", host))
        last = (("content-type", "application/grpc"), ("te", "trailers"))
        self._h2.send_headers(number, (*first, *last, *more.items()))
        return call

    def answer(self, call: Call) -> None:
        """Say that a call of the peer's is taken."""
        self._h2.send_headers(call.number, _ANSWER)
        self._flush()

    def finish(self, call: Call, status: str = OK) -> None:
        """End a call of the peer's; one that was not taken with its status alone."""
        with contextlib.suppress(h2.exceptions.H2Error):
            head = _ANSWER if status == UNIMPLEMENTED else ()
            self._h2.send_headers(call.number, (*head, ("grpc-status", status)), end_stream=True)
            self._flush()

    def close_sending(self, call: Call) -> None:
        with contextlib.suppress(h2.exceptions.H2Error):  # the peer has ended it already
            self._h2.end_stream(call.number)
            self._flush()

    async def send(self, call: Call, data: bytes) -> None:
        """As the peer has room for it. Raises CallFailed."""
        try:
            while data:
                if call.ended:
                    raise CallFailed("the call has ended")
                most = min(self._h2.local_flow_control_window(call.number), self._h2.max_outbound_frame_size)
                if most <= 0:
                    self._room.clear()
                    await self._room.wait()
                    continue
                self._h2.send_data(call.number, data[:most])
                data = data[most:]
                self._flush()
            await self._writer.drain()
        except (h2.exceptions.H2Error, OSError) as failure:
            raise CallFailed(str(failure)) from failure


def _words(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("ascii", "replace"): value.decode("utf-8", "replace") for name, value in headers}


Handler = Callable[[Call], AsyncGenerator[bytes]]


class Server:
    """Answers calls of `path` on a unix socket, each by a generator of messages, for as long as both sides want."""

    def __init__(self, path: str, handler: Handler, most_bytes: int) -> None:
        self._path, self._handler, self._most_bytes = path, handler, most_bytes
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, socket: Path) -> None:
        """Raises OSError."""
        self._server = await asyncio.start_unix_server(self._serve, socket)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer, self._most_bytes, begun=lambda call, path: self._begun(line, call, path))
        self._start(line.listen())

    def _begun(self, line: Line, call: Call, path: str) -> None:
        if path == self._path:
            self._start(self._answer(line, call))
        else:
            line.finish(call, UNIMPLEMENTED)

    async def _answer(self, line: Line, call: Call) -> None:
        line.answer(call)
        async with contextlib.aclosing(self._handler(call)) as messages:
            with contextlib.suppress(CallFailed):
                async for message in messages:
                    await call.send(message)
        line.finish(call)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
