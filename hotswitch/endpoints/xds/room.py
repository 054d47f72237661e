"""What all streams of a server together may take: how many there are, and how many bytes they hold (I1). No I/O.

The bounds of one stream keep a client small; thousands of small ones are large all the same, and they live in the
process that decides. Held are the names that a client asked for or has, for as long as its stream stands, and the
answer that it has not taken yet. Whoever would go beyond is turned away: it keeps what it has, and comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

MOST_STREAMS = 4096
MOST_BYTES = 128 << 20  # a quarter of what the shipped Deployment lets a controller have


class Full(RuntimeError):
    """There is no room; the message says of what."""


class Seat:
    """One stream's share."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._kept = 0

    def keep(self, size: int) -> None:
        """So many bytes are held from now on, in place of what was. Raises Full."""
        more, self._kept = size - self._kept, size
        self._room.bytes_held += more
        if more > 0:
            self._room.check()

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """Until the client has taken an answer of this size. Raises Full."""
        self._room.bytes_held += size
        try:
            self._room.check()
            yield
        finally:
            self._room.bytes_held -= size


class Room:
    def __init__(self, most_streams: int = MOST_STREAMS, most_bytes: int = MOST_BYTES) -> None:
        self.streams, self.bytes_held = 0, 0
        self._most_streams, self._most_bytes = most_streams, most_bytes

    @contextmanager
    def seat(self) -> Iterator[Seat]:
        """Raises Full."""
        if self.streams >= self._most_streams:
            raise Full(f"{self.streams} streams stand; no more are taken")
        self.streams += 1
        made = Seat(self)
        try:
            yield made
        finally:
            made.keep(0)
            self.streams -= 1

    def check(self) -> None:
        """Raises Full."""
        if self.bytes_held > self._most_bytes:
            raise Full(f"clients hold {self.bytes_held} bytes; {self._most_bytes} are allowed for all together")
