"""What people are told of ordered drills: metric, Event, journal; an alert when one failed (S4.4, S4.6, I8).

How a drill went is in its agent's own line, which the pod's worker tells like any other (controller.telling). Here are
the leader's own words: that it ordered one, and what became of one of which no agent tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.api.drills import DrillRecord
from hotswitch.cluster.kinds import PODS
from hotswitch.decide.codes import Code
from hotswitch.decide.drill import workload_of
from hotswitch.model import PodRef
from hotswitch.report.drill_metrics import DrillMetrics
from hotswitch.report.events import Regarding
from hotswitch.report.journal import Entry, entry
from hotswitch.report.notice import Notice, Severity

CODES = {
    "passed": Code.DRILL_PASSED,
    "failed": Code.DRILL_FAILED,
    "interrupted": Code.DRILL_INTERRUPTED,
    "refused": Code.DRILL_REFUSED,
}
About = Callable[[Regarding, str, str], None]


@dataclass(frozen=True, slots=True)
class Words:
    journal: Callable[[Entry], None]
    tell: Callable[[Notice], None]
    about: About
    metrics: DrillMetrics

    def ordered(self, pod: PodRef, record: DrillRecord) -> None:
        evidence = {"order": record.id, "workload": workload_of(pod), "for_s": f"{record.for_s:g}"}
        self.journal(
            entry("drill-ordered", pod, who=record.by, why="one request, the gate, and back", evidence=evidence)
        )

    def ended(self, pod: PodRef, record: DrillRecord, *, by_agent: bool) -> None:
        workload, code = workload_of(pod), CODES.get(record.result, Code.DRILL_FAILED)
        self.metrics.ended(workload, record.result, served=record.served, lost=record.lost)
        if record.result == "passed":
            took = [(each or 0.0) / 1000 for each in (record.open_ms, record.restore_ms)]
            self.metrics.passed(workload, time.time(), *took)
        if not by_agent:
            failed = record.why if code is Code.DRILL_FAILED else ""
            evidence = {"order": record.id, "workload": workload, "result": record.result}
            line = entry("drill", pod, who=record.by, code=code, why=record.why, evidence=evidence, failed=failed)
            self.journal(line)
        if code is not Code.DRILL_FAILED:
            where = Regarding(kind=PODS, namespace=pod.namespace, name=pod.name, uid=pod.uid)
            self.about(where, code, f"drill {record.result}: {record.why}")
        elif not by_agent:
            self.tell(_notice(pod, record))


def _notice(pod: PodRef, record: DrillRecord) -> Notice:
    return Notice(
        key=f"{pod.uid}:{Code.DRILL_FAILED}",
        code=Code.DRILL_FAILED,
        sentence=f"a drill failed: {record.why}",
        severity=Severity.WARNING,
        pod=pod,
        namespace=pod.namespace,
        starts_unix_s=time.time(),
    )
