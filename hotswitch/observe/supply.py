"""What Envoy says of its own supplies: connection to the control plane, updates rejected, certificates (S4.2c).

Two questions to its admin interface, seldom, and only of pods for which the agent was told to ask. Counters say what
happened since the last look, not before it: an update rejected before the first look is not known to be the newest.
A proxy that does not answer says nothing here; whether it lives is another's matter.
Sources: Envoy's configuration/upstream/cluster_manager/cds, listeners/lds and operations/admin, "/certs".
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from hotswitch.kernel.netns import Where, inside
from hotswitch.model import ADMIN, Port, Supply

STATS = "/stats?filter=control_plane.connected_state$|^(listener_manager.lds|cluster_manager.cds|sds..*).update_"
TIMEOUT_S = 1.0
ANSWER_BYTES = 2**20
_KINDS = {"listener_manager.lds": "listeners", "cluster_manager.cds": "clusters"}


@dataclass(frozen=True, slots=True)
class Updates:
    """Of one kind of resource, since Envoy's start."""

    accepted: int = 0
    rejected: int = 0


class SupplyWatch:
    """Asks every `poll_s`; `supply` tells what was found, None while nothing is known. `news` is called on changes."""

    def __init__(self, netns: Where, poll_s: float, news: Callable[[], None], port: Port = ADMIN) -> None:
        self._netns, self._poll_s, self._news, self._port = netns, poll_s, news, port
        self._updates: dict[str, Updates] = {}
        self._rejected: frozenset[str] = frozenset()
        self._cut_off_since_s: float | None = None
        self._ends_unix_s: float | None = None
        self._supply: Supply | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def supply(self, now_s: float, now_unix_s: float) -> Supply | None:
        """As of now: what was seen may have become worse by mere time. Too old: nothing is known."""
        if self._supply is None or now_s - self._supply.at_s > 3 * self._poll_s:
            return None
        since_s, ends_unix_s = self._cut_off_since_s, self._ends_unix_s
        return replace(
            self._supply,
            cut_off_s=0.0 if since_s is None else now_s - since_s,
            certificate_ends_in_s=None if ends_unix_s is None else ends_unix_s - now_unix_s,
        )

    async def _watch(self) -> None:
        await asyncio.sleep(random.uniform(0, min(self._poll_s, 5.0)))  # not all pods of a node at once
        while True:
            await self.look()
            await asyncio.sleep(self._poll_s)

    async def look(self) -> None:
        """Ask once. Never raises for what can go wrong on the way: then nothing changes."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                stats = (await self._get(STATS)).decode("utf-8", "replace")
                certificates = msgspec.json.decode(await self._get("/certs"))
        except (OSError, ValueError):  # TimeoutError, DecodeError
            return
        before, now_s = self._supply, asyncio.get_running_loop().time()
        ends_before, self._ends_unix_s = self._ends_unix_s, _identity_ends(certificates)
        self._supply = self._judge(parse(stats), now_s)
        worth = before is None or replace(before, at_s=now_s) != self._supply or ends_before != self._ends_unix_s
        if worth or self._cut_off_since_s is not None:
            self._news()

    def _judge(self, stats: dict[str, int], now_s: float) -> Supply:
        updates = {kind: updates_of(stats, kind) for kind in _kinds(stats)}
        if any(seen.accepted < self._updates.get(kind, Updates()).accepted for kind, seen in updates.items()):
            self._updates, self._rejected = {}, frozenset()  # it has restarted: what was rejected may be no longer
        self._rejected = frozenset(kind for kind, seen in updates.items() if self._is_rejected(kind, seen))
        self._updates = updates
        cut_off = tuple(sorted(_source(name) for name, value in stats.items() if _is_cut(name, value)))
        self._cut_off_since_s = (self._cut_off_since_s or now_s) if cut_off else None
        missing = (kind for kind, seen in updates.items() if _is_missing(kind, seen))
        return Supply(
            at_s=now_s,
            cut_off=cut_off,
            rejected=tuple(sorted(_KINDS.get(kind, kind.removeprefix("sds.")) for kind in self._rejected)),
            missing=tuple(sorted(kind.removeprefix("sds.") for kind in missing)),
        )

    def _is_rejected(self, kind: str, seen: Updates) -> bool:
        last = self._updates.get(kind)
        if last is None:
            return seen.rejected > 0 and seen.accepted == 0
        if seen.rejected > last.rejected:
            return True
        return kind in self._rejected and seen.accepted == last.accepted

    async def _get(self, target: str) -> bytes:
        """Raises OSError, ValueError."""
        with inside(self._netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=ANSWER_BYTES)
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return await _body(reader, chunked=b"transfer-encoding: chunked" in head.lower())
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as failure:
            raise ConnectionResetError("closed before an answer") from failure
        finally:
            writer.transport.abort()


async def _body(reader: asyncio.StreamReader, *, chunked: bool) -> bytes:
    if not chunked:
        return await reader.read(ANSWER_BYTES)
    body = b""
    while (size := int((await reader.readline()).strip() or b"0", 16)) and len(body) < ANSWER_BYTES:
        body += (await reader.readexactly(size + 2))[:-2]
    return body


def parse(text: str) -> dict[str, int]:
    """Envoy's "name: value" lines, as far as values are whole numbers."""
    pairs = (line.rpartition(": ") for line in text.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}


def updates_of(stats: dict[str, int], kind: str) -> Updates:
    return Updates(stats.get(f"{kind}.update_success", 0), stats.get(f"{kind}.update_rejected", 0))


def _kinds(stats: dict[str, int]) -> list[str]:
    return [name.removesuffix(".update_rejected") for name in stats if name.endswith(".update_rejected")]


def _is_cut(name: str, value: int) -> bool:
    return name.endswith("control_plane.connected_state") and value == 0


def _source(name: str) -> str:
    scope = name.removesuffix("control_plane.connected_state").strip(".")
    return scope.replace("sds.", "the source of ") if scope else "the control plane"


def _is_missing(kind: str, seen: Updates) -> bool:
    return kind.startswith("sds.") and seen.accepted == 0


def _identity_ends(certificates: Any) -> float | None:
    """When the newest workload certificate ends. Raises ValueError."""
    try:
        chains = (each.get("cert_chain", [])[:1] for each in certificates["certificates"])
        ends = [leaf["expiration_time"] for chain in chains for leaf in chain if _is_workload(leaf)]
        return max((datetime.fromisoformat(end).timestamp() for end in ends), default=None)
    except (KeyError, TypeError, AttributeError) as failure:
        raise ValueError("/certs: of another form") from failure


def _is_workload(leaf: dict[str, Any]) -> bool:
    names = leaf.get("subject_alt_names", [])
    return any(str(name.get("uri", "")).startswith("spiffe://") for name in names)
