"""`hotswitch agent` beside the pods of a sandbox: a process of its own with a configuration file, as a user has it.

What it sees is asked over its socket (`status`), what it did is read from its journal. The journal also says which pods
it serves at this moment: a line follows each opening at once. The rescue Envoy outlives its agent on purpose; here both
are in one cgroup of the sandbox, and go with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from hotswitch.model import OPEN_LEVELS, Act, Direction, Level
from hotswitch.report.journal import Entry
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.score import Mark

POLICY: Mapping[str, Any] = {
    "mode": "auto",
    "mtls": "PERMISSIVE",
    "inbound": ["rescue", "hold"],
    "outbound": ["direct", "hold"],
    "outbound_free": True,
}
PACE = {"path_idle_s": 1.0, "fresh_s": 0.8}  # things that are looked at seldom are looked at often: the walk is short
DRAIN_S = 1
"""After a restore, connections through the rescue are closed so soon, and not after 30 s: or meshed clients, which keep
theirs, would not notice the next fault of the walk."""
START_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 2.0
LOG_TAIL = 2000
VERIFIED = "verified"
_SWITCHES = (Act.OPEN, Act.CLOSE)


class ProtectorFailed(RuntimeError):
    """The agent did not come up, or ended; the message ends with its own words."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One pod as the agent's `status` tells it."""

    fault: str
    grade: str
    sentence: str
    inbound: str
    outbound: str
    rescue: str
    gate: str

    @property
    def at_rest(self) -> bool:
        """Well, and nothing of hotswitch is active."""
        return self.fault == "well" and {self.inbound, self.outbound} == {Level.CAPTURE}


def seen(status: Mapping[str, Any]) -> Seen:
    levels = status["levels"]
    told = {name: str(status[name]) for name in ("fault", "grade", "sentence", "rescue", "gate")}
    return Seen(inbound=levels[Direction.INBOUND], outbound=levels[Direction.OUTBOUND], **told)


async def asked(socket: str | Path, request: dict[str, Any]) -> dict[str, Any]:
    """What an agent answers on its control socket. Raises OSError while it does not, ValueError for no answer."""
    async with asyncio.timeout(ASK_TIMEOUT_S):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await reader.read())
            return answer
        finally:
            writer.close()


class JournalTail:
    """The agent's journal, read on. `open_pods`: pods whose inbound gate is open, by the last line about them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.open_pods: set[str] = set()
        self._read = 0

    def catch_up(self) -> list[Entry]:
        """Lines that are new since the last call; an unfinished one waits for the next."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size > self._read:
                return self._read_on()
        return []

    def _read_on(self) -> list[Entry]:
        with self.path.open("rb") as journal:
            journal.seek(self._read)
            whole, _, _ = journal.read().rpartition(b"\n")
        self._read += len(whole) + 1 if whole else 0
        fresh = [msgspec.json.decode(line, type=Entry) for line in whole.splitlines()]
        self.entries += fresh
        for entry in fresh:
            self._note(entry)
        return fresh

    def _note(self, entry: Entry) -> None:
        name = pod_name(entry)
        if entry.event == Act.OPEN and not entry.failed:
            served = any(f"{Direction.INBOUND} {level}" in entry.rules_after for level in OPEN_LEVELS)
            (self.open_pods.add if served else self.open_pods.discard)(name)
        elif entry.event == Act.CLOSE and not entry.failed:
            self.open_pods.discard(name)

    def verified(self, pod: str) -> Entry | None:
        """The newest proof that a pod's rules were looked at after its gate was closed; None when it is due."""
        mine = [entry for entry in self.entries if pod_name(entry) == pod and entry.event in (*_SWITCHES, VERIFIED)]
        return mine[-1] if mine and mine[-1].event == VERIFIED else None

    def unverified(self, pod: str) -> bool:
        """Was its gate ever written, and not verified since?"""
        switched = any(pod_name(entry) == pod and entry.event in _SWITCHES for entry in self.entries)
        return switched and self.verified(pod) is None


def pod_name(entry: Entry) -> str:
    return entry.pod.rpartition("/")[2]


