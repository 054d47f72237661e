"""Putting Istio's capture into a namespace exactly as Istio would write it, without Istio (S4.5, I4).

What is equal already is not written again; what is there and different is refused: it has to be cleaned first, because
loading rules beside others gives two captures or none. The routing comes before the rules that send packets there. Each
family goes by one restore text, native tables by one nft transaction (I5); what cannot be completed is taken out again.
The end is verified by looking.
"""

from __future__ import annotations

from dataclasses import dataclass

from hotswitch.capture import clean, routing, unrouting
from hotswitch.capture.inspect import inspect
from hotswitch.capture.reading import Reading, read
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, CommandFailed, run

_HOOKS = ("PREROUTING", "OUTPUT")
_ENDS = frozenset({"ACCEPT", "RETURN", "DROP"})


class ApplyRefused(RuntimeError):
    """Other rules are in the way, and nothing was changed: the sentence says which."""


class ApplyFailed(RuntimeError):
    """It could not be completed, or did not become what was asked for: the sentence says why, and what was undone."""


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """What to run, in order; empty where everything is as asked. `in_the_way`: sentences; nothing may be run then."""

    commands: tuple[Command, ...] = ()
    in_the_way: tuple[str, ...] = ()


def plan(netns: str | None, spec: CaptureSpec, backend: Backend | None = None) -> ApplyPlan:
    """Looks at the namespace and changes nothing. Default backend: what the spec asks for."""
    chosen = spec.backend if backend is None else backend
    reading = read(netns)
    if spec.mode is Interception.NONE:
        return ApplyPlan(in_the_way=_left(reading, spec, netns))
    steps = tuple(unrouting.missing(reading.routing, spec, netns))
    if _rules_equal(netns, spec, chosen):
        return ApplyPlan(steps)
    rules = tuple(command for command in commands(spec, chosen, netns) if command.stdin is not None)
    return ApplyPlan((*steps, *rules), (*_left(reading, spec, netns), *_ended_before(reading, chosen)))


def _rules_equal(netns: str | None, spec: CaptureSpec, backend: Backend) -> bool:
    """Whether the rules are as rendered, whatever the routing lacks."""
    found = inspect(netns, spec)
    return found.backends == (backend,) and not found.rules_differ(spec, backend)


def _left(reading: Reading, spec: CaptureSpec, netns: str | None) -> tuple[str, ...]:
    """Rules of Istio's that are not those of the spec; routing alone is in nobody's way."""
    try:
        rules = [command for command in clean.plan(reading, spec, netns).commands if command.argv[0] != "ip"]
    except clean.CleanError as refused:
        return (str(refused),)
    return tuple(f"rules of Istio's are there already and differ; to clean: {command.argv[0]}" for command in rules)


def _ended_before(reading: Reading, backend: Backend) -> tuple[str, ...]:
    """Istio appends, so a rule without conditions at the end of its way takes every packet from it."""
    found = []
    for place, saved in reading.saved.items():
        for line in saved.lines if place.backend is backend else ():
            if line.at.table == "nat" and line.at.chain in _HOOKS and line.rule.bare and line.rule.goes in _ENDS:
                found.append(f"{place.backend} {line.at}: {line.words}: Istio's rules would stand behind it")
    return tuple(found)


def apply(netns: str | None, spec: CaptureSpec, backend: Backend | None = None) -> tuple[Command, ...]:
    """Put the capture of `spec` into the namespace at `netns` (None: this one); what was run, in order, empty if
    everything was as asked. Raises ApplyRefused, ApplyFailed, and FileNotFoundError when a tool is missing."""
    chosen = spec.backend if backend is None else backend
    todo = plan(netns, spec, chosen)
    if todo.in_the_way:
        raise ApplyRefused("; ".join(dict.fromkeys(todo.in_the_way)))
    done: list[Command] = []
    try:
        for command in todo.commands:
            run(command, check=True)
            done.append(command)
    except CommandFailed as failed:
        raise ApplyFailed(f"{failed}; {_taken_back(netns, spec, done)}") from failed
    lacking = [str(command) for command in unrouting.missing(routing.read(netns), spec, netns)]
    if differences := [*inspect(netns, spec).matches(spec, chosen), *lacking]:
        raise ApplyFailed("; ".join(differences))
    return tuple(done)


def _taken_back(netns: str | None, spec: CaptureSpec, done: list[Command]) -> str:
    """Half a capture is worse than none: one family would pass the proxy and the other would not."""
    if not done:
        return "nothing was changed"
    try:
        clean.clean(netns, spec)
    except (clean.CleanError, CommandFailed) as failed:
        return f"and it could not be undone: {failed}"
    return "what was written has been taken out again"
