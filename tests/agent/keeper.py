"""The agent's process beside a sandbox, as the tests need it: any policy, killed and started again, asked anything.

Nothing here sleeps for a time: everything is awaited by what the agent says (status, journal) or the kernel shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect as python_inspect
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from hotswitch.capture.gate_table import TABLE
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import Inspection
from hotswitch.cli.ask import ANSWER_TIMEOUT_S, AgentError, ask
from hotswitch.kernel.command import Command, run
from hotswitch.report.journal import Entry
from hotswitch.sandbox.faults import Fault
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import JournalTail, Protector, pod_name
from hotswitch.sandbox.sandbox import Sandbox

PATIENCE_S = 60.0  # for what takes a second on an idle machine
POLL_S = 0.02
POLICY: dict[str, Any] = {
    "mode": "auto",
    "mtls": "PERMISSIVE",
    "inbound": ["rescue", "direct", "hold"],
    "outbound": ["rescue", "direct", "hold"],
    "hold_down_s": 0.01,
    "hold_down_max_s": 0.01,
    "recover_after_s": 0.5,
}
PACE = {"path_idle_s": 0.5}
Status = dict[str, Any]


async def until(condition: Callable[[], Any], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> Any:
    """Wait until it is true, and return it; it may be a coroutine function. Raises AssertionError with `what`."""
    deadline_s = asyncio.get_running_loop().time() + patience_s
    while True:
        found = condition()
        if python_inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline_s:
            raise AssertionError(f"not within {patience_s:g} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(POLL_S)


class Keeper(Protector):
    """`config` may be changed before `begin` and `reload`. `name` tells several apart in one box."""

    def __init__(self, box: Sandbox, pods: Sequence[Pod], name: str = "agent", **policy: Any) -> None:
        super().__init__(box, pods)
        home = box.estate.directory / name
        home.mkdir()
        self.config = box.agent_config(pods, **{**POLICY, **policy}) | {"pace": PACE}
        self.config |= {"journal": str(home / "journal.jsonl"), "socket": str(home / "agent.sock")}
        self.config["evidence"] = {"directory": str(home / "evidence")}
        self.config["rescue"] = {"directory": str(home / "rescue")}
        self.config["budget"] = {"node": 10, "workload": 10}
        self.file = home / "agent.yaml"
        self.home = home
        self.journal = JournalTail(Path(self.config["journal"]))
        self._faults: list[Fault] = []

    # ---- its life ----

    def pod_config(self, pod: Pod) -> dict[str, Any]:
        return next(each for each in self.config["pods"] if each["name"] == pod.name)

    @property
    def _log(self) -> Path:
        return self.home / "agent.log"

    async def begin(self) -> None:
        """Start the process with `config`, and wait until it can be asked."""
        process = self.launch()

        async def answers() -> bool:
            assert process.running, self.words()
            with contextlib.suppress(AgentError):
                return bool(await self.tell("status"))
            return False

        await until(answers, self.words)

    def words(self) -> str:
        return f"{self.home.name}: {self._log.read_text()[-3000:]}"

    async def guard(self) -> None:
        """Start it and wait until every pod is well, captured, and could be rescued."""
        await self.begin()
        for pod in self._pods:
            await self.until_rest(pod)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code; negative for a signal."""
        assert self._process is not None
        self._process.signal(number)
        return await self._process.exited()

    async def reload(self, text: str = "") -> Entry:
        """Write the file as `config` is now, or `text`, and have it read again; what the journal says of that."""
        assert self._process is not None
        before = len(self.entries(event="reload"))
        self.file.write_text(text or yaml.safe_dump(self.config, sort_keys=False))
        self._process.signal(signal.SIGHUP)
        return await self.until_entry(None, "reload", before)

    @property
    def rescue_pid(self) -> int:
        """0 while it is being started."""
        return int((self.home / "rescue" / "envoy.lock").read_text() or "0")

    # ---- what is broken beside it ----

    async def cause(self, fault: Awaitable[Fault]) -> Fault:
        """Make it happen, and see to it that `heal` undoes it whatever becomes of the test."""
        self._faults.append(await fault)
        return self._faults[-1]

    async def heal(self) -> None:
        while self._faults:
            await self._faults.pop().undo()

    # ---- asking it ----

    async def tell(self, verb: str, timeout_s: float = ANSWER_TIMEOUT_S, **request: Any) -> dict[str, Any]:
        """Raises AgentError."""
        return await asyncio.to_thread(ask, Path(self.config["socket"]), {"verb": verb, **request}, timeout_s)

    async def status(self, pod: Pod) -> Status:
        return (await self.tell("status", pod=pod.name))["pods"][0]

    async def bypass(self, pod: Pod, level: str = "rescue", *ways: str, **more: Any) -> dict[str, Any]:
        order = {"level": level, "directions": ways or ("inbound", "outbound"), "for_s": 60.0, "reason": "a test"}
        return await self.tell("bypass", pod=pod.name, **{**order, **more})

    async def restore(self, pod: Pod, **more: Any) -> dict[str, Any]:
        return await self.tell("restore", pod=pod.name, **more)

    async def until_status(self, pod: Pod, wanted: Callable[[Status], Any], what: str) -> Status:
        last: Status = {}

        async def seen() -> bool:
            nonlocal last
            last = await self.status(pod)
            return bool(wanted(last))

        await until(seen, lambda: f"{pod.name}: {what}; {last}; {self.told(pod)}")
        return last

    async def until_rest(self, pod: Pod) -> Status:
        return await self.until_status(pod, _at_rest, "well and captured, rescue and gate ready")

    # ---- its journal ----

    def entries(self, pod: Pod | None = None, event: str = "") -> list[Entry]:
        self.journal.catch_up()
        of_pod = (each for each in self.journal.entries if pod is None or pod_name(each) == pod.name)
        return [each for each in of_pod if event in ("", each.event)]

    def told(self, pod: Pod | None = None) -> str:
        """What the journal says last, for the message of an assertion."""
        lines = (f"{each.event} {each.code} {each.why or each.failed} {each.evidence}" for each in self.entries(pod))
        return "\n".join(list(lines)[-8:])

    async def until_entry(self, pod: Pod | None, event: str, after: int = 0, code: str = "") -> Entry:
        """The first entry of that kind, not counting the first `after`."""

        def found() -> Entry | None:
            kind = [each for each in self.entries(pod, event)[after:] if code in ("", each.code)]
            return kind[0] if kind else None

        entry: Entry = await until(found, lambda: f"no entry {event} {code} after {after}; {self.told(pod)}")
        return entry


def _at_rest(status: Status) -> bool:
    well = status["fault"] == "well" and set(status["levels"].values()) == {"capture"}
    return well and status["rescue"] == "ready" and status["gate"] == "ready"


# ---- the kernel's own word ----


def gate_text(pod: Pod) -> str:
    """Our table without counters and timeouts; closed, it is what was installed."""
    return run(Command(("nft", "-s", "list", "table", "inet", TABLE), netns=pod.netns), check=True).stdout


def ruleset(pod: Pod) -> str:
    return run(Command(("nft", "-s", "list", "ruleset"), netns=pod.netns), check=True).stdout


def rules(pod: Pod) -> Inspection:
    return inspect(pod.netns, pod.spec.capture())


def redirected(pod: Pod, port: int, family: str = "v4", *more: str) -> int:
    """Flows that the kernel knows to have been led to `port` of the pod (finished ones are known for a while). `more`:
    further options of `conntrack -L`."""
    of = {"v4": "ipv4", "v6": "ipv6"}[family]
    argv = ("conntrack", "-L", "-f", of, "-p", "tcp", "--reply-port-src", str(port), *more)
    return len(run(Command(argv, netns=pod.netns)).stdout.splitlines())
