"""A controller is killed exactly at one step of what it does to one pod, by whom it speaks to: the API server, the pod,
an agent (wiretap).

A step is a write that the API server takes, a command that acts in the pod, or a message on an agent's link. BEFORE: it
has arrived, and has no effect. AFTER: it has had its effect, and the answer has not gone out (a message: it was passed
on). Of commands also DURING: it runs, and has all that it was sent; LATE: it runs only when whoever wants it has long
been killed. Nothing in the product takes part.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hotswitch.api import names
from hotswitch.api.status import PodStatus, StatusError, decode
from hotswitch.sandbox.cluster.installed import Controller
from hotswitch.sandbox.kubeapi.backend import Channels, NodeBackend
from hotswitch.sandbox.kubeapi.failure import ApiError
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.server import EmbeddedApi

Object = dict[str, Any]
UNCOUNTED = ("says", "hears", "ledger", "status stands")
"""How often depends on what comes together: of these the first counts."""
TABLES = (("", "pods"), ("", "events"), ("discovery.k8s.io", "endpointslices"), ("", "configmaps"))


class When(StrEnum):
    BEFORE = "before"
    AFTER = "after"
    DURING = "during"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Cut:
    """At the `nth` step called `step` from when it is set. `then`: of the controller that comes after."""

    step: str
    nth: int
    when: When
    then: Cut | None = None

    def __str__(self) -> str:
        times = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.when} {self.step}{times}" + (f", then {self.then}" if self.then else "")


@dataclass(slots=True)
class Act:
    """A command that acts in the pod. `generation`: of the order, 0 for Istio's own commands. `orphan`: who wanted it
    was killed before it had ended."""

    what: str
    generation: int = 0
    orphan: bool = False
    began: int = 0
    ended: int = 0
    outcome: str = ""


@dataclass(slots=True)
class Knife:
    """For one pod and one controller at a time. `steps`: all that were seen since `set`; `acts`: since the start."""

    api: EmbeddedApi
    pod: str
    controller: Controller
    steps: list[str] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    """For a command that is to come LATE."""
    _cut: Cut | None = None
    _applied: tuple[tuple[str, str], str] | None = None
    _clock: int = 0

    @contextmanager
    def drawn(self) -> Iterator[Knife]:
        """It sees, and may strike, within the body."""
        backend = self.api.backend
        listening = [self.api.store.listen(table, self._listener(table)) for table in TABLES]
        self.api.writes.guards.append(self._guard)
        self.api.backend = _Commands(self, backend)
        try:
            yield self
        finally:
            self.api.backend = backend
            self.api.writes.guards.remove(self._guard)
            for end in listening:
                end()

    def set(self, cut: Cut | None) -> None:
        self._cut, self._applied = cut, None
        self.steps.clear()
        self.struck.clear()
        self.let_go.clear()

    def now(self) -> int:
        """An order of what is noted here."""
        self._clock += 1
        return self._clock

    def strike(self) -> None:
        assert self.controller.process is not None
        os.kill(self.controller.process.pid, signal.SIGKILL)
        self._cut = None
        self.struck.set()

    # ---- writes ----

    def _guard(self, ask: Ask, operation: str, before: Object | None, after: Object | None) -> None:
        """As an admission policy is asked: the next thing that happens to this write is that it is stored."""
        step = _step(ask, self.pod, before, after)
        if not step:
            return
        self._applied = None
        cut = self.met(step)
        if cut is None:
            return
        if cut.when is When.BEFORE:
            self.strike()
            raise ApiError(503, "the controller has just been killed")
        if operation != "CONNECT" and after is not None:
            self._applied = ask.resource.table, after["metadata"]["name"]

    def met(self, step: str) -> Cut | None:
        """Written down; whether it is the one."""
        self.steps.append(step)
        return self.due(step)

    def due(self, step: str) -> Cut | None:
        cut = self._cut
        return cut if cut is not None and cut.step == step and self.steps.count(step) == cut.nth else None

    def _listener(self, table: tuple[str, str]) -> Callable[[Any], None]:
        def stored(change: Any) -> None:
            if self._applied == (table, change.record.name):
                self._applied = None
                self.strike()

        return stored


def cuts(steps: Sequence[str], *whens: When) -> list[Cut]:
    """One for each of these steps and each moment that there is of it."""
    found = []
    for at, step in enumerate(steps):
        nth = steps[: at + 1].count(step)
        if nth > 1 and step.startswith(UNCOUNTED):
            continue
        of_a_write = When.BEFORE, When.AFTER
        found += [Cut(step, nth, when) for when in whens if acts(step) or when in of_a_write]
    return found


def acts(step: str) -> bool:
    return step in ("order", "clean-up", "set-up")


def _step(ask: Ask, pod: str, before: Object | None, after: Object | None) -> str:
    """ "": none of the controller's, none about this pod, or one that only looks."""
    if after is None or ask.query.get("dryRun") or not ask.user.name.endswith(":hotswitch-controller"):
        return ""
    match ask.path:
        case "pods/exec":
            return _command(after["command"]) if ask.name == pod else ""
        case "pods/status":
            return _written(before or {}, after) if ask.name == pod else ""
        case "events":
            return f"event {after['reason']}" if after["involvedObject"]["name"] == pod else ""
        case "endpointslices":
            return "touch"
        case "configmaps":
            return "ledger"
    return ""


