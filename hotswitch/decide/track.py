"""From the standing of the last step to that of this one, before anything is decided: what time alone has changed, and
which episode we are in. Also who may open: what the evidence, or a person's order, admits now.
"""

from __future__ import annotations

import math
from dataclasses import replace

from hotswitch.decide.damping import (
    adopt,
    begin_episode,
    changed,
    closed,
    end_episode,
    fell_ill_with_others,
    in_episode,
    overstayed,
    recovered,
    run_out,
)
from hotswitch.decide.diagnose import diagnose
from hotswitch.decide.levels import ANSWERS, Admission, justified
from hotswitch.decide.verdict import SURE
from hotswitch.model import Diagnosis, Direction, Fault, Level, Mode, Override, Policy, Standing, View

NEVER_ORDERED: frozenset[Fault] = frozenset({Fault.TERMINATING, Fault.STARTING, Fault.APP_SICK})
"""Not even a person's order opens here (I2)."""

CLOSING_LASTS_S = 300.0  # ten times the default grace period: a proxy dead for longer than that is no termination
_LIVES: frozenset[Fault] = frozenset({Fault.WELL, Fault.UNCONFIGURED})  # by a new process, or an order taken back
_ENDS: frozenset[Fault] = frozenset({*ANSWERS, Fault.DRAINED, Fault.THROTTLED, Fault.UNKNOWN}) - _LIVES

UNSAID: frozenset[Fault] = frozenset({Fault.TERMINATING, Fault.STARTING, Fault.APP_SICK, Fault.UNKNOWN})
"""While open: nothing shows that the fault lasts, so nothing is renewed, and the kernel ends it (I1)."""


def settled(view: View) -> Standing:
    """What the passing of time has done: an order ended, a lost memory, an opening that the kernel closed."""
    standing = adopt(view.standing, view.policy, view.now_s) if view.standing.rebuilt else view.standing
    if standing.override is not None and not _in_force(standing.override, view.now_s):
        standing = replace(standing, override=None)
    if standing.opened_s is not None and not standing.opened_s <= view.now_s:
        standing = replace(standing, opened_s=view.now_s)
    return closed(standing) if run_out(standing, view.now_s) else standing


def _in_force(override: Override, now_s: float) -> bool:
    """An order without an end is none (I4)."""
    return math.isfinite(override.until_s) and now_s < override.until_s


def assess(view: View) -> Diagnosis:
    """What is wrong, with all that is remembered of the pod: what `step` decides on."""
    return in_its_time(view, seen(view))


def seen(view: View) -> Diagnosis:
    """What the facts show. A pod that was ready once has been ever since, also for an agent that started later and
    found the gate open."""
    facts = view.facts
    if not facts.ever_ready and _was_ready(view.standing):
        facts = replace(facts, ever_ready=True)
    return diagnose(facts, view.policy.thresholds)


def in_its_time(view: View, diagnosis: Diagnosis) -> Diagnosis:
    """A fault soon after a closing down is the end of a termination: kubelet-led eviction and node shutdown say
    nothing, the proxy dies first, and it looks like a perfect crash (I2)."""
    since_s = view.standing.closing_since_s
    if since_s is None or not view.now_s - since_s <= CLOSING_LASTS_S or diagnosis.fault not in _ENDS:
        return diagnosis
    evidence = {**diagnosis.evidence, "before": f"it closed down {view.now_s - since_s:.1f} s ago"}
    return replace(
        diagnosis,
        fault=Fault.TERMINATING,
        sentence=f"the proxy closed down; now: {diagnosis.sentence}",
        evidence=evidence,
    )


def _was_ready(standing: Standing) -> bool:
    return standing.ever_ready or standing.is_open or in_episode(standing)


def _closing_since_s(view: View, diagnosis: Diagnosis) -> float | None:
    """Not inside an episode: a restarting proxy's listeners come one by one, and may look the same for a moment."""
    if diagnosis.fault in _LIVES:
        return None
    closing = diagnosis.fault is Fault.TERMINATING and diagnosis.grade in SURE and not in_episode(view.standing)
    return view.now_s if closing else view.standing.closing_since_s


def tracked(view: View, now_seen: Diagnosis, diagnosis: Diagnosis) -> Standing:
    """Episodes begin with a fault that may be acted on and end with recovery; `view.standing` is settled. `now_seen`:
    by the facts alone; `diagnosis`: with what is remembered."""
    standing = changed(
        view.standing,
        ever_ready=view.facts.ever_ready or _was_ready(view.standing),
        well_since_s=_well_since_s(view, diagnosis),
        closing_since_s=_closing_since_s(view, now_seen),
    )
    if justified(diagnosis):
        begun = in_episode(standing)
        standing = (
            changed(standing, fault=diagnosis.fault)
            if begun
            else begin_episode(standing, view.policy, diagnosis.fault, view.now_s)
        )
    elif in_episode(standing) and recovered(replace(view, standing=standing), diagnosis):
        standing = end_episode(standing, view.now_s)
    ill_together = fell_ill_with_others(standing, view.surroundings, view.now_s)
    return changed(standing, induced=standing.induced or ill_together)


def _well_since_s(view: View, diagnosis: Diagnosis) -> float | None:
    if diagnosis.fault is not Fault.WELL:
        return None
    since_s = view.standing.well_since_s
    return since_s if since_s is not None and since_s <= view.now_s else view.now_s


def ordered_level(view: View, direction: Direction) -> Level | None:
    override = view.standing.override
    if override is None or view.policy.mode is not Mode.AUTO:
        return None
    return override.levels.get(direction)


def admitted_by_order(view: View, diagnosis: Diagnosis) -> tuple[Admission, bool]:
    """(what may be opened, whether it may be renewed)"""
    if _must_leave(view, diagnosis):
        return Admission.LEAVE, False
    if diagnosis.fault in NEVER_ORDERED:
        return Admission.KEEP, False
    return Admission.ENTER, True


def admitted_by_evidence(view: View, diagnosis: Diagnosis) -> tuple[Admission, bool]:
    """(what may be opened, whether it may be renewed)"""
    if _must_leave(view, diagnosis) or not in_episode(view.standing):
        return Admission.LEAVE, False
    if justified(diagnosis):
        return Admission.ENTER, True
    if view.standing.is_open and view.standing.expires_s is None:
        return Admission.LEAVE, False
    return Admission.KEEP, _fault_lasts(view, diagnosis)


def _fault_lasts(view: View, diagnosis: Diagnosis) -> bool:
    """A restarting proxy looks drained, unready or slow in turn; until it is well again the fault lasts. Well but not
    yet for long enough: wait for it. Well for long enough and still no pass end to end: let it run out."""
    if diagnosis.fault is Fault.WELL:
        since_s = view.standing.well_since_s
        return since_s is not None and view.now_s - since_s < view.policy.thresholds.recover_after_s
    return diagnosis.fault not in UNSAID


def _must_leave(view: View, diagnosis: Diagnosis) -> bool:
    app_sick = diagnosis.fault is Fault.APP_SICK and diagnosis.grade in SURE
    return app_sick or overstayed(view.standing, view.policy, view.now_s) or not _has_an_end(view.policy, view.now_s)


def _has_an_end(policy: Policy, now_s: float) -> bool:
    """No opening without an expiry (I4)."""
    return now_s < now_s + policy.expiry_s < math.inf and policy.open_at_most_s > 0
