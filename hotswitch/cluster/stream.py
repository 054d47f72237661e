"""What a list and a watch send, cut into objects. An event that the connection broke off in the middle is no event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

T = TypeVar("T")
LONGEST_LINE_BYTES = 32 * 2**20
"""etcd holds no object of more than 1.5 MiB: what is far over that is no event."""


class Garbled(RuntimeError):
    """What came is not what it must be: something may have been missed, so everything must be listed again."""


class RawEvent(msgspec.Struct, gc=False):
    """`type`: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


class WholeEvent(msgspec.Struct, Generic[T], gc=False):
    """With its object read by the same look."""

    type: str
    object: T


class ListMetadata(msgspec.Struct, rename="camel"):
    """`next_page`: what to ask for as `continue`; "" on the last page."""

    resource_version: str = ""
    next_page: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    metadata: ListMetadata
    items: list[msgspec.Raw] | None = None


class _Versioned(msgspec.Struct):
    metadata: ListMetadata


_decode_event = msgspec.json.Decoder(RawEvent).decode
_decode_page = msgspec.json.Decoder(Page).decode
_decode_versioned = msgspec.json.Decoder(_Versioned).decode
_UNREADABLE = (msgspec.DecodeError, msgspec.ValidationError)


def whole_events(of: type[T]) -> Callable[[bytes], WholeEvent[T]]:
    """Raises what msgspec raises."""
    kind: Any = WholeEvent
    decode: Callable[[bytes], WholeEvent[T]] = msgspec.json.Decoder(kind[of]).decode
    return decode


def event(line: bytes) -> RawEvent:
    """Raises Garbled."""
    try:
        return _decode_event(line)
    except _UNREADABLE as failure:
        raise Garbled(f"not an event: {line[:80]!r}: {failure}") from failure


def page(raw: bytes) -> Page:
    """Raises Garbled."""
    try:
        read = _decode_page(raw)
    except _UNREADABLE as failure:
        raise Garbled(f"not a list: {raw[:80]!r}: {failure}") from failure
    if not read.metadata.resource_version:
        raise Garbled("a list without a resourceVersion")
    return read


def version_of(raw: msgspec.Raw) -> str:
    """Of a bookmark. Raises Garbled: without it the watch could not go on from here."""
    try:
        version = _decode_versioned(raw).metadata.resource_version
    except _UNREADABLE as failure:
        raise Garbled(f"a bookmark without a resourceVersion: {failure}") from failure
    if not version:
        raise Garbled("a bookmark without a resourceVersion")
    return version


async def batches(answer: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
    """The whole lines of each piece that comes in, so that a burst costs one turn of the loop and not one for each
    event. Raises Garbled, and whatever the connection raises."""
    rest = b""
    async for piece in answer.content.iter_any():
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        if len(rest) > LONGEST_LINE_BYTES:
            raise Garbled(f"a line of more than {LONGEST_LINE_BYTES} bytes")
        yield lines