def at_s(entry: Entry) -> float:
    """The entry's instant on the monotonic clock; the journal has wall-clock time."""
    return datetime.fromisoformat(entry.at).timestamp() - (time.time() - time.monotonic())


def openings(entries: Sequence[Entry], mark: Mark, world: str, until_s: float) -> dict[str, float]:
    """By pod of the mark: milliseconds from the fault to the first opening before `until_s`."""
    found: dict[str, float] = {}
    for pod, made_s in mark.pods(world).items():
        written = (at_s(entry) for entry in entries if entry.event == Act.OPEN and pod_name(entry) == pod)
        first_s = next((instant for instant in written if made_s <= instant < until_s), None)
        if first_s is not None:
            found[pod] = (first_s - made_s) * 1000
    return found


class Protector:
    """Started by `start`, which returns when every pod is guarded and its rescue is ready. Raises ProtectorFailed."""

    def __init__(self, box: Sandbox, pods: Sequence[Pod]) -> None:
        self._box, self._pods = box, pods
        self.config = box.agent_config(pods, **POLICY) | {"pace": PACE}
        self.config["rescue"]["drain_s"] = DRAIN_S
        self.file = box.estate.directory / "agent.yaml"
        self.journal = JournalTail(Path(self.config["journal"]))
        self.statuses: dict[str, Seen] = {}
        self._process: Process | None = None

    @property
    def _log(self) -> Path:
        return self._box.estate.directory / "agent.log"

    def launch(self) -> Process:
        """Write the file as `config` is now, and start the agent with it. `start` also waits."""
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        argv = (sys.executable, "-m", "hotswitch.cli.start", "agent", "--config", str(self.file))
        self._process = start(self._box.estate, argv, log=self._log, cgroups=self._cgroups())
        return self._process

    async def start(self) -> None:
        self.launch()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not self._guards_all():
                    await asyncio.sleep(0.1)
                    await self.look()
        except TimeoutError:
            raise ProtectorFailed(f"the agent does not guard its pods: {self._words()}") from None

    def _cgroups(self) -> tuple[Path, ...]:
        """So that the rescue is found at the end. With v1 not the one that shares out CPU time: the agent's priority
        would count only against the pods of this sandbox."""
        return self._box.estate.make_cgroups("agent")[-1:]

    def _guards_all(self) -> bool:
        ready = [each for each in self.statuses.values() if each.at_rest and each.rescue == each.gate == "ready"]
        return len(ready) == len(self._pods)

    def _words(self) -> str:
        log = self._log.read_text()[-LOG_TAIL:].strip() if self._log.exists() else ""
        refusals = [f"{name}: rescue {each.rescue}, gate {each.gate}" for name, each in self.statuses.items()]
        failed = [f"{entry.pod}: {entry.failed}" for entry in self.journal.catch_up() if entry.failed]
        return "; ".join([*refusals, *failed, log]) or "it says nothing"

    async def look(self) -> None:
        """Ask for `status`; while it cannot be asked, what was known stays. Raises ProtectorFailed when it ended."""
        if self._process is None or not self._process.running:
            raise ProtectorFailed(f"the agent has ended: {self._words()}")
        with contextlib.suppress(OSError, ValueError):
            answer = await asked(self.config["socket"], {"verb": "status"})
            self.statuses = {pod["pod"].rpartition("/")[2]: seen(pod) for pod in answer["pods"]}

    def serves(self, pod: str) -> bool:
        """Is the pod's inbound gate open at this moment? For Services whose endpoints hotswitch owns."""
        self.journal.catch_up()
        return pod in self.journal.open_pods

    def unrest(self) -> list[str]:
        """Sentences on pods that are not well, still open, or not verified since their gate was closed (I4)."""
        self.journal.catch_up()
        found = [
            f"{pod}: {each.sentence}, inbound {each.inbound}, outbound {each.outbound}"
            for pod, each in self.statuses.items()
            if not each.at_rest
        ]
        return found + [
            f"{pod}: not verified since its gate was closed" for pod in self.statuses if self.journal.unverified(pod)
        ]

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(patience_s=3.0)
