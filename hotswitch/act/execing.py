"""Actuator `exec`: Istio's own clean-up and set-up commands, run in the pod by exec (S4.3, S4.3b).

Both directions at once, `direct` and back, nothing else: the rules are taken away and written again. So nothing closes
such an opening by itself: the kernel keeps no expiry for it (unlike I1 everywhere else), and the deadline is the
controller's to keep. A policy has to list `exec` before it is used. Exit codes are not believed: the rules are read
back.

The clean-up gets the very arguments of the set-up, as it needs them; which command there is depends on Istio's release.
One that would leave rules is not used at all: capture could not be put back as it was (I4).
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.act import exec_place, helper_container, istio_container, istio_rules
from hotswitch.act.exec_place import Place
from hotswitch.act.helper import Exec, not_running, put
from hotswitch.act.order import Ability, Answer, Order, Outcome, Target, Truth
from hotswitch.capture.fields import SpecError
from hotswitch.capture.istio_commands import IstioCommand, commands
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.capture.spec import CaptureSpec
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.exec import ExecOutcome, Executed, exec_in
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.model import Direction, Level, Opening

LOOK_TIMEOUT_S, ACT_TIMEOUT_S = 5.0, 30.0  # istio-iptables waits up to 30 s for the legacy lock; longer is UNKNOWN
RECONCILE = "--reconcile"
NO_EXPIRY = "nothing closes this by itself: the controller has to, by its deadline"
NO_RESCUE = "Istio's commands only take capture away"
BOTH = dict.fromkeys(Direction, Level.DIRECT)
CAPTURED = dict.fromkeys(Direction, Level.CAPTURE)


class CannotExec(RuntimeError):
    """Why this actuator is of no use for the pod; a sentence."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What could be run, and where."""

    place: Place
    spec: CaptureSpec
    setup: IstioCommand
    cleanup: IstioCommand

    def argv(self, command: IstioCommand, *more: str) -> tuple[str, ...]:
        return (*self.place.prefix, *_with_env(command.env), *command.argv, *more)


def _refusal(target: Target) -> CannotExec | None:
    try:
        ways(target)
    except CannotExec as refusal:
        return refusal
    return None


def _with_env(env: Mapping[str, str]) -> tuple[str, ...]:
    return ("env", *(f"{name}={value}" for name, value in sorted(env.items()))) if env else ()


def ways(target: Target) -> Ways:
    """From the pod's manifest alone. Raises CannotExec."""
    try:
        spec = spec_from_pod(target.manifest)
        place = exec_place.find(target.manifest, spec)
        if isinstance(place, str):
            raise CannotExec(place)
        found = commands(spec, place.version)
    except SpecError as failure:
        raise CannotExec(str(failure)) from failure
    if found.setup is None or not found.cleanups:
        raise CannotExec("interception mode NONE captures nothing, so there is nothing to open")
    if found.cleanups[0].rules:
        left = "; ".join(found.cleanups[0].leaves[:2])
        raise CannotExec(f"the clean-up of Istio {place.version} leaves {left}: capture would not come back as it was")
    if place.bare and (found.setup.env or found.cleanups[0].env):
        raise CannotExec("the command needs variables, and a distroless image has nothing that could set them")
    return Ways(place, spec, found.setup, found.cleanups[0])


