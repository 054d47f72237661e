"""Keeping a flapping, induced or imagined fault from flapping the gate (I3, I4). Pure bookkeeping on a `Standing`.

An episode begins when a fault is first sure enough to act on, and ends when the proxy has been well for long enough;
closing and opening again in between (an app that restarts, an expiry) is still the same episode. After it the hold-down
runs. A fault that policy turns into less security is an attack surface: whoever can crash the sidecar chooses when. So
an episode that begins inside the hold-down, or within a minute of another pod's of the same workload, is `induced`:
`direct` is not used in it and a person is called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hotswitch.decide.evidence import answers, trailing
from hotswitch.decide.ports import CLOSED, effective
from hotswitch.model import (
    Diagnosis,
    Direction,
    Fault,
    Level,
    Opening,
    Policy,
    ProbeOutcome,
    Standing,
    Surroundings,
    View,
)

WORKLOAD_WINDOW_S = 60.0  # I3: two pods of a workload within a minute
MASS_AT_LEAST_PODS = 4  # fewer pods cannot tell a sick node from a sick observer
REMEMBERED_FAULTS = 16
WITHOUT_PATH_FACTOR = 2  # no path to test: twice as many answers of 15021 are asked for instead


def changed(standing: Standing, **changes: Any) -> Standing:
    """`dataclasses.replace`, but the same object when nothing differs: most steps change nothing, and copying the
    standing again and again would be most of what they cost."""
    same = all(getattr(standing, name) == value for name, value in changes.items())
    return standing if same else replace(standing, **changes)


def in_episode(standing: Standing) -> bool:
    return standing.fault is not Fault.WELL


def begin_episode(standing: Standing, policy: Policy, fault: Fault, now_s: float) -> Standing:
    recent = tuple(at for at in standing.recent_faults_s if now_s - at <= policy.hold_down_max_s)
    return replace(
        standing,
        fault=fault,
        fault_since_s=now_s,
        recent_faults_s=(*recent, now_s)[-REMEMBERED_FAULTS:],
        hold_down_s=_next_hold_down_s(standing, policy, now_s),
        induced=now_s < standing.hold_down_until_s,
    )


def _next_hold_down_s(standing: Standing, policy: Policy, now_s: float) -> float:
    """Doubles with every further fault; starts anew after `hold_down_max_s` of quiet."""
    quiet_s = now_s - standing.hold_down_until_s
    fresh = standing.hold_down_s <= 0 or quiet_s > policy.hold_down_max_s
    wanted_s = policy.hold_down_s if fresh else max(2 * standing.hold_down_s, policy.hold_down_s)
    return min(wanted_s, policy.hold_down_max_s)


def end_episode(standing: Standing, now_s: float) -> Standing:
    """How long the gate was open counts no longer, if it is closed by now: an order of the same moment is a new one."""
    return replace(
        standing,
        fault=Fault.WELL,
        fault_since_s=None,
        opened_s=standing.opened_s if standing.is_open else None,
        hold_down_until_s=now_s + standing.hold_down_s,
        induced=False,
        said=frozenset(),
    )


def adopt(standing: Standing, policy: Policy, now_s: float) -> Standing:
    """A standing read back from the kernel has lost its history. An open gate goes on as an episode whose fault is not
    known; a closed one counts as though a fault had just ended, or crashing the agent would wash the rule above off."""
    openings = standing.openings or {way: Opening(level) for way, level in standing.levels.items()}
    known = replace(
        standing,
        rebuilt=False,
        levels={way: effective(openings.get(way, CLOSED)) for way in Direction},
        openings=openings,
        hold_down_s=max(standing.hold_down_s, policy.hold_down_s),
    )
    if not known.is_open:
        return closed(replace(known, hold_down_until_s=max(standing.hold_down_until_s, now_s + known.hold_down_s)))
    opened = replace(known, opened_s=_known_open_since_s(standing, policy, now_s))
    return opened if in_episode(opened) else replace(opened, fault=Fault.UNKNOWN, fault_since_s=now_s)


def _known_open_since_s(standing: Standing, policy: Policy, now_s: float) -> float:
    """At the latest: when the expiry that the kernel tells was written."""
    if standing.opened_s is not None:
        return standing.opened_s
    return now_s if standing.expires_s is None else min(now_s, standing.expires_s - policy.expiry_s)


def run_out(standing: Standing, now_s: float) -> bool:
    """The kernel closed the gate by itself (I1)."""
    return standing.is_open and standing.expires_s is not None and not now_s < standing.expires_s


def closed(standing: Standing) -> Standing:
    """The gate is closed; the episode, if there is one, goes on and keeps the instant of its first opening."""
    level = Level.HOLD if in_episode(standing) else Level.CAPTURE
    opened_s = standing.opened_s if in_episode(standing) else None
    return changed(
        standing,
        levels=dict.fromkeys(Direction, level),
        openings={},
        ordered=frozenset(),
        expires_s=None,
        opened_s=opened_s,
    )


def overstayed(standing: Standing, policy: Policy, now_s: float) -> bool:
    return standing.opened_s is not None and not now_s < standing.opened_s + policy.open_at_most_s


def fell_ill_with_others(standing: Standing, surroundings: Surroundings, now_s: float) -> bool:
    """Another pod of the workload fell ill within a minute of this one, before or after."""
    if standing.fault_since_s is None:
        return False
    age_s = now_s - standing.fault_since_s
    return any(abs(other_s - age_s) <= WORKLOAD_WINDOW_S for other_s in surroundings.workload_fault_ages_s)


def mass_failure(surroundings: Surroundings) -> bool:
    most = surroundings.faulty_on_node * 2 > surroundings.pods_on_node
    return most and surroundings.pods_on_node >= MASS_AT_LEAST_PODS


def recovered(view: View, diagnosis: Diagnosis) -> bool:
    """Well for long enough and, while anything is open, proven end to end through the proxy (I4)."""
    standing, thresholds = view.standing, view.policy.thresholds
    if diagnosis.fault is not Fault.WELL or standing.well_since_s is None:
        return False
    lasted = view.now_s - standing.well_since_s >= thresholds.recover_after_s
    return lasted and (not standing.is_open or _passes(view, thresholds.recover_probes))


def _passes(view: View, wanted: int) -> bool:
    if view.facts.path_passes is not None:
        return view.facts.path_passes >= wanted
    return len(trailing(answers(view.facts), ProbeOutcome.OK)) >= wanted * WITHOUT_PATH_FACTOR
