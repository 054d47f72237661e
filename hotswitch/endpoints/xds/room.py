"""What all streams of a server together may take: how many there are, and how many bytes they hold (I1). No I/O.

The bounds of one stream keep a client small; thousands of small ones are large all the same, and they live in the
process that decides. Held are the names that a client asked for or has, for as long as its stream stands, and the
answer that it has not taken yet. Whoever would go beyond is turned away: it keeps what it has, and comes back.

Nobody can fill the room for others: what is full is full for those that hold more than their share, and a share is left
for those that hold less; streams are counted by address, too, and one that says nothing is ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_STREAMS = 4096
MOST_BYTES = 128 << 20  # a quarter of what the shipped Deployment lets a controller have
PER_ADDRESS = 0.25  # of both, for the clients of one address
SHARES = 64  # who holds more than such a part of the bytes is turned away when half of them are held


class Full(RuntimeError):
    """There is no room; the message says of what."""


@dataclass(slots=True)
class _Held:
    """By the clients of one address."""

    streams: int = 0
    size: int = 0


class Seat:
    """One stream's share. `held`: bytes."""

    def __init__(self, room: Room, address: str) -> None:
        self._room, self.address = room, address
        self._kept = self.held = 0

    def keep(self, size: int) -> None:
        """So many bytes are held from now on, in place of what was. Raises Full."""
        more, self._kept = size - self._kept, size
        self._room.hold(self, more)
        if more > 0:
            self._room.check(self)

    @contextmanager
    def sending(self, size: int) -> Iterator[None]:
        """Until the client has taken an answer of this size. Raises Full."""
        self._room.hold(self, size)
        try:
            self._room.check(self)
            yield
        finally:
            self._room.hold(self, -size)


class Room:
    """`per_address`: the part of it that the clients of one address may take."""

    def __init__(
        self, most_streams: int = MOST_STREAMS, most_bytes: int = MOST_BYTES, per_address: float = PER_ADDRESS
    ) -> None:
        self.streams, self.bytes_held = 0, 0
        self._most_streams, self._most_bytes = most_streams, most_bytes
        self._most_streams_here, self._most_bytes_here = int(most_streams * per_address), int(most_bytes * per_address)
        self._here: dict[str, _Held] = {}

    @contextmanager
    def seat(self, address: str = "") -> Iterator[Seat]:
        """Raises Full."""
        self._check_streams(address)
        self.streams += 1
        self._here.setdefault(address, _Held()).streams += 1
        made = Seat(self, address)
        try:
            yield made
        finally:
            made.keep(0)
            self._leave(address)

    def _check_streams(self, address: str) -> None:
        if self.streams >= self._most_streams:
            raise Full(f"{self.streams} streams stand; no more are taken")
        if address in self._here and self._here[address].streams >= self._most_streams_here:
            raise Full(f"{self._here[address].streams} streams of {address} stand; no more of it are taken")

    def _leave(self, address: str) -> None:
        self.streams -= 1
        self._here[address].streams -= 1
        if not self._here[address].streams:
            del self._here[address]

    def hold(self, seat: Seat, more: int) -> None:
        seat.held += more
        self.bytes_held += more
        self._here[seat.address].size += more

    def check(self, seat: Seat) -> None:
        """Raises Full."""
        is_large = seat.held > self._most_bytes // SHARES
        most = self._most_bytes // 2 if is_large else self._most_bytes
        here = self._here[seat.address].size
        if self.bytes_held > most:
            whom = "those that hold much" if is_large else "all"
            raise Full(f"clients hold {self.bytes_held} bytes; {most} are allowed for {whom} together")
        if here > self._most_bytes_here:
            raise Full(f"clients of {seat.address} hold {here} bytes; {self._most_bytes_here} are allowed for it")
