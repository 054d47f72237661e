"""The agent's door for people: one JSON request and one JSON answer per connection on a unix socket of mode 0600.

Who asks is taken from the kernel (SO_PEERCRED) and written into the journal (I8). A person's order obeys the policy
like everything else (I2); bypass needs an end and a reason (I4). `dry_run` answers with the plan and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from hotswitch.act.actor import plan_of
from hotswitch.agent import drill
from hotswitch.agent.agent import Agent
from hotswitch.agent.guard import Guard
from hotswitch.agent.ordered import OrderedGuard
from hotswitch.agent.rehearsal import if_dead
from hotswitch.api.orders import AnswerText, OrderText, TruthText
from hotswitch.capture.gate_legacy import LegacyGate
from hotswitch.capture.gate_text import summary
from hotswitch.decide.engine import step
from hotswitch.model import Decision, Direction, Level, Override, Standing

REQUEST_BYTES = 65536
LINE_BYTES = 1 << 20  # an order brings the pod's AuthorizationPolicies
FOR_AT_MOST_S = 7 * 86400.0


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """`pod`: "namespace/name", name or uid; empty: all (status, history)."""

    verb: Literal["status", "plan", "bypass", "restore", "history", "evidence", "order", "truth", "drill"]
    pod: str = ""
    level: Literal["rescue", "direct", "hold"] = "rescue"
    directions: tuple[Direction, ...] = tuple(Direction)
    for_s: float = 0.0
    reason: str = ""
    dry_run: bool = False
    last: int = 50
    name: str = ""  # evidence: of which fault
    file: str = ""  # evidence: which file of it
    order: OrderText | None = None  # order: of a controller, to an agent that takes them


class Refused(ValueError):
    """The request cannot be carried out; the message names the field."""


class Control:
    def __init__(self, agent: Agent, path: Path) -> None:
        self._agent, self._path = agent, path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises OSError when the socket cannot be made. A socket left by a dead agent is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_BYTES)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            answer = await self._answer(line, _who(writer))
        except (msgspec.MsgspecError, ValueError) as failure:  # a line that is too long is a ValueError, too
            answer = {"error": str(failure)}
        except KeyError as failure:
            answer = {"error": str(failure.args[0])}
        with contextlib.suppress(ConnectionError):
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
            writer.close()

    async def _answer(self, line: bytes, who: str) -> dict[str, Any]:
        request = msgspec.json.decode(line, type=Request)
        match request.verb:
            case "status":
                return {"pods": [_status(guard) for guard in self._chosen(request.pod)]}
            case "history":
                entries = self._agent.journal.read(self._named(request.pod), request.last)
                return {"entries": [msgspec.to_builtins(each) for each in entries]}
            case "evidence":
                return self._evidence(request)
            case "order":
                return await self._carry_out(request)
            case "truth":
                return _as_json(await self._only().truth())
            case "drill":
                return await self._drill(self._agent.guard_named(request.pod), request, who)
            case "plan":
                return _plan(self._agent.guard_named(request.pod))
            case "bypass":
                return _order(self._agent.guard_named(request.pod), _bypass(request, who), request.dry_run, who)
            case "restore":
                return _order(self._agent.guard_named(request.pod), _restore(request, who), request.dry_run, who)

    async def _drill(self, guard: Guard, request: Request, who: str) -> dict[str, Any]:
        if not 0 < request.for_s <= drill.FOR_AT_MOST_S:
            raise Refused(f"for: {request.for_s:g} s is not between 0 and {drill.FOR_AT_MOST_S:g} s")
        if request.dry_run:
            return {"pod": str(guard.pod), "dry_run": True, "refusal": drill.refusal(guard)}
        report = await self._agent.drills.run(guard, request.for_s, who)
        return {"pod": str(guard.pod), **asdict(report)}

    async def _carry_out(self, request: Request) -> dict[str, Any]:
        if request.order is None:
            raise Refused("order: is missing")
        return _as_json(await self._only().order(request.order))

    def _only(self) -> OrderedGuard:
        """Orders name a pod by its uid, and one for a stranger needs somebody to refuse it."""
        guards = list(self._agent.guards.values())
        if len(guards) != 1:
            failed = [line.failed for line in self._agent.journal.read(None, 20) if line.event == "attach"]
            raise Refused(
                f"this agent guards {len(guards)} pods, not one: {failed[-1] if failed else 'by its settings'}"
            )
        return _ordered(guards[0])

    def _evidence(self, request: Request) -> dict[str, Any]:
        store = self._agent.evidence.store
        if store is None:
            raise Refused("evidence: switched off in the agent's file")
        if request.file:
            return {"name": request.name, "file": request.file, "content": store.read(request.name, request.file)}
        kept = store.kept(self._named(request.pod))
        return {
            "directory": str(store.root),
            "kept": [msgspec.to_builtins(each) for each in kept if request.name in ("", each.name)],
        }

    def _chosen(self, name: str) -> list[Guard]:
        return [self._agent.guard_named(name)] if name else list(self._agent.guards.values())

    def _named(self, name: str) -> str | None:
        with contextlib.suppress(KeyError):
            return str(self._agent.guard_named(name).pod)
        return name or None


def _ordered(guard: Guard) -> OrderedGuard:
    if not isinstance(guard, OrderedGuard):
        raise Refused(f"{guard.pod}: this agent decides for itself, and takes no orders of a controller")
    return guard


def _as_json(answer: AnswerText | TruthText) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(answer, str_keys=True)
    return built


def _who(writer: asyncio.StreamWriter) -> str:
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _status(guard: Guard) -> dict[str, Any]:
    standing, now_s = guard.standing, asyncio.get_running_loop().time()
    view = guard.view()
    return {
        "pod": str(guard.pod),
        "uid": guard.pod.uid,
        "workload": guard.pod.workload,
        "mode": guard.policy.mode,
        "fault": guard.diagnosis.fault,
        "grade": guard.diagnosis.grade,
        "sentence": guard.diagnosis.sentence,
        "levels": {way: standing.levels[way] for way in Direction},
        "generation": standing.generation,
        "open": summary(standing.openings),
        "expires_in_s": None if standing.expires_s is None else round(standing.expires_s - now_s, 1),
        "override": standing.override.reason if standing.override else "",
        "rescue": view.capabilities.rescue_refusal or "ready",
        "identity": guard.spare.way or "",
        "gate": view.capabilities.gate_refusal or "ready",
        "stand_in": guard.stand_in.state,
    }


def _plan(guard: Guard) -> dict[str, Any]:
    """What would be done now, and what if the proxy died this instant."""
    now = guard.hypothetical(guard.facts())
    return {
        "pod": str(guard.pod),
        "now": _told(guard, now),
        "if_proxy_dies": _told(guard, guard.hypothetical(if_dead(guard.facts()))),
        "stand_in": guard.stand_in.plan(),
    }


def _told(guard: Guard, decisions: tuple[Decision, ...]) -> list[dict[str, str]]:
    netns, legacy = str(guard.settings.netns), isinstance(guard.gate, LegacyGate)
    return [
        {
            "act": each.act,
            "code": each.code,
            "why": each.sentence,
            "commands": plan_of(each, netns, guard.gate.scope, legacy=legacy),
        }
        for each in decisions
    ]


def _until(request: Request) -> float:
    if not 0 < request.for_s <= FOR_AT_MOST_S:
        raise Refused(f"for: {request.for_s:g} s is not between 0 and {FOR_AT_MOST_S:g} s")
    if not request.reason.strip():
        raise Refused("reason: is empty; say why, it is kept in the journal")
    if not request.directions:
        raise Refused("directions: names none")
    return asyncio.get_running_loop().time() + request.for_s


def _bypass(request: Request, who: str) -> Override:
    levels = {way: Level(request.level) for way in request.directions}
    return Override(levels, _until(request), request.reason, who)


def _restore(request: Request, who: str) -> Override | None:
    """Back to capture, now. With `for`, kept there that long whatever is seen; without, hotswitch judges anew."""
    if not request.for_s:
        return None
    return Override(dict.fromkeys(Direction, Level.CAPTURE), _until(request), request.reason, who)


def _order(guard: Guard, order: Override | None, dry_run: bool, who: str) -> dict[str, Any]:
    if isinstance(guard, OrderedGuard):
        raise Refused(f"{guard.pod}: a controller decides for this pod; ask it")
    wanted: Standing = replace(guard.standing, override=order)
    if dry_run:
        decisions = step(replace(guard.view(), standing=wanted))[1]
        return {"pod": str(guard.pod), "dry_run": True, "plan": _told(guard, decisions)}
    guard.standing = wanted
    decisions = guard.step(who=who)
    return {**_status(guard), "done": _told(guard, decisions)}
