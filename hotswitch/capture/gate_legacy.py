"""The gate by iptables-legacy, for a kernel without nf_tables: the interface of `Gate`, and weaker in four ways.

- A write takes four short commands instead of one message: some 15 to 25 ms, on the agent's loop.
- The fence is a look before the write, not the kernel's comparison: whoever changes a rule between the two is noticed
  only by the next look.
- Each address family is a transaction of its own. If the second fails the first is put back; a crash between the two
  leaves them different, until the next write or the expiry.
- The expiry goes by the wall clock in whole seconds: never early, at most 1 s late, and wrong by as much as the clock
  is set meanwhile. The next renewal puts that right.
"""

from __future__ import annotations

import errno
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from hotswitch.capture import gate_legacy_table as table
from hotswitch.capture.gate import GateAbsent, GateFenced, GateState, parse_comment, state_of
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.inspect import legacy_tables
from hotswitch.kernel.command import Command, CommandFailed, run
from hotswitch.model import Direction, Generation, Opening, Port

_TOOLS = {"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}
_LOCK_S = "1"  # how long to wait for another iptables to let go of the lock


class LegacyGate:
    """One pod's gate. It holds nothing of the namespace."""

    name = "HOTSWITCH_* in iptables-legacy's nat"

    def __init__(self, netns: str | Path, scope: GateScope) -> None:
        self.netns = str(netns)
        self.scope = scope
        self._families = table.families(scope)
        self._trusted: int | None = None
        self.writes = 0

    @property
    def refusal(self) -> str:
        """A sentence why this gate must not be used for its scope; empty when it may be."""
        return table.unsupported(self.scope)

    def close(self) -> None:
        """Nothing is held."""

    def install(self) -> bool:
        """Put the closed chains in place, jumps first; False when they are there already (and left alone, open or not).

        Makes table nat where there was none. Raises CommandFailed, OSError."""
        saved = self._read()
        missing = [family for family in self._families if not self._installed(saved, family)]
        for family in missing:
            script = table.install_script(saved[family], self.scope, family)
            run(self._restore(family, script), check=True)
        return bool(missing)

    def remove_commands(self) -> list[Command]:
        """What takes everything of ours out of the tables; those stay, for iptables-legacy cannot take them away."""
        scripts = {family: table.remove_script(saved) for family, saved in self._read().items()}
        return [self._restore(family, script) for family, script in scripts.items() if script]

    def remove(self) -> None:
        for command in self.remove_commands():
            run(command, check=True)

    def trust(self, generation: int | None = None) -> None:
        """Writes are allowed as long as all legacy rules but the openings are as now (or as at `generation`)."""
        self._trusted = self.rules_generation() if generation is None else generation

    def is_trusted(self) -> bool:
        """Are the namespace's rules as they were trusted, our own writes aside? Raises OSError."""
        return self._trusted in (None, self.rules_generation())

    def rules_generation(self) -> int:
        """A number for what the legacy tables hold beside openings: the same for the same rules. Some milliseconds.
        Raises OSError."""
        return _digest(self._texts())

    def write(
        self, openings: Mapping[Direction, Opening], *, expiry_s: float, generation: Generation, reason: str
    ) -> None:
        """Make the gate exactly `openings` (empty: closed) for `expiry_s` seconds.

        Raises GateFenced, GateAbsent, or OSError; then nothing has changed."""
        ends = time.time() + expiry_s
        self._commit(table.write_script(openings, ends_unix_s=ends, generation=generation, reason=reason))

    def prepare(self, openings: Mapping[Direction, Opening]) -> None:
        """A write is a command here: there is nothing to have ready."""

    def divert(self, port: Port, expiry_s: float) -> None:
        """Lead new inbound flows to `port` (pilot-agent's) to the stand-in's, for `expiry_s` seconds; set anew by every
        call. Raises as `write`."""
        self._commit(table.divert_script(port, time.time() + expiry_s))

    def undivert(self) -> None:
        """No flow is led to the stand-in any longer. Raises as `write`."""
        self._commit(table.divert_script(None))

    def read(self) -> GateState:
        """What is open now, by the kernel's word and this machine's clock."""
        now = time.time()
        found = [each for saved in self._read().values() for each in table.openings_in(saved, now)]
        if not found:
            return GateState()
        openings = state_of(found)
        generation, reason = parse_comment(found[0].comment)
        return GateState(openings, generation, reason, min(each.ends_unix_s for each in found) - now)

    def _commit(self, script: str) -> None:
        texts = self._texts()
        if self._trusted not in (None, _digest(texts)):
            raise GateFenced(f"{self.netns}: rules changed since they were last inspected")
        saved = {family: table.parse(text) for family, text in texts.items()}
        if not all(self._installed(saved, family) for family in self._families):
            raise GateAbsent(f"{self.netns}: {self.name} is not as it was installed")
        for at, family in enumerate(self._families):
            try:
                run(self._restore(family, script), check=True)
            except CommandFailed as failure:
                for before in self._families[:at]:
                    run(self._restore(before, table.undo_script(saved[before])))
                raise OSError(errno.EIO, str(failure)) from failure
        self.writes += 1

    def is_there(self) -> bool:
        """Are there chains of ours, of whatever scope, open or closed? Raises OSError."""
        return any(f":{table.PREFIX}" in text for text in self._texts().values())

    def _installed(self, saved: Mapping[str, table.Saved], family: str) -> bool:
        return table.is_installed(saved[family], self.scope, family)

    def _read(self) -> dict[str, table.Saved]:
        return {family: table.parse(text) for family, text in self._texts().items()}

    def _texts(self) -> dict[str, str]:
        """Of every family; empty where it has no legacy tables, for merely asking would make them."""
        there = legacy_tables(self.netns)
        return {family: self._save(family) if family in there else "" for family in table.FAMILIES}

    def _save(self, family: str) -> str:
        try:
            return run(Command((f"{_TOOLS[family]}-save",), self.netns), check=True).stdout
        except CommandFailed as failure:
            raise OSError(errno.EIO, str(failure)) from failure

    def _restore(self, family: str, script: str) -> Command:
        return Command((f"{_TOOLS[family]}-restore", "--noflush", "-w", _LOCK_S), self.netns, script)


def _digest(texts: Mapping[str, str]) -> int:
    return zlib.crc32("\n\n".join(table.fixed(text) for text in texts.values()).encode())
