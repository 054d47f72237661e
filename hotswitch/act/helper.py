"""Actuator `helper`: orders for hotswitch's own helper container in the pod, by exec (S4.2, S4.3, I4, I6).

The helper is put into the pod beforehand, once: an ephemeral container cannot be removed or started again, so there is
never a second one, and one that has ended makes this actuator useless for the pod's life. A lost connection is no
success: the truth is read back, and the same order may be sent again, because the helper carries each out once.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import msgspec

from hotswitch.act import helper_container
from hotswitch.act.order import Ability, Answer, Order, Outcome, Target, Truth
from hotswitch.api.names import HELPER_CONTAINER
from hotswitch.api.orders import AnswerText, OrderText, TruthText, diagnosis_of, order_text
from hotswitch.capture.fields import SpecError
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.exec import ExecOutcome, Executed, exec_in
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.model import Direction, Generation, Level, Opening

LOOK_TIMEOUT_S, ORDER_TIMEOUT_S = 5.0, 10.0
TRUTH, ORDER = ("hotswitch", "truth"), ("hotswitch", "order")
BEING_STARTED = "the helper is being started"


class Exec(Protocol):
    """cluster.exec.exec_in, or something like it."""

    def __call__(
        self, cluster: Cluster, namespace: str, pod: str, container: str, argv: tuple[str, ...], stdin: bytes | None,
        timeout_s: float,
    ) -> Awaitable[Executed]: ...  # fmt: skip


async def put(cluster: Cluster, target: Target, body: Mapping[str, Any]) -> str:
    """Have the API server add the ephemeral container of `body`; a sentence on what is missing then."""
    try:
        await cluster.patch_strategic(PODS, target.pod.namespace, target.pod.name, body, "ephemeralcontainers")
    except ApiFailure as failure:
        if failure.is_lost:
            return f"whether the helper was put into the pod is not known: {failure.message}"
        if failure.status == 422 and "may not be changed" in failure.message:
            return BEING_STARTED  # it has one already, and our look at the pod is from before
        why = (failure.message or failure.reason).partition("\n")[0][:300]  # a real server adds a whole diff
        return f"the API server does not take the helper: {why}"
    return BEING_STARTED


class HelperActuator:
    """`image`: hotswitch's own, with nft, conntrack and Envoy in it."""

    name = "helper"
    ends_by_itself = True
    all_or_nothing = False

    def __init__(self, cluster: Cluster, image: str, run: Exec = exec_in) -> None:
        self._cluster, self._image, self._run = cluster, image, run

    # ---- before a fault ----

    async def prepare(self, target: Target) -> str:
        found = helper_container.find(target.manifest)
        if found is not None:
            return "" if found.running else not_running(found)
        try:
            body = helper_container.patch(target, self._image)
        except SpecError as failure:
            return f"the helper cannot be told what to guard: {failure}"
        return await put(self._cluster, target, body)

    # ---- looking ----

    async def ability(self, target: Target) -> Ability:
        found = helper_container.find(target.manifest)
        if found is None:
            return Ability(actuator=self.name, refusal="there is no helper in the pod yet")
        if not found.running:
            return Ability(actuator=self.name, refusal=not_running(found))
        text = await self._truth(target)
        if isinstance(text, str):
            return Ability(actuator=self.name, refusal=text)
        return Ability(
            actuator=self.name,
            levels={} if text.refusal else dict.fromkeys(Direction, _levels(text)),
            refusal=text.refusal,
            rescue_refusal=text.rescue_refusal,
            rescue_deaths=text.rescue_deaths,
            truth=truth_of(text),
        )

    async def _truth(self, target: Target) -> TruthText | str:
        """Or a sentence on why there is none."""
        done = await self._exec(target, TRUTH, None, LOOK_TIMEOUT_S)
        if not done.succeeded:
            return f"the helper cannot be asked: {_words(done)}"
        try:
            text = msgspec.json.decode(done.stdout, type=TruthText)
        except msgspec.MsgspecError as failure:
            return f"the helper's answer cannot be read: {failure}"
        return text if text.uid == target.pod.uid else "another pod has this name now"

    async def _exec(self, target: Target, argv: tuple[str, ...], stdin: bytes | None, timeout_s: float) -> Executed:
        pod = target.pod
        return await self._run(self._cluster, pod.namespace, pod.name, HELPER_CONTAINER, argv, stdin, timeout_s)

    # ---- acting ----

    async def carry_out(self, target: Target, order: Order) -> Answer:
        started_s = asyncio.get_running_loop().time()
        text = _text(target, order)
        done = await self._exec(target, ORDER, msgspec.json.encode(text), ORDER_TIMEOUT_S)
        took_ms = (asyncio.get_running_loop().time() - started_s) * 1000
        if done.outcome in (ExecOutcome.REFUSED, ExecOutcome.NOT_STARTED):
            return Answer(outcome=Outcome.FAILED, sentence=f"the order did not reach the helper: {done.sentence}")
        if done.succeeded:
            try:
                answer = msgspec.json.decode(done.stdout, type=AnswerText)
            except msgspec.MsgspecError as failure:
                return await self._read_back(target, order, f"the helper's answer cannot be read: {failure}")
            return _answer(answer, took_ms)
        return await self._read_back(target, order, _words(done))

    async def _read_back(self, target: Target, order: Order, why: str) -> Answer:
        """The order may have arrived, or be on its way: only what the kernel shows counts."""
        text = await self._truth(target)
        if isinstance(text, str):
            return Answer(outcome=Outcome.UNKNOWN, sentence=f"{why}; {text}")
        if order.drill is None and text.generation >= order.generation and shows(text, order.openings):
            return Answer(outcome=Outcome.DONE, sentence=f"{why}; the kernel shows it", truth=truth_of(text))
        return Answer(outcome=Outcome.UNKNOWN, sentence=why, truth=truth_of(text))

    def plan(self, target: Target, order: Order) -> list[str]:
        words = msgspec.json.format(msgspec.json.encode(_text(target, order)), indent=1).decode()
        pod = target.pod
        argv = ("kubectl", "exec", "-i", "-n", pod.namespace, pod.name, "-c", HELPER_CONTAINER, "--", *ORDER)
        command = f"{shlex.join(argv)} <<'EOF'\n{words}\nEOF"
        return [command] if helper_container.find(target.manifest) else [*self._plan_of_helper(target), command]

    def _plan_of_helper(self, target: Target) -> list[str]:
        try:
            body = helper_container.patch(target, self._image)
        except SpecError as failure:
            return [f"the helper cannot be told what to guard: {failure}"]
        path = PODS.path(target.pod.namespace, target.pod.name, "ephemeralcontainers")
        return [f"PATCH {path}\n{msgspec.json.format(msgspec.json.encode(body), indent=1).decode()}"]


