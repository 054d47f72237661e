"""One question of gRPC's health protocol over a connection that is there already: grpc.health.v1.Health/Check.

The library for gRPC makes its own sockets, in its own threads; ours has to be born in the pod's namespace. So h2 keeps
the protocol's state here, and the two messages, of one field each, are written by hand.
Sources: grpc/doc/health-checking.md, grpc/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from hotswitch.standin.http1 import Malformed

PATH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
ANSWER_BYTES = 4096
_SERVICE_BYTES = 127  # its length is written in one byte


async def is_serving(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, service: str, agent: str
) -> bool:
    """True when the server says SERVING and ends well. Raises Malformed, ConnectionError; may wait for ever."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    connection.send_headers(stream, _headers(authority, agent))
    connection.send_data(stream, _framed(service), end_stream=True)
    call = _Call()
    try:
        while not call.ended:
            writer.write(connection.data_to_send())
            data = await reader.read(16384)
            if not data:
                raise ConnectionResetError("closed before an answer")
            for event in connection.receive_data(data):
                call.hear(event)
    except h2.exceptions.H2Error as failure:
        raise Malformed(f"no HTTP/2: {failure}") from failure
    return call.status == b"0" and call.said[5:] == SERVING


class _Call:
    """What was heard of the one call."""

    def __init__(self) -> None:
        self.said, self.status, self.ended = b"", b"", False

    def hear(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self.status = dict(event.headers).get(b"grpc-status", self.status)
            case h2.events.DataReceived():
                self.said = (self.said + event.data)[:ANSWER_BYTES]
            case h2.events.StreamEnded():
                self.ended = True
            case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                raise ConnectionResetError("the call was reset")


def _headers(authority: str, agent: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *([("user-agent", agent)] if agent else []),
    ]


def _framed(service: str) -> bytes:
    name = service.encode()
    if len(name) > _SERVICE_BYTES:
        raise Malformed(f"service: {service[:40]!r} is too long a name")
    message = bytes((0x0A, len(name))) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message
