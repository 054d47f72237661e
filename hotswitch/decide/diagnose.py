"""What is wrong with one pod's proxy, and how sure we are (S4.2, S4.2a, S4.2b, S4.2c). Pure and total.

Read in order, first what forbids every act (I2): terminating, never ready, the app gone. Then the first reading that is
sure wins over those that only suspect; but a proxy that refuses dies, is drained or comes back, and nothing else is
said of it. What is not known, or too old, is no evidence: it ends in UNKNOWN, never in a fault.
"""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.decide.death import dumping, exiting, refused
from hotswitch.decide.evidence import FRESH_S, described, path_blames_proxy, standing_ports
from hotswitch.decide.hang import slow
from hotswitch.decide.verdict import SURE, Case
from hotswitch.model import (
    ENVOY_INBOUND,
    ENVOY_OUTBOUND,
    Diagnosis,
    Facts,
    Fault,
    Grade,
    ProbeOutcome,
    Thresholds,
)

APP_STREAK = 2  # comparisons in a row before the app is said to be sick for sure
STANDS_S = 0.04  # a queue seen standing at two looks: nobody accepts just now
_SPOKEN = frozenset({ProbeOutcome.OK, ProbeOutcome.UNREADY})
_SLOW_ANSWERS = frozenset({ProbeOutcome.TIMEOUT, ProbeOutcome.UNREADY})  # a squeezed proxy gives these: 503, 504


def diagnose(facts: Facts, thresholds: Thresholds) -> Diagnosis:
    case = Case(facts, thresholds)
    for forbids in (_said_to_terminate, _never_ready, _app_gone):
        if (found := forbids(case)) is not None:
            return found
    if facts.judged is not None:
        return facts.judged
    suspected: Diagnosis | None = None
    for reading in _READINGS:
        found = reading(case)
        if found is not None and (found.grade in SURE or reading is refused):
            return found
        suspected = suspected or found
    return suspected or _nothing_wrong(case)


# ---- what forbids every act (I2) ----


def _said_to_terminate(case: Case) -> Diagnosis | None:
    if not case.facts.terminating:
        return None
    return Diagnosis(Fault.TERMINATING, Grade.CONFIRMED, "the pod is terminating", {"said": "terminating"})


def _never_ready(case: Case) -> Diagnosis | None:
    if case.facts.ever_ready:
        return None
    return Diagnosis(Fault.STARTING, Grade.CONFIRMED, "the proxy has never been ready yet", {"ever ready": "no"})


def _app_gone(case: Case) -> Diagnosis | None:
    """The app does not even answer. An app that answers "not ready" is another case: a broken proxy may be why."""
    facts, dump = case.facts, case.dump
    if dump is not None and facts.app_ports and not facts.app_ports & case.listening:
        evidence = {"declared": described(facts.app_ports), "listening": described(case.listening)}
        return case.proves(Fault.APP_SICK, dump.at_s, "the app listens on none of its declared ports", evidence)
    path = facts.path
    if path is None or not path.blames_app or path.direct is ProbeOutcome.UNREADY:
        return None
    evidence = {"direct": str(path.direct), "in a row": str(facts.path_streak)}
    says = case.proves if facts.path_streak >= APP_STREAK else case.suspects
    return says(Fault.APP_SICK, path.at_s, f"the app itself fails its probe ({path.direct})", evidence)


# ---- what the proxy's answers and listeners say ----


def _unconfigured_or_closing(case: Case) -> Diagnosis | None:
    """15021 answers, but the listeners that istiod delivers are not there: LDS never came, or they were closed."""
    if case.dump is None or ENVOY_INBOUND in case.listening or case.newest not in _SPOKEN:
        return None
    evidence = {"15021": str(case.newest), "listening": described(case.listening), "absent": str(ENVOY_INBOUND)}
    if ENVOY_OUTBOUND not in case.listening:
        return _unconfigured(case, evidence)
    since_s = case.dump.at_s
    if case.newest is ProbeOutcome.OK:
        return case.proves(Fault.DRAINED, since_s, "inbound was drained by an operator: 15006 is closed", evidence)
    return case.proves(Fault.TERMINATING, since_s, "the proxy closes down: 15006 is closed, 15021 says so", evidence)


def _unconfigured(case: Case, evidence: dict[str, str]) -> Diagnosis:
    run = case.run_of(ProbeOutcome.UNREADY)
    since_s = run[0].started_s if run else case.facts.at_s
    sentence = "the proxy runs without configuration: neither 15001 nor 15006 listens"
    sure = len(run) >= max(1, case.thresholds.hung_probes)
    return (case.proves if sure else case.suspects)(Fault.UNCONFIGURED, since_s, sentence, evidence)


