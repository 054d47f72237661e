"""As much of HTTP/1.1 as probes need, and no more of it than fits the bounds: heads, and short bodies.

Sources: RFC 9112. Bodies are cut at BODY_BYTES, as pilot-agent cuts them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

HEAD_BYTES = 16384  # the streams' limit
BODY_BYTES = 10 * 1024  # pilot-agent: maxRespBodyLength
_INTERIM = 4  # answers 1xx before the real one
_WITHOUT_BODY = frozenset({204, 304})


class Malformed(ValueError):
    """What came is no HTTP/1.1, or too long."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line, and the headers in their order and spelling."""

    first: str
    headers: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """The first header of that (lower-case) name; empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def status(self) -> int:
        """Of an answer. Raises Malformed."""
        word = self.first.split(" ")[1:2]
        if not (self.first.startswith("HTTP/1.") and word and word[0].isdecimal() and 100 <= int(word[0]) <= 999):
            raise Malformed(f"no status line: {self.first[:40]!r}")
        return int(word[0])

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Raises Malformed; ConnectionError when the other side closed before its end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as failure:
        raise Malformed("the head is too long") from failure
    except asyncio.IncompleteReadError as failure:
        raise ConnectionResetError("closed before an answer") from failure
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    return Head(first, tuple(_header(line) for line in lines))


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or any(letter.isspace() for letter in name) or "\n" in value or "\r" in value:
        raise Malformed(f"no header: {line[:40]!r}")
    return name, value.strip()


async def read_answer(reader: asyncio.StreamReader) -> tuple[Head, bytes]:
    """An answer and the beginning of its body. Raises as `read_head`."""
    for _ in range(_INTERIM):
        head = await read_head(reader)
        if head.status >= 200:
            return head, await _body(reader, head)
    raise Malformed("nothing but interim answers")


async def _body(reader: asyncio.StreamReader, head: Head) -> bytes:
    if head.status in _WITHOUT_BODY:
        return b""
    if "chunked" in head.get("transfer-encoding").lower():
        return await _chunks(reader)
    length = head.get("content-length")
    wanted = min(int(length), BODY_BYTES) if length.isdecimal() and len(length) < 12 else BODY_BYTES
    return await _at_most(reader, wanted)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < BODY_BYTES:
        line = (await reader.readline()).partition(b";")[0].strip()
        try:
            size = int(line or b"0", 16)
        except ValueError as failure:
            raise Malformed(f"no chunk: {line[:40]!r}") from failure
        if size <= 0:
            break
        body += await _at_most(reader, min(size + 2, BODY_BYTES))
        body = body.removesuffix(b"\r\n")
    return body[:BODY_BYTES]


async def _at_most(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as cut:
        return cut.partial


def answer(status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A whole answer, after which the connection ends."""
    said = b"" if status in _WITHOUT_BODY else body
    fixed = (("Content-Length", str(len(said))), ("Connection", "close"))
    return Head(f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}", (*headers, *fixed)).encode() + said


_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
