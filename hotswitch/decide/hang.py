"""Hung, half hung, or only slow (S4.2b). Kernels complete handshakes for a stopped process: connecting proves little.

A hang needs all of: no answer on several fresh connections in a row; an accept queue whose head does not move; and
nothing in the proxy's cgroup that explains it. With a 50m CPU quota both signs agreed several times in 8 s while every
request succeeded (measured): such a proxy is THROTTLED, and never acted on. Nor is one whose workers all work, until
its queues have stood for much longer. A question that was not answered must still wait in the queue of 15021:
accepted and not answered yet is slow. One stuck worker of several fails only those connections that the kernel hands to
its socket: its queue alone stands, and probes fail about as often as they meet it.
"""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.decide.evidence import described, half_stuck_ports, standing_ports, stuck_ports
from hotswitch.decide.verdict import Case
from hotswitch.model import HEALTH, Diagnosis, Fault, Listeners, Pressure, Probe, ProbeOutcome, Tripwire


def slow(case: Case) -> Diagnosis | None:
    readings: tuple[Callable[[Case], Diagnosis | None], ...] = (_throttled, _hung, _stuck_worker, _perhaps_hung)
    return next((found for reading in readings if (found := reading(case)) is not None), None)


def _throttled(case: Case) -> Diagnosis | None:
    pressure, silent = case.facts.pressure, case.silent
    if not pressure.explains_slowness:
        return None
    stuck = stuck_ports(case.dump, case.patience.queue_s)
    if not (silent or stuck or _half_stuck(case)):
        return None
    sentence = f"the proxy is slow because {_why_slow(pressure)}"
    evidence = {"pressure": _why_slow(pressure), "unanswered": str(len(silent)), "stuck queues": described(stuck)}
    enough = len(silent) >= case.patience.probes
    return (case.proves if enough else case.suspects)(Fault.THROTTLED, _began_s(case, silent), sentence, evidence)


def _hung(case: Case) -> Diagnosis | None:
    silent = case.silent
    if len(silent) < case.patience.probes:
        return None
    dump, queue_s = _dump_during(case, silent), case.patience.queue_s
    ports = standing_ports if case.facts.pressure.stopped else stuck_ports  # stopped: the other workers stand as well
    stuck = ports(dump, queue_s)
    if not stuck or HEALTH not in standing_ports(dump, queue_s):
        return None
    evidence = {"unanswered": f"{len(silent)} in a row", "stuck queues": described(stuck), "pressure": _pressure(case)}
    return case.proves(Fault.HUNG, silent[0].started_s, "the proxy hangs: it neither answers nor accepts", evidence)


def _stuck_worker(case: Case) -> Diagnosis | None:
    stuck = _half_stuck(case)
    if not stuck:
        return None
    said = case.answers
    silent = tuple(probe for probe in said if probe.outcome is ProbeOutcome.TIMEOUT)
    share = f"{len(silent)} of {len(said)}"
    evidence = {"half stuck": described(stuck), "unanswered": share, "pressure": _pressure(case)}
    since_s = min(case.facts.at_s - case.patience.worker_s, _began_s(case, silent))
    says = case.proves if _meet_a_stuck_worker(case) else case.suspects
    if case.facts.pressure.stopped:  # the others are not served, they only were not asked yet
        return says(Fault.HUNG, since_s, "the proxy hangs: every thread of it is stopped", evidence)
    sentence = "one of the proxy's workers is stuck: its queue stands while the others are served"
    return says(Fault.STUCK_WORKER, since_s, sentence, evidence)


def _meet_a_stuck_worker(case: Case) -> bool:
    """One of them still waits, and at least half as many failed of late as one worker of all would have got."""
    dump, since_s = case.dump, case.facts.at_s - 2 * case.patience.worker_s
    if dump is None or HEALTH not in standing_ports(dump, case.patience.worker_s):
        return False
    workers = max(1, sum(not queue.ipv6 for queue in dump.on(HEALTH)))
    late = [probe for probe in case.answers if probe.started_s >= since_s]
    silent = sum(probe.outcome is ProbeOutcome.TIMEOUT for probe in late)
    return silent > 0 and silent * 2 * workers >= len(late)


def _perhaps_hung(case: Case) -> Diagnosis | None:
    silent = case.silent
    unanswered = case.facts.tripwire is Tripwire.UNANSWERED
    if not silent and not unanswered:
        return None
    stuck = stuck_ports(case.dump, case.patience.queue_s)
    evidence = {"unanswered": str(len(silent)), "stuck queues": described(stuck), "pressure": _pressure(case)}
    return case.suspects(Fault.HUNG, _began_s(case, silent), "15021 has not answered; too early to say why", evidence)


def _half_stuck(case: Case) -> tuple[int, ...]:
    return half_stuck_ports(case.dump, case.patience.worker_s)


def _dump_during(case: Case, silent: tuple[Probe, ...]) -> Listeners | None:
    return case.dump if case.dump is not None and case.dump.at_s >= silent[0].started_s else None


def _began_s(case: Case, silent: tuple[Probe, ...]) -> float:
    if silent:
        return silent[0].started_s
    return case.facts.tripwire_since_s if case.facts.tripwire is Tripwire.UNANSWERED else case.facts.at_s


def _pressure(case: Case) -> str:
    if case.facts.pressure.stopped:
        return "none: every thread is stopped"
    return "none" if case.facts.pressure.known else "not known, so twice as much was asked for"


def _why_slow(pressure: Pressure) -> str:
    reasons = {"its CPU quota is used up": pressure.throttled, "its memory is short": pressure.memory}
    reasons["it waits for a CPU"] = pressure.starved
    return " and ".join(text for text, holds in reasons.items() if holds)
