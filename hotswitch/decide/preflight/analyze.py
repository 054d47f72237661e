"""Many pods' preflights in few lines, for `kubectl hotswitch analyze` (I8): what is said of whom, by code and by cause.

A mesh of a thousand pods has a dozen causes. So findings that differ only in the pod are one concern, which counts its
pods and names their workloads; refusals come first, and those that hit most pods before others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hotswitch.decide.preflight.codes import Code
from hotswitch.decide.preflight.preflight import preflight
from hotswitch.decide.preflight.result import Finding, Preflight, Verdict
from hotswitch.mesh import MeshPod, MeshView
from hotswitch.mesh.objects import Ref
from hotswitch.model import OPEN_LEVELS, Direction, Level

_ORDER = {Verdict.REFUSE: 0, Verdict.DEGRADED: 1, Verdict.ALLOW: 2}
Way = tuple[Direction, Level]
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Concern:
    """`sentence` is the first pod's; `object` None: the pods themselves are the cause. `levels` empty: nothing is
    taken."""

    code: Code
    verdict: Verdict
    direction: Direction
    levels: frozenset[Level]
    object: Ref | None
    sentence: str
    pods: int
    workloads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """`usable`: for how many of the `pods` a level may be used, on one port at least."""

    pods: int
    usable: Mapping[Way, int]
    concerns: tuple[Concern, ...]

    def of(self, code: Code) -> tuple[Concern, ...]:
        return tuple(concern for concern in self.concerns if concern.code is code)


def analyze(
    mesh: MeshView, pods: Iterable[MeshPod], accepted: Callable[[MeshPod], frozenset[str]] = lambda _: frozenset()
) -> Analysis:
    """`accepted`: the codes that the mesh's administrators accept for a pod."""
    found = [(pod, preflight(mesh, pod, accepted(pod))) for pod in pods]
    return Analysis(len(found), _usable(found), tuple(sorted(_concerns(found), key=_urgency)))


def _usable(found: Iterable[tuple[MeshPod, Preflight]]) -> dict[Way, int]:
    ways = [(direction, level) for direction in Direction for level in sorted(OPEN_LEVELS)]
    answers = [preflight for _, preflight in found]
    return {way: sum(answer.allows(*way) for answer in answers) for way in ways}


def _concerns(found: Iterable[tuple[MeshPod, Preflight]]) -> Iterable[Concern]:
    groups: dict[tuple[Code, Verdict, Direction, Ref | None], dict[_Key, list[Finding]]] = defaultdict(dict)
    workloads: dict[_Key, str] = {}
    for pod, answer in found:
        key = (pod.namespace, pod.name)
        workloads[key] = f"{pod.namespace}/{pod.workload or pod.name}"
        for finding in answer.findings:
            group = groups[finding.code, finding.verdict, finding.direction, finding.object]
            group.setdefault(key, []).append(finding)
    for (code, verdict, direction, ref), members in groups.items():
        every = [finding for findings in members.values() for finding in findings]
        yield Concern(
            code=code,
            verdict=verdict,
            direction=direction,
            levels=_taken(every, verdict),
            object=ref,
            sentence=every[0].sentence,
            pods=len(members),
            workloads=tuple(sorted({workloads[key] for key in members})),
        )


def _taken(findings: Iterable[Finding], verdict: Verdict) -> frozenset[Level]:
    if verdict is not Verdict.REFUSE:
        return frozenset()
    return frozenset(level for finding in findings for level in ([finding.level] if finding.level else OPEN_LEVELS))


def _urgency(concern: Concern) -> tuple[int, int, str, str, str]:
    return (_ORDER[concern.verdict], -concern.pods, concern.code, concern.direction, str(concern.object or ""))
