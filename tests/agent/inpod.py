"""The helper in a sandbox's pod, as an ephemeral container has it: first process of a PID namespace of its own, in the
pod's network namespace, uid 0 with the exempt gid and exactly the capabilities that the reference page lists."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotswitch.api.names import HELPER_CAPABILITIES, HELPER_VARIABLE
from hotswitch.cli.ask import ask
from hotswitch.kernel.command import Command, run
from hotswitch.report.journal import Entry
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.protector import JournalTail
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import until

EXEMPT_GID = 1337
Answer = dict[str, Any]


def confined(argv: Sequence[str], capabilities: Sequence[str] = HELPER_CAPABILITIES) -> tuple[str, ...]:
    """`argv` as a container runtime starts it: the bounding set is all that uid 0 gets."""
    wanted = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    ids = ("--reuid", "0", "--regid", str(EXEMPT_GID), "--clear-groups", "--no-new-privs", "--pdeathsig", "SIGKILL")
    return ("setpriv", *ids, "--inh-caps=-all", f"--bounding-set={wanted}", *argv)


def program(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "hotswitch.cli.start", *words)


class InPod:
    """One helper beside one pod. `pod_settings` may be changed before `begin`."""

    def __init__(self, box: Sandbox, pod: Pod, capabilities: Sequence[str] = HELPER_CAPABILITIES) -> None:
        self.pod, self.directory = pod, box.estate.directory / f"helper-{pod.name}"
        self._box, self._capabilities = box, capabilities
        self.directory.mkdir(exist_ok=True)
        self.pod_settings = {
            name: value
            for name, value in pod.agent_config({"mtls": "PERMISSIVE", "recover_after_s": 0.5}).items()
            if name not in ("netns", "cgroups", "logs", "termination_message")
        }
        self.journal = JournalTail(self.directory / "journal.jsonl")
        self._process: Process | None = None
        self._generation = 0

    @property
    def log(self) -> str:
        return (self.directory / "helper.log").read_text()[-3000:]

    @property
    def settings(self) -> str:
        return json.dumps({"pod": self.pod_settings, "directory": str(self.directory)})

    async def launch(self) -> None:
        """Start the container."""
        argv = ("env", f"{HELPER_VARIABLE}={self.settings}", *confined(program("helper"), self._capabilities))
        first = ("unshare", "--pid", "--fork", "--mount-proc", *argv)
        self._process = start(
            self._box.estate, first, log=self.directory / "helper.log", netns=self.pod.netns,
            cgroups=self._box.estate.make_cgroups(f"helper-{self.pod.name}")[-1:],
        )  # fmt: skip

    async def begin(self) -> None:
        """Start the container; until it can be asked, and guards its pod."""
        await self.launch()
        process = self._process
        assert process is not None

        async def answers() -> bool:
            assert process.running, self.log
            return "levels" in await self.truth()

        await until(answers, lambda: self.log)

    async def until_answered(self) -> Answer:
        """The first word of the helper, be it that it cannot guard its pod."""
        last: Answer = {}

        async def answered() -> bool:
            nonlocal last
            last = await self.truth()
            return "levels" in last or "not one" in last["error"]

        await until(answered, lambda: f"{last} {self.log}")
        return last

    async def ready(self) -> Answer:
        """Well, captured, and a rescue could be ordered."""
        return await self.until_truth(
            lambda truth: not truth.get("rescue_refusal") and truth["diagnosis"]["fault"] == "well",
            "ready for a rescue",
        )

    @property
    def keeper_pid(self) -> int:
        """The container's first process, as the node sees it."""
        assert self._process is not None
        return children(self._process.pid)[0]

    @property
    def worker_pid(self) -> int:
        """The helper itself; 0 while it is being started."""
        return next((pid for pid in children(self.keeper_pid) if b"--once" in _cmdline(pid)), 0)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """The whole container."""
        assert self._process is not None
        os.kill(self.keeper_pid, number)
        return await self._process.exited()

    # ---- asking it, by exec ----

    async def exec(self, *words: str, stdin: str = "") -> Answer:
        argv = confined(program(*words, "--socket", str(self.directory / "agent.sock")), self._capabilities)
        outcome = await asyncio.to_thread(run, Command(argv, self.pod.netns, stdin))
        if outcome.returncode != 0:
            return {"error": outcome.stderr}
        answer: Answer = json.loads(outcome.stdout)
        return answer

    async def truth(self) -> Answer:
        return await self.exec("truth")

    async def until_truth(self, wanted: Any, what: str) -> Answer:
        last: Answer = {}

        async def seen() -> bool:
            nonlocal last
            last = await self.truth()
            return "levels" in last and bool(wanted(last))

        await until(seen, lambda: f"{self.pod.name}: {what}; {last}; {self.told()}")
        return last

    def skip_to(self, generation: int) -> None:
        """The next order is of a later generation than this one."""
        self._generation = max(self._generation, generation)

    async def order(self, generation: int = 0, expiry_s: float = 60.0, **more: Any) -> Answer:
        """`openings`: level by direction; none: close. Without a generation: the next one."""
        self._generation = max(generation, self._generation + 1)
        openings = {way: {"level": level} for way, level in more.pop("openings", {}).items()}
        order = {
            "uid": self.pod.uid, "generation": generation or self._generation, "openings": openings,
            "expiry_s": expiry_s, "code": "HSD001", "reason": "a test", **more,
        }  # fmt: skip
        return await self.exec("order", stdin=json.dumps(order))

    async def tell(self, generation: int, openings: Mapping[str, str], **more: Any) -> Answer:
        """An order at the helper's door, without exec."""
        self._generation = max(generation, self._generation)
        ways = {way: {"level": level} for way, level in openings.items()}
        order = {"uid": self.pod.uid, "generation": generation, "openings": ways, "expiry_s": 60.0, **more}
        return await asyncio.to_thread(ask, self.directory / "agent.sock", {"verb": "order", "order": order})

    def entries(self, event: str = "") -> list[Entry]:
        self.journal.catch_up()
        return [each for each in self.journal.entries if event in ("", each.event)]

    def told(self) -> str:
        return "\n".join(f"{each.event} {each.code} {each.why or each.failed}" for each in self.entries()[-8:])


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _cmdline(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []
