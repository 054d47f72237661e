"""May a pod be drilled now, and whose turn is it? A fallback that nobody exercises fails when it is needed (S4.4).

A drill leads the new flows of a pod that is well to its rescue for some seconds, and back. It gives nothing away, for
it uses no level but the rescue and obeys every check that a switch does; and it is more careful than a switch, because
nobody needs it now (I2, I3): one pod of a workload at a time, none while anything is wrong or open around it, none soon
after a fault. One canary of each workload is taken in turn, at intervals that are spread, so that no two agents or
workloads fall into step. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from hotswitch.decide.damping import in_episode
from hotswitch.model import Diagnosis, Fault, Level, Mode, PodRef, View


@dataclass(frozen=True, slots=True)
class Schedule:
    """`jitter`: by which share of the interval a turn may come earlier or later."""

    every_s: float
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """`refusal`: why this pod may not be drilled now. `last_s`: when it was drilled last; None: never."""

    pod: PodRef
    refusal: str
    last_s: float | None = None


def workload_of(pod: PodRef) -> str:
    """Of whom one pod at a time is drilled; a pod without an owner stands for itself."""
    return f"{pod.namespace}/{pod.workload or pod.name}"


def first_s(schedule: Schedule, workload: str, start_s: float) -> float:
    """Somewhere within the first interval, so that a restart does not drill everybody at once."""
    return start_s + schedule.every_s * _share(workload)


def next_s(schedule: Schedule, workload: str, last_s: float) -> float:
    """The same last drill gives the same next one, whoever asks."""
    shift = 2.0 * _share(f"{workload} {last_s:.3f}") - 1.0
    return last_s + schedule.every_s * (1.0 + schedule.jitter * shift)


def turn_s(schedule: Schedule, workload: str, after_s: float) -> float:
    """Its first turn after an instant. Turns lie at fixed places in time, so that a change of leaders moves none."""
    place_s = schedule.every_s * _share(workload)
    return after_s + (place_s - after_s) % schedule.every_s


def overdue_s(schedule: Schedule, since_s: float) -> float:
    """Without a success by then people are told. `since_s`: the last success, or when the schedule began."""
    return since_s + schedule.every_s * (2.0 + schedule.jitter)


def _share(words: str) -> float:
    return zlib.crc32(words.encode()) / 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """What a leader knows beside the pod. `cautious`: places of the leader before may be in use that it cannot see.
    `frozen`: why nothing may be opened. `open`: a pod that is open, or under a drill; `sick`: how many look ill."""

    cautious: bool = False
    frozen: str = ""
    open: str = ""
    sick: int = 0


def mesh_refusal(mesh: Mesh) -> str:
    """Why nobody may be drilled now: a sentence, or nothing. Drills are for quiet days (I3)."""
    if mesh.cautious:
        return "the leader is new, and does not know yet what the one before has given"
    if mesh.frozen:
        return f"nothing may be opened: {mesh.frozen}"
    if mesh.open:
        return f"{mesh.open} is open"
    return f"{mesh.sick} pods look sick" if mesh.sick else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Of a drill under way. `told`: its agent told how it ended. `is_there`: an agent of the pod is connected;
    `is_another`: not the process that was given the order, nor one that goes on with its memory. `ours`: ordered by
    this leader. `overdue`: it should have been told by now."""

    told: bool
    is_there: bool
    is_another: bool
    ours: bool
    overdue: bool


def unheard(heard: Heard) -> tuple[str, str] | None:
    """Result and why of a drill of which nobody tells any longer; None: it may still be told. The gate is closed by
    then: the kernel was given no more than the drill's time (I1)."""
    if heard.told:
        return None
    if heard.ours and heard.is_there and heard.is_another:
        return "failed", "its agent ended in the midst of it; another one is there now"
    if not heard.overdue:
        return None
    if heard.is_there and not heard.ours:
        return "interrupted", "the leader changed, and the agent knows nothing of the order"
    return "failed", "nobody told how it ended" + ("" if heard.is_there else ": its agent is gone")


def canary(candidates: Iterable[Candidate]) -> Candidate | None:
    """Of one workload's pods that may be drilled, the one whose last drill is longest ago; by name where none was."""
    able = [each for each in candidates if not each.refusal]
    return min(able, key=lambda each: (each.last_s is not None, each.last_s or 0.0, str(each.pod)), default=None)


def refusal(view: View, diagnosis: Diagnosis) -> str:
    """Why this pod may not be drilled now: a sentence, or nothing. `diagnosis`: what is seen of it now."""
    return _of_policy(view) or _of_pod(view, diagnosis) or _of_rescue(view) or _of_surroundings(view)


def _of_policy(view: View) -> str:
    if view.policy.mode is not Mode.AUTO:
        return f"the mode is {view.policy.mode}: nothing is opened here"
    if Level.RESCUE not in view.policy.inbound:
        return "what the settings and the preflight leave does not list the rescue inbound"
    return ""


def _of_pod(view: View, diagnosis: Diagnosis) -> str:
    standing = view.standing
    if diagnosis.fault is not Fault.WELL:
        return f"the pod is not well: {diagnosis.sentence}"
    if standing.override is not None:
        return f"an order of {standing.override.by} stands: {standing.override.reason}"
    if standing.is_open or in_episode(standing):
        return "the pod is bypassed, or has not recovered yet"
    ended_s = view.now_s - max(standing.recent_faults_s, default=float("-inf"))
    if view.now_s < standing.hold_down_until_s or ended_s < view.policy.hold_down_s:
        return "its proxy failed a short while ago: the hold-down runs"
    return ""


def _of_rescue(view: View) -> str:
    able, left_s = view.capabilities, view.facts.identity_expires_in_s
    if not able.gate:
        return f"the gate cannot be used: {able.gate_refusal}"
    if not able.rescue:
        return f"no rescue: {able.rescue_refusal}"
    if able.rescue_deaths:
        return "the rescue died within the hold-down"
    if left_s is None or not left_s > 0:
        return "no identity of this pod that has not expired is held"
    return ""


def _of_surroundings(view: View) -> str:
    around = view.surroundings
    if around.open_of_workload or any(age_s < view.policy.hold_down_s for age_s in around.workload_fault_ages_s):
        return "another pod of the workload is bypassed, or failed a short while ago"
    if around.faulty_on_node:
        return "another pod beside it looks sick"
    full = (
        around.open_on_node >= around.node_budget
        or around.open_of_workload >= around.workload_budget
        or (around.namespace_budget is not None and around.open_in_namespace >= around.namespace_budget)
    )
    return "the budget is used up" if full else ""
