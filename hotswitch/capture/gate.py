"""The gate: opens and closes one pod's way past its proxy, by one netlink message on a socket held in its namespace.

Every write states the whole gate, in one kernel transaction: flush the maps, then add what shall be open (I5). So it
can be repeated, and there is no half-open state to be left by a crash (I6). Each element carries its kernel timeout
(I1) and, as a comment that `nft list table inet hotswitch` shows, its generation and reason (I4).

The write is fenced by the namespace's nft generation, which the kernel itself compares (NFNL_BATCH_GENID): if anybody
changed any rule since the namespace was last inspected, nothing is written and `GateFenced` is raised. The caller
inspects again, then says `trust()`. The messages themselves: gate_message.py.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hotswitch.capture import gate_message
from hotswitch.capture.gate_table import CHAIN_DIRECT, SCOPE_CHAIN, TABLE, GateScope, script
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket, attrs
from hotswitch.model import Direction, Generation, Level, NetnsCookie, Opening, Port

NO_GENERATION = Generation(0)


class GateFenced(RuntimeError):
    """The namespace's rules changed since they were last inspected, so nothing was written."""


class GateAbsent(RuntimeError):
    """The gate's table is not in the namespace (never installed, or somebody flushed the ruleset)."""


@dataclass(frozen=True, slots=True)
class GateState:
    """What is open, read from the kernel. `expires_in_s`: the soonest timeout; None when closed."""

    openings: Mapping[Direction, Opening] = field(default_factory=dict)
    generation: Generation = NO_GENERATION
    reason: str = ""
    expires_in_s: float | None = None

    @property
    def is_open(self) -> bool:
        return bool(self.openings)


class Gate:
    """One pod's gate. Its netlink socket keeps the namespace alive, so `close()` it when the pod is gone."""

    name = f"table inet {TABLE}"
    refusal = ""  # for whatever scope there is

    def __init__(self, netns: str | Path, scope: GateScope) -> None:
        self.netns = str(netns)
        self.scope = scope
        self._socket = NetlinkSocket(NETLINK_NETFILTER, netns)
        self._trusted: int | None = None
        self._templates: dict[gate_message.Shape, gate_message.Template] = {}
        self.writes = 0  # of ours since this object was made: each raises the namespace's nft generation

    @property
    def cookie(self) -> NetnsCookie:
        return self._socket.cookie

    def close(self) -> None:
        """Let go of the namespace. The gate itself stays as it is (I1)."""
        self._socket.close()

    def install_command(self) -> Command:
        return Command(("nft", "-f", "-"), netns=self.netns, stdin=script(self.scope))

    def remove_commands(self) -> list[Command]:
        lines = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
        return [Command(("nft", "-f", "-"), netns=self.netns, stdin=lines)]

    def install(self) -> bool:
        """Put the closed table in place; False when the same one is there already (and left alone, open or not).

        Raises CommandFailed when the kernel has no nf_tables or the right is missing."""
        if self._installed_digest() == self.scope.digest:
            return False
        run(self.install_command(), check=True)
        return True

    def remove(self) -> None:
        """Take the table away, with whatever was open."""
        for command in self.remove_commands():
            run(command, check=True)

    def is_there(self) -> bool:
        """Is there a table of ours, of whatever scope, open or closed?"""
        return bool(self._listing())

    def _installed_digest(self) -> str | None:
        names = (str(item["chain"]["name"]) for item in self._listing() if "chain" in item)
        return next((name.removeprefix(SCOPE_CHAIN) for name in names if name.startswith(SCOPE_CHAIN)), None)

    def _listing(self) -> list[dict[str, dict[str, object]]]:
        outcome = run(Command(("nft", "-j", "list", "table", "inet", TABLE), netns=self.netns))
        return json.loads(outcome.stdout)["nftables"] if outcome.returncode == 0 else []

    def trust(self, generation: int | None = None) -> None:
        """Writes are allowed as long as the namespace's rules stay as they are now (or were at nft `generation`)."""
        self._trusted = self.rules_generation() if generation is None else generation

    def is_trusted(self) -> bool:
        """Are the namespace's rules as they were trusted, our own writes aside? Raises OSError."""
        return self._trusted in (None, self.rules_generation())

    def rules_generation(self) -> int:
        """The namespace's nft generation: grows with every change of any rule, ours or not. About 7 us."""
        answer = self._socket.ask(gate_message.get_generation())
        return next(int.from_bytes(data, "big") for kind, data in attrs(answer[4:]) if kind == 1)

    def write(
        self, openings: Mapping[Direction, Opening], *, expiry_s: float, generation: Generation, reason: str
    ) -> None:
        """Make the gate exactly `openings` (empty: closed) for `expiry_s` seconds.

        Raises GateFenced, GateAbsent, or OSError; then nothing has changed."""
        comment = gate_message.reason_of(generation, reason)
        self._commit(self._template(openings), expiry_s, comment, added=bool(openings))

    def prepare(self, openings: Mapping[Direction, Opening]) -> None:
        """Have the message of such a write ready, so that the write itself need only fill it in. Writes nothing."""
        self._template(openings)

    def _template(self, openings: Mapping[Direction, Opening]) -> gate_message.Template:
        shape = gate_message.shape_of(openings)
        if shape not in self._templates:
            self._templates[shape] = gate_message.template(self.scope, shape)
        return self._templates[shape]

    def divert(self, port: Port, expiry_s: float) -> None:
        """Lead new inbound flows to `port` (pilot-agent's) to the stand-in's, for `expiry_s` seconds; set anew by every
        call. Raises as `write`."""
        comment = gate_message.comment_of("the app's probes")
        self._commit(gate_message.diversion(port), expiry_s, comment, added=True)

    def undivert(self) -> None:
        """No flow is led to the stand-in any longer. Raises as `write`."""
        self._commit(gate_message.diversion(None), added=False)

    def _commit(
        self, template: gate_message.Template, expiry_s: float = 0.0, comment: bytes = b"", *, added: bool
    ) -> None:
        batch = gate_message.filled(template, generation=self._trusted, expiry_s=expiry_s, comment=comment)
        try:
            self._socket.transact(batch)
        except OSError as failure:
            raise self._named(failure) from failure
        self.writes += 1
        self._trust_own_write(added)

    def _named(self, failure: OSError) -> Exception:
        if failure.errno == errno.ERESTART:
            return GateFenced(f"{self.netns}: rules changed since they were last inspected")
        if failure.errno == errno.ENOENT:
            return GateAbsent(f"{self.netns}: no table inet {TABLE}")
        return failure

    def _trust_own_write(self, added: bool) -> None:
        """A commit raises the nft generation by one; flushing maps that were empty anyway is none."""
        if self._trusted is None:
            return
        expected = (self._trusted + 1) & 0xFFFFFFFF or 1
        if added or self.rules_generation() == expected:
            self._trusted = expected

    def read(self) -> GateState:
        """What is open now, by the kernel's word. For start and `status`: takes some milliseconds."""
        listed = (item["map"] for item in self._listing() if "map" in item)
        found = [element for each in listed if _is_opening(each) for element in _listed(each)]
        if not found:
            return GateState()
        generation, reason = parse_comment(found[0].comment)
        return GateState(state_of(found), generation, reason, min(element.expires_s for element in found))