# ---- words ----


def not_running(found: helper_container.Found) -> str:
    if found.ended:
        return f"the helper of this pod has ended ({found.ended}), and an ephemeral container never starts again"
    return f"{BEING_STARTED}: {found.waiting}" if found.waiting else BEING_STARTED


def _words(done: Executed) -> str:
    said = done.stderr.decode("utf-8", "replace").strip()
    return f"{done.sentence}: {said[-300:]}" if said else done.sentence


def _levels(text: TruthText) -> frozenset[Level]:
    return frozenset({Level.DIRECT} if text.rescue_refusal else {Level.DIRECT, Level.RESCUE})


def _text(target: Target, order: Order) -> OrderText:
    return order_text(
        uid=target.pod.uid,
        generation=order.generation,
        openings=dict(order.openings),
        policy=target.policy,
        authorization=target.authorization,
        expiry_s=order.expiry_s,
        code=order.code,
        reason=order.reason,
        who=order.who,
        cut=order.cut,
        drill=order.drill,
    )


def shows(text: TruthText, openings: Mapping[Direction, Opening]) -> bool:
    """Are the levels those of the order, as far as one word for each direction tells?"""
    wanted = {way: openings.get(way, Opening(Level.CAPTURE)) for way in Direction}
    return all(_is(text.levels.get(way, Level.CAPTURE), opening) for way, opening in wanted.items())


def _is(shown: Level, wanted: Opening) -> bool:
    levels = {wanted.level, *wanted.ports.values()} & {Level.RESCUE, Level.DIRECT}
    return shown in levels if levels else shown not in (Level.RESCUE, Level.DIRECT)


def truth_of(text: TruthText) -> Truth:
    now_s = asyncio.get_running_loop().time()
    return Truth(
        levels=text.levels,
        generation=Generation(text.generation),
        expires_in_s=text.expires_in_s,
        istio_rules=text.istio_rules,
        istio_complete=text.istio_complete,
        diagnosis=diagnosis_of(text.diagnosis, now_s) if text.diagnosis else None,
        identity_expires_in_s=text.identity_expires_in_s,
        path_passes=text.path_passes,
        drilled=text.drilled,
    )


def _answer(text: AnswerText, took_ms: float) -> Answer:
    known = {str(each): each for each in Outcome}
    return Answer(
        outcome=known.get(text.outcome, Outcome.UNKNOWN),
        sentence=text.sentence,
        truth=truth_of(text.truth) if text.truth else None,
        durations_ms={**text.durations_ms, "exec_ms": round(took_ms, 3)},
    )