class ExecActuator:
    """`own_container`: where no container of the pod has the rights, one of Istio's own image may be put into it."""

    name = "exec"
    ends_by_itself = False
    all_or_nothing = True

    def __init__(self, cluster: Cluster, run: Exec = exec_in, *, own_container: bool = False) -> None:
        self._cluster, self._run, self._own_container = cluster, run, own_container

    async def prepare(self, target: Target) -> str:
        try:
            ways(target)
        except CannotExec as refusal:
            return await self._put(target) if self._own_container else str(refusal)
        return ""

    async def _put(self, target: Target) -> str:
        found = helper_container.find(target.manifest)
        if found is not None:
            return not_running(found) if found.ended or not found.running else str(_refusal(target))
        try:
            return await put(self._cluster, target, istio_container.patch(target))
        except SpecError as failure:
            return f"no container of Istio's image can be made: {failure}"

    async def ability(self, target: Target) -> Ability:
        try:
            found = ways(target)
            await self._same_pod(target)
            truth = await self._truth(target, found)
        except CannotExec as refusal:
            return Ability(actuator=self.name, refusal=str(refusal))
        return Ability(
            actuator=self.name,
            levels=dict.fromkeys(Direction, frozenset({Level.DIRECT})),
            rescue_refusal=NO_RESCUE,
            truth=truth,
        )

    async def _same_pod(self, target: Target) -> None:
        """exec names no uid: another pod may have the name by now. Raises CannotExec (I6)."""
        try:
            pod = await self._cluster.get(PODS, target.pod.namespace, target.pod.name)
        except ApiFailure as failure:
            raise CannotExec(f"the pod cannot be read: {failure}") from failure
        if (pod.get("metadata") or {}).get("uid") != target.pod.uid:
            raise CannotExec("another pod has this name now")

    async def _truth(self, target: Target, found: Ways) -> Truth:
        """Raises CannotExec: it cannot be read."""
        outputs = {}
        for what, argv in istio_rules.commands(found.spec).items():
            done = await self._exec(target, found, (*found.place.prefix, *argv), LOOK_TIMEOUT_S)
            if not done.succeeded:
                raise CannotExec(f"Istio's rules cannot be read in {found.place.container}: {_words(done)}")
            outputs[what] = done.stdout.decode("utf-8", "replace")
        try:
            return istio_rules.truth(istio_rules.read(outputs, found.spec))
        except ValueError as failure:
            raise CannotExec(f"Istio's rules cannot be read: {failure}") from failure

    async def _exec(self, target: Target, found: Ways, argv: tuple[str, ...], timeout_s: float) -> Executed:
        pod = target.pod
        return await self._run(self._cluster, pod.namespace, pod.name, found.place.container, argv, None, timeout_s)

    # ---- acting ----

    async def carry_out(self, target: Target, order: Order) -> Answer:
        if order.drill is not None:
            return Answer(outcome=Outcome.REFUSED, sentence=f"a drill uses the rescue alone, and {NO_RESCUE}")
        wanted = _wanted(order.openings)
        if wanted is None:
            return Answer(
                outcome=Outcome.REFUSED, sentence="exec opens both directions as `direct`, all ports, or none"
            )
        started_s = asyncio.get_running_loop().time()
        try:
            found = ways(target)
            await self._same_pod(target)
            before = await self._truth(target, found)
        except CannotExec as refusal:
            return Answer(outcome=Outcome.FAILED, sentence=str(refusal))
        if before.levels == wanted and (wanted == BOTH or before.istio_complete):
            return Answer(outcome=Outcome.DONE, sentence="it was so before", truth=before)
        done = await self._change(target, found, opens=wanted == BOTH)
        took_ms = (asyncio.get_running_loop().time() - started_s) * 1000
        return await self._judged(target, found, (before, wanted), done, {"exec_ms": round(took_ms, 3)})

    async def _change(self, target: Target, found: Ways, *, opens: bool) -> Executed:
        """A set-up over what a clean-up left fails on the chains; from 1.24 on Istio can take those away first."""
        if opens:
            return await self._exec(target, found, found.argv(found.cleanup), ACT_TIMEOUT_S)
        done = await self._exec(target, found, found.argv(found.setup), ACT_TIMEOUT_S)
        if done.outcome is ExecOutcome.EXITED and done.code != 0 and found.place.version.at_least(1, 24):
            return await self._exec(target, found, found.argv(found.setup, RECONCILE), ACT_TIMEOUT_S)
        return done

    async def _judged(
        self,
        target: Target,
        found: Ways,
        way: tuple[Truth, Mapping[Direction, Level]],
        done: Executed,
        took: dict[str, float],
    ) -> Answer:
        """By what the kernel shows now. A command that may still be running is never taken for one that has ended, and
        one that stopped half-way has not failed without a trace. `way`: whence and whereto."""
        before, wanted = way
        if done.outcome in (ExecOutcome.REFUSED, ExecOutcome.NOT_STARTED):
            return Answer(outcome=Outcome.FAILED, sentence=_words(done), durations_ms=took)
        try:
            truth = await self._truth(target, found)
        except CannotExec as refusal:
            return Answer(outcome=Outcome.UNKNOWN, sentence=f"{_words(done)}; {refusal}", durations_ms=took)
        reached = truth.levels == wanted and (wanted == BOTH or truth.istio_complete)
        if reached:
            sentence = NO_EXPIRY if wanted == BOTH else "Istio's rules are back"
            return Answer(outcome=Outcome.DONE, sentence=sentence, truth=truth, durations_ms=took)
        ended = done.outcome is ExecOutcome.EXITED and truth == before
        outcome = Outcome.FAILED if ended else Outcome.UNKNOWN
        levels = ", ".join(f"{way} {level}" for way, level in truth.levels.items())
        left = "" if truth.istio_complete else ", Istio's rules are incomplete"
        sentence = f"{_words(done)}; the rules say {levels}{left}"
        return Answer(outcome=outcome, sentence=sentence, truth=truth, durations_ms=took)

    def plan(self, target: Target, order: Order) -> list[str]:
        wanted = _wanted(order.openings)
        try:
            found = ways(target)
        except CannotExec as refusal:
            return [f"nothing: {refusal}"]
        if wanted is None:
            return ["nothing: exec opens both directions as `direct`, all ports, or none"]
        command = found.cleanup if wanted == BOTH else found.setup
        pod, argv = target.pod, found.argv(command)
        kubectl = ("kubectl", "exec", "-n", pod.namespace, pod.name, "-c", found.place.container, "--", *argv)
        leaves = [f"# it leaves: {sentence}" for sentence in command.leaves]
        return [shlex.join(kubectl), *leaves, *([f"# {NO_EXPIRY}"] if wanted == BOTH else [])]


def _wanted(openings: Mapping[Direction, Opening]) -> dict[Direction, Level] | None:
    """None: it is neither all nor nothing."""
    open_levels = {way: opening for way, opening in openings.items() if _opens(opening)}
    if not open_levels:
        return CAPTURED
    all_direct = all(opening.level is Level.DIRECT and not opening.ports for opening in open_levels.values())
    return BOTH if all_direct and set(open_levels) == set(Direction) else None


def _opens(opening: Opening) -> bool:
    return bool({opening.level, *opening.ports.values()} & {Level.DIRECT, Level.RESCUE})


def _words(done: Executed) -> str:
    said = done.stderr.decode("utf-8", "replace").strip()
    return f"{done.sentence}: {said[-300:]}" if said else done.sentence