class _Way(Protocol):
    @property
    def direction(self) -> Direction: ...
    @property
    def port(self) -> Port | None: ...
    @property
    def level(self) -> Level: ...


def state_of(found: Iterable[_Way]) -> dict[Direction, Opening]:
    """The openings that single ways make: of a port, or (None) of all that are not named."""
    openings: dict[Direction, Opening] = {}
    for direction in Direction:
        ours = [each for each in found if each.direction is direction]
        if ours:
            ports = {each.port: each.level for each in ours if each.port is not None}
            level = next((each.level for each in ours if each.port is None), Level.CAPTURE)
            openings[direction] = Opening(level, ports)
    return openings


def parse_comment(comment: str) -> tuple[Generation, str]:
    head, _, reason = comment.partition(" ")
    number = head.removeprefix("gen=")
    return Generation(int(number) if number.isdecimal() else 0), reason


@dataclass(frozen=True, slots=True)
class _Listed:
    direction: Direction
    port: Port | None
    level: Level
    comment: str
    expires_s: float


def _is_opening(listing: Mapping[str, object]) -> bool:
    """Maps with the name of a direction say what is open; the others only follow them."""
    return str(listing["name"]).partition("_")[0] in set(map(str, Direction))


def _listed(listing: Mapping[str, object]) -> Iterator[_Listed]:
    """The elements of one map as `nft -j` prints them: [key, verdict], key wrapped when it has a timeout."""
    direction, _, everything = str(listing["name"]).partition("_")
    elements = listing.get("elem", [])
    assert isinstance(elements, list)
    for key, verdict in elements:
        element = key["elem"] if isinstance(key, dict) else {"val": key}
        target = verdict.get("goto", {}).get("target") if isinstance(verdict, dict) else None
        yield _Listed(
            direction=Direction(direction),
            port=None if everything else int(element["val"]),
            level=_level_of(target),
            comment=str(element.get("comment", "")),
            expires_s=float(element.get("expires", 0)),
        )


def _level_of(chain: str | None) -> Level:
    if chain is None:
        return Level.HOLD
    return Level.DIRECT if chain == CHAIN_DIRECT else Level.RESCUE