def _command(argv: Sequence[str]) -> str:
    if argv[:2] == ["hotswitch", "order"]:
        return "order"
    if not any("istio-" in word and "iptables" in word for word in argv):
        return ""
    return "clean-up" if any("clean" in word for word in argv) else "set-up"


def _written(before: Object, after: Object) -> str:
    told, was = _status(after), _status(before)
    if told == was:
        return f"label {after['metadata'].get('labels', {}).get(names.TLS_MODE_LABEL)}"
    if told is None:
        return "no status"
    levels = told.wanted or told.levels
    return f"status {told.step or 'stands'} {'/'.join(str(levels[way]) for way in sorted(levels))}"


def _status(pod: Object) -> PodStatus | None:
    metadata = pod.get("metadata", {})
    text = (metadata.get("annotations") or {}).get(names.STATUS)
    with contextlib.suppress(StatusError):
        return None if text is None else decode(text, metadata["uid"])
    return None


# ---- commands ----


class _Commands:
    """The node's side of exec (kubeapi.backend.NodeBackend)."""

    def __init__(self, knife: Knife, inner: NodeBackend) -> None:
        self._knife, self._inner = knife, inner

    async def exec(self, pod: Object, container: str, argv: list[str], channels: Channels) -> int:
        step = _command(argv)
        if pod["metadata"]["name"] != self._knife.pod or not step:
            return await self._inner.exec(pod, container, argv, channels)
        cut = self._knife.due(step)
        running = asyncio.create_task(self._run(pod, container, argv, _Heard(self._knife, channels, Act(step)), cut))
        return await asyncio.shield(running)  # a command does not end with who wants it

    async def _run(self, pod: Object, container: str, argv: list[str], heard: _Heard, cut: Cut | None) -> int:
        knife, act = self._knife, heard.act
        knife.acts.append(act)
        if cut is not None and cut.when is When.LATE:
            await heard.ahead()
            knife.strike()
            await knife.let_go.wait()
        heard.strikes = cut is not None and cut.when is When.DURING
        act.orphan = cut is not None and cut.when is not When.BEFORE
        act.began = knife.now()
        try:
            code = await self._inner.exec(pod, container, argv, heard)
        finally:
            act.ended = knife.now()
        act.outcome = act.outcome or str(code)
        if cut is not None and cut.when is When.AFTER:
            knife.strike()
        return code

    async def start_ephemeral(self, pod: Object, container: Object) -> None:
        await self._inner.start_ephemeral(pod, container)

    async def log(self, pod: Object, container: str) -> bytes:
        return await self._inner.log(pod, container)


class _Heard:
    """The streams of a command, listened to (kubeapi.backend.Channels)."""

    def __init__(self, knife: Knife, channels: Channels, act: Act) -> None:
        self._knife, self._channels, self.act = knife, channels, act
        self.strikes = False
        self._ahead: bytes | None = None
        self._over = False

    async def ahead(self) -> None:
        """Take what it is sent before it runs."""
        self._ahead = await self._receive()

    async def read(self) -> bytes:
        if self._ahead is not None:
            data, self._ahead, self._over = self._ahead, None, True
            return data
        if self._over:
            return b""
        data = await self._receive()
        if self.strikes:
            self._over = True
            self._knife.strike()
        return data

    async def _receive(self) -> bytes:
        data = await self._channels.read()
        with contextlib.suppress(ValueError, KeyError):
            self.act.generation = json.loads(data)["generation"] if data else 0
        return data

    async def stdout(self, data: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self.act.outcome = json.loads(data)["outcome"]
        with contextlib.suppress(ConnectionError):
            await self._channels.stdout(data)

    async def stderr(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self._channels.stderr(data)