def _certificate_expired(case: Case) -> Diagnosis | None:
    left_s = case.facts.proxy_certificate_expires_in_s
    if left_s is None or not left_s <= 0:
        return None
    since_s, evidence = case.facts.at_s + left_s, {"expired": f"{-left_s:.0f} s ago"}
    sentence = "the certificate that the proxy presents has expired"
    return case.proves(Fault.CERTIFICATE_EXPIRED, since_s, sentence, evidence)


def _app_unready(case: Case) -> Diagnosis | None:
    """Only suspected: an app may say so because a broken proxy keeps it from what it depends on."""
    path = case.facts.path
    if path is None or not path.blames_app or case.facts.path_streak < APP_STREAK:
        return None
    evidence = {"direct": str(path.direct), "in a row": str(case.facts.path_streak)}
    return case.suspects(Fault.APP_SICK, path.at_s, "the app itself says that it is not ready", evidence)


def _unready(case: Case) -> Diagnosis | None:
    """Alive but not healthy (S4.2b). pilot-agent's answer passes through 15021: it may be the sick one, so the proxy is
    to blame only if requests suffer."""
    run = case.run_of(ProbeOutcome.UNREADY) or case.run_of(ProbeOutcome.RESET)
    if not run:
        return None
    since_s, answer = run[0].started_s, run[0].outcome
    evidence = {"15021": f"{answer}, {len(run)} in a row", "detail": run[-1].detail}
    blamed = path_blames_proxy(case.facts, since_s)
    excused = case.facts.pressure.explains_slowness
    if blamed and not excused and len(run) >= case.patience.probes and _both_listen(case):
        return case.proves(Fault.UNREADY, since_s, "the proxy says it is not ready, and requests fail in it", evidence)
    return case.suspects(Fault.UNREADY, since_s, "the proxy says it is not ready", evidence)


def _misrouting(case: Case) -> Diagnosis | None:
    """Needs both listeners in a fresh dump: behind a drained or closing proxy the proxied way fails as well. So what
    was refused is from before that dump, of a proxy that was starting. What was late while connections wait to be
    accepted is no matter of routes: whether it hangs is judged by its queues."""
    path = path_blames_proxy(case.facts, float("-inf"))
    if path is None:
        return None
    evidence = {"proxied": str(path.proxied), "direct": str(path.direct), "in a row": str(case.facts.path_streak)}
    pressure = case.facts.pressure
    late = path.proxied in _SLOW_ANSWERS or case.newest is ProbeOutcome.TIMEOUT
    waits = bool(standing_ports(case.dump, STANDS_S))
    excused = late and (pressure.explains_slowness or waits)
    excused = excused or path.proxied is ProbeOutcome.REFUSED
    if not excused and case.facts.path_streak >= case.patience.path_streak and _both_listen(case):
        return case.proves(Fault.MISROUTING, path.at_s, "requests fail in the proxy and work without it", evidence)
    return case.suspects(Fault.MISROUTING, path.at_s, "a request failed in the proxy and worked without it", evidence)


def _both_listen(case: Case) -> bool:
    return ENVOY_INBOUND in case.listening and ENVOY_OUTBOUND in case.listening


def _container_says_dead(case: Case) -> Diagnosis | None:
    """Status lags behind a restart by seconds and the kernel does not, so alone it is a reason to look (S4.2a)."""
    if case.facts.container_running is not False:
        return None
    evidence = {"container": "does not run", "15021": str(case.newest or case.facts.tripwire)}
    return case.suspects(Fault.DEAD, case.facts.at_s, "the proxy's container is said not to run", evidence)


def _nothing_wrong(case: Case) -> Diagnosis:
    if case.newest is ProbeOutcome.OK:
        return Diagnosis(Fault.WELL, Grade.NONE, "the proxy answers and is ready", {"15021": "ok"})
    evidence = {"15021": str(case.newest or "no answer"), "dump": f"not within {FRESH_S:.0f} s"}
    return Diagnosis(Fault.UNKNOWN, Grade.NONE, "too little is known of the proxy", evidence)


_READINGS: tuple[Callable[[Case], Diagnosis | None], ...] = (
    dumping,
    exiting,
    refused,
    slow,
    _unconfigured_or_closing,
    _certificate_expired,
    _app_unready,
    _unready,
    _misrouting,
    _container_says_dead,
)
