"""From what was decided and done to words: journal, Event, alert, metric (S4.6, I8). Nothing here waits for anybody.

A matter is one pod and one code. It is told when it begins and when it ends; what was told is in the pod's status, so
that another controller can tell the end of what this one began.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hotswitch.act.order import Answer, Order, Outcome, Truth
from hotswitch.api.names import HELPER_CONTAINER
from hotswitch.api.status import PodStatus
from hotswitch.controller import carried
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.memory import unix_s
from hotswitch.controller.seen import SeenPod
from hotswitch.decide.codes import MEANING, Code
from hotswitch.decide.damping import in_episode
from hotswitch.model import Act, Decision, Generation, PodRef, Standing
from hotswitch.report.conditions import condition
from hotswitch.report.journal import Entry, entry
from hotswitch.report.notice import Notice, Severity

if TYPE_CHECKING:
    from hotswitch.controller.turn import Turn

HELPER = "helper"
LATE_AT_MOST_S = 86400.0  # so long after its act a line may be heard
UNREADABLE, API_FAILED, ACT_FAILED = "HSC001", "HSC002", "HSC003"
_SEVERITY = {Act.PAGE: Severity.CRITICAL, Act.OPEN: Severity.WARNING, Act.HOLD: Severity.WARNING}
_CODE = re.compile(r"HS[A-Z]\d+")
_ENDS_NOTHING = frozenset({Act.RENEW, Act.CUT, Act.CLOSE})


class Teller:
    def __init__(self, means: Means) -> None:
        self._means = means
        self._raised: set[str] = set()  # matters beside the decider's, since the last look at them

    # ---- acts ----

    def acted(
        self, pod: SeenPod, turn: Turn, order: Order, answer: Answer, took_s: float, *, is_told: bool = False
    ) -> None:
        """`is_told`: people know of the act by a part of it that came before."""
        done = answer.outcome is Outcome.DONE
        for each in turn.acts:
            self._means.journal(
                entry(
                    str(each.act),
                    pod.ref,
                    who=order.who,
                    generation=int(order.generation),
                    code=each.code,
                    why=each.sentence,
                    evidence=each.evidence,
                    rules_before=_levels(turn.before),
                    rules_after=_levels(turn.after) if done else "",
                    istio_rules=answer.truth.istio_rules if answer.truth else "",
                    durations_ms={"act_ms": round(took_s * 1000, 1), **answer.durations_ms},
                    failed="" if done else f"{answer.outcome}: {answer.sentence}",
                )
            )
            if done and not is_told:
                self._notice(pod, each, turn)
        self._count(turn, answer, took_s)
        if not done:
            self.failed(pod, order, f"{answer.outcome}: {answer.sentence}", turn.protection)

    def concluded(self, pod: SeenPod, turn: Turn, who: str, found: Truth) -> None:
        """An act was carried out whose answer nobody has heard."""
        for each in turn.acts:
            line = entry(
                str(each.act),
                pod.ref,
                who=who,
                generation=int(each.generation),
                code=each.code,
                why=each.sentence,
                evidence=each.evidence,
                rules_before=_levels(turn.before),
                rules_after=_levels(turn.after),
                istio_rules=found.istio_rules,
            )
            self._means.journal(line)
            self._notice(pod, each, turn)
            self._means.metrics.decided(each.code)
        if turn.closes and turn.before.opened_s is not None:
            self._means.metrics.restored(turn.acts[0].code, max(0.0, turn.now_s - turn.before.opened_s))

    def again(self, pod: SeenPod, status: PodStatus, protection: Protection) -> None:
        """What a predecessor told and may have been killed before anybody heard it. Said twice it is said once, because
        it began at the same instant."""
        for code, at, sentence in carried.told_lately(status, self._now_s()):
            act = Act.PAGE if code.startswith("HSD03") else carried.ACT_OF.get(code, Act.HOLD)
            severity = Severity.WARNING if code in status.alerts else Severity.INFO
            severity = _SEVERITY.get(act, severity)
            self._tell(pod, code, sentence, severity, protection, at_unix_s=unix_s(at))

    def left(self, pod: SeenPod, order: Order, answer: Answer) -> None:
        """A pod that is no longer in the mesh was closed, or could not be."""
        failed = "" if answer.outcome is Outcome.DONE else f"{answer.outcome}: {answer.sentence}"
        generation = int(order.generation)
        line = entry("close", pod.ref, generation=generation, code=order.code, why=order.reason, failed=failed)
        self._means.journal(line)

    def failed(self, pod: SeenPod, order: Order | None, why: str, protection: Protection) -> None:
        """An act, or a step beside the gate, could not be done; it will be tried again."""
        sentence = f"{order.code}: {why}" if order is not None else why
        self._means.journal(entry("failed", pod.ref, code=ACT_FAILED, failed=sentence))
        self._tell(pod, ACT_FAILED, sentence, Severity.WARNING, protection)

    def _count(self, turn: Turn, answer: Answer, took_s: float) -> None:
        metrics, opened_s = self._means.metrics, turn.before.opened_s
        metrics.acted(turn.actuator.name if turn.actuator else "", str(answer.outcome), took_s)
        for each in turn.acts:
            metrics.decided(each.code)
        if turn.closes and opened_s is not None:
            metrics.restored(turn.acts[0].code, turn.now_s - opened_s)
        if opened_s is None and turn.after.opened_s is not None and turn.seen_since_s is not None:
            metrics.detected(str(turn.after.fault), max(0.0, turn.now_s - turn.seen_since_s))

    def decided(self, pod: SeenPod, decision: Decision) -> None:
        """HOLD and PAGE: nothing is done in the kernel, people are `told`."""
        line = entry(
            str(decision.act),
            pod.ref,
            generation=int(decision.generation),
            code=decision.code,
            why=decision.sentence,
            evidence=decision.evidence,
        )
        self._means.journal(line)
        self._means.metrics.decided(decision.code)
        for why in decision.evidence.values() if decision.act is Act.HOLD else ():
            if code := _CODE.match(why):
                self._means.metrics.refused(code[0])

    def told(self, pod: SeenPod, decision: Decision, turn: Turn) -> None:
        self._notice(pod, decision, turn)

    def reported(self, pod: SeenPod, line: Entry, turn: Turn) -> None:
        """What an agent did, or could not do."""
        self._means.journal(line)
        decision = decision_of(pod.ref, line)
        if line.failed and line.code == Code.DRILL_FAILED:  # nothing is wrong yet, but would be at the next fault
            self._tell(pod, line.code, f"a drill failed: {line.failed}", Severity.WARNING, turn.protection)
        elif line.failed:
            self._tell(pod, ACT_FAILED, f"{line.code or line.event}: {line.failed}", Severity.WARNING, turn.protection)
        if decision is None:
            return
        metrics = self._means.metrics
        metrics.decided(decision.code)
        if decision.act in (Act.OPEN, Act.CLOSE):
            metrics.acted("agent", "done", sum(line.durations_ms.values()) / 1000)
        if decision.act is Act.CLOSE and turn.before.opened_s is not None:
            metrics.restored(decision.code, max(0.0, turn.now_s - turn.before.opened_s))
        self._notice(pod, decision, turn)

    def _kept(self, pod: SeenPod, turn: Turn) -> str:
        """Where the fault's evidence is: beside the proxy, who keeps it before the container is replaced (S4.7)."""
        if turn.actuator is None or turn.actuator.name != HELPER:
            return ""
        where = f"-n {pod.ref.namespace} {pod.ref.name} -c {HELPER_CONTAINER}"
        return f"kubectl exec {where} -- hotswitch evidence"

    def _notice(self, pod: SeenPod, decision: Decision, turn: Turn) -> None:
        protection, kept = turn.protection, self._kept(pod, turn) if decision.act is Act.OPEN else ""
        severity = _SEVERITY.get(decision.act, Severity.INFO)
        refused = {f"not {way} {level}": why for (way, level), why in protection.refusals.items()}
        evidence = {**decision.evidence, **refused} if severity is not Severity.INFO else decision.evidence
        more = [f"{name}: {why}" for name, why in refused.items()] + ([f"evidence: {kept}"] if kept else [])
        sentence = "; ".join([decision.sentence, *more])
        self._tell(pod, decision.code, sentence, severity, protection, evidence, unix_s(turn.at_of(decision.code)))

    def _tell(
        self,
        pod: SeenPod,
        code: str,
        sentence: str,
        severity: Severity,
        protection: Protection | None,
        evidence: Mapping[str, str] | None = None,
        at_unix_s: float | None = None,
    ) -> None:
        if code in (UNREADABLE, ACT_FAILED, Code.DRILL_FAILED):
            self._raised.add(code)
        self._means.tell(
            Notice(
                key=f"{pod.ref.uid}:{code}",
                code=code,
                sentence=sentence,
                severity=severity,
                pod=pod.ref,
                namespace=pod.ref.namespace,
                starts_unix_s=self._now_s() if at_unix_s is None else at_unix_s,
                labels=protection.alert_labels if protection else {},
                evidence=evidence or {},
                receivers=protection.receivers if protection else (),
            )
        )

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() + self._means.shift_s()

    # ---- matters: what was told and has not ended ----

    def matters(self, pod: SeenPod, page: PodStatus, stands: Standing, turn: Turn) -> dict[str, str]:
        """Code -> since when. They end when nothing is wrong any longer, and nothing is left to be done."""
        known, raised = dict(page.alerts), sorted(self._raised)
        self._raised.clear()
        for code in (*(each.code for each in turn.decisions if each.act not in _ENDS_NOTHING), *raised):
            known.setdefault(code, turn.at_of(code))
        if stands.is_open or in_episode(stands) or stands.said or page.under_way or page.tls_mode_before is not None:
            return known
        for code, since in known.items():
            self._means.tell(ended(pod.ref, code, since, turn.now_s + turn.shift_s, turn.protection))
        return {}

    def pod_gone(self, pod: PodRef, matters: Mapping[str, str]) -> None:
        for code, since in matters.items():
            self._means.tell(ended(pod, code, since, self._now_s(), None))

    # ---- what is seen, and what goes wrong ----

    def unreadable(self, pod: SeenPod, why: str) -> None:
        sentence = f"{why}; what stands is read from the pod itself"
        self._means.journal(entry("unreadable", pod.ref, code=UNREADABLE, failed=sentence))
        self._tell(pod, UNREADABLE, sentence, Severity.WARNING, None)

    def api_failed(self, pod: PodRef, failure: Exception) -> None:
        self._means.journal(entry("api", pod, code=API_FAILED, failed=str(failure)))
        self._means.metrics.api_failed("patch", getattr(failure, "status", 409))

    def condition(self, pod: SeenPod, page: PodStatus, known: bool) -> Mapping[str, Any]:
        now_s = self._now_s()
        return condition(
            page.levels, code=page.code, sentence=page.why, at_unix_s=now_s, known=known, before=pod.condition
        )


