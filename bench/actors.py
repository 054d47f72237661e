"""Who is compared: nobody, the source's way, a plain bypass, hotswitch. Each looks after pods of its own, as a process.

All but nobody are given what the endpoint part of hotswitch will do: a pod whose gate they have opened stays in its
Service although its container is not Ready. So what differs is the switch itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.pods import OPEN, READY, DiaryReader, Ward, save_wards
from hotswitch.model import Act
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.protector import JournalTail, Protector, at_s, pod_name
from hotswitch.sandbox.sandbox import Sandbox

NOBODY, SOURCE, BYPASS, HOTSWITCH = "nobody", "source", "bypass", "hotswitch"
ACTORS = (NOBODY, SOURCE, BYPASS, HOTSWITCH)
TITLES = {
    NOBODY: "nobody acts",
    SOURCE: "the source's way",
    BYPASS: "plain bypass",
    HOTSWITCH: "hotswitch",
}
START_TIMEOUT_S = 30.0


class ActorFailed(RuntimeError):
    """An actor did not come up or has ended; the message has its own words."""


class Actor(Protocol):
    """`serves`: is this pod's way open at this moment? `restless`: sentences on pods that are not as at the start.
    `opened_s`: the first instant from `since_s` on at which its way was open."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def serves(self, pod: str) -> bool: ...

    async def restless(self) -> list[str]: ...

    def opened_s(self, pod: str, since_s: float) -> float | None: ...


class Nobody:
    """Kubelet and istiod alone."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def serves(self, pod: str) -> bool:
        return False

    async def restless(self) -> list[str]:
        return []

    def opened_s(self, pod: str, since_s: float) -> float | None:
        return None


class Script:
    """An actor of this folder."""

    def __init__(self, box: Sandbox, name: str, module: str, pods: Sequence[Pod]) -> None:
        self._box, self._name, self._module, self._pods = box, name, module, pods
        directory = box.estate.directory
        self._wards, self._log = directory / f"{name}.json", directory / f"{name}.log"
        self._diary_path = directory / f"{name}.diary"
        self.diary = DiaryReader(self._diary_path)
        self._process: Process | None = None

    async def start(self) -> None:
        save_wards(self._wards, [Ward.of(pod) for pod in self._pods])
        argv = (sys.executable, "-m", f"bench.{self._module}", str(self._wards), str(self._diary_path))
        self._process = start(self._box.estate, argv, log=self._log)
        async with asyncio.timeout(START_TIMEOUT_S):
            while not any(deed.what == READY for deed in self.diary.deeds):
                self._look()
                await asyncio.sleep(0.05)

    def _look(self) -> None:
        if self._process is None or not self._process.running:
            raise ActorFailed(f"{self._name} has ended: {self._log.read_text()[-2000:]}")
        self.diary.catch_up()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()

    def serves(self, pod: str) -> bool:
        self.diary.catch_up()
        return pod in self.diary.open_pods

    async def restless(self) -> list[str]:
        self._look()
        return [f"{pod}: not put back yet" for pod in self.diary.open_pods]

    def opened_s(self, pod: str, since_s: float) -> float | None:
        self.diary.catch_up()
        deeds = (deed.at_s for deed in self.diary.deeds if (deed.what, deed.pod) == (OPEN, pod))
        return next((instant for instant in deeds if instant >= since_s), None)


class Hotswitch(Protector):
    """`hotswitch agent` with the pace it has by default; `policy` and `pace` change what the sandbox would give it.
    `name` tells several in one sandbox apart."""

    def __init__(
        self,
        box: Sandbox,
        pods: Sequence[Pod],
        *,
        name: str = "agent",
        policy: Mapping[str, Any] | None = None,
        pace: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(box, pods)
        home = box.estate.directory / name
        self.file = home.with_suffix(".yaml")
        self.config |= {"journal": str(home / "journal.jsonl"), "socket": str(home / "agent.sock")}
        self.config |= {"rescue": {"directory": str(home / "rescue")}, "pace": dict(pace or {})}
        self.journal = JournalTail(Path(self.config["journal"]))
        for pod in self.config["pods"]:
            pod["policy"] |= dict(policy or {})

    @property
    def pid(self) -> int:
        """Of the agent's process. Raises ActorFailed before `start`."""
        if self._process is None:
            raise ActorFailed("the agent was not started")
        return self._process.pid

    @property
    def rescue_pid(self) -> int:
        """Of the rescue Envoy, which says who it is in its lock file."""
        return rescue_pid(Path(self.config["rescue"]["directory"]))

    async def restless(self) -> list[str]:
        await self.look()
        return self.unrest()

    def opened_s(self, pod: str, since_s: float) -> float | None:
        return opening_s(self.journal, pod, since_s)


def opening_s(journal: JournalTail, pod: str, since_s: float) -> float | None:
    """The first instant from `since_s` on at which the agent whose journal it is opened this pod's gate."""
    journal.catch_up()
    opened = (
        at_s(entry)
        for entry in journal.entries
        if entry.event == Act.OPEN and pod_name(entry) == pod and not entry.failed
    )
    return next((instant for instant in opened if instant >= since_s), None)


def rescue_pid(directory: Path) -> int:
    """The rescue's Envoy in that directory. Raises FileNotFoundError before its first start."""
    return int((directory / "envoy.lock").read_text())


def actor(name: str, box: Sandbox, pods: Sequence[Pod]) -> Actor:
    if name == NOBODY:
        return Nobody()
    if name == HOTSWITCH:
        return Hotswitch(box, pods)
    return Script(box, name, {SOURCE: "source_way", BYPASS: "plain_bypass"}[name], pods)