def decision_of(pod: PodRef, line: Entry) -> Decision | None:
    """What an agent's line tells of; None: no act, or one that failed."""
    if line.failed or line.event not in set(Act):
        return None
    act, generation = Act(line.event), Generation(line.generation)
    return Decision(act, pod, generation, line.code, line.why, evidence=line.evidence)


def instants(lines: Iterable[Entry], now_unix_s: float) -> dict[str, str]:
    """Code -> when, as whoever wrote the lines says: it is the same whoever tells of them. What a wrong clock says is
    left out."""
    found = {}
    for line in lines:
        with contextlib.suppress(ValueError):
            if 0.0 <= now_unix_s - unix_s(line.at) <= LATE_AT_MOST_S:
                found[line.code] = line.at
    return found


def ended(pod: PodRef, code: str, since: str, now_unix_s: float, protection: Protection | None) -> Notice:
    return Notice(
        key=f"{pod.uid}:{code}",
        code=code,
        sentence=f"ended: {MEANING[Code(code)] if code in set(Code) else code}",
        severity=Severity.INFO,
        pod=pod,
        namespace=pod.namespace,
        starts_unix_s=datetime.fromisoformat(since).timestamp() if since else now_unix_s,
        ends_unix_s=now_unix_s,
        labels=protection.alert_labels if protection else {},
        receivers=protection.receivers if protection else (),
    )


def _levels(standing: Standing) -> str:
    return ", ".join(f"{way} {level}" for way, level in standing.levels.items())
