"""Dead, drained, dumping: what a refused 15021 means (S4.2, S4.2a).

Refused alone proves nothing: an operator's `drain_listeners` refuses too, while the admin port goes on listening. One
dump of the LISTEN sockets tells: a dead process has none. A killed Envoy's sockets take about 2 ms to go, and its held
connection closes before its listeners do (measured: 14 of 20 reconnects still succeeded). So refused with something
still listening is only suspected, until it has stood for SETTLE_S; unless all connections that are held close at once.
"""

from __future__ import annotations

from hotswitch.decide.evidence import FRESH_S, described
from hotswitch.decide.verdict import Case, Source
from hotswitch.model import (
    ADMIN,
    ENVOY_INBOUND,
    ENVOY_OUTBOUND,
    HEALTH,
    PROXY_PORTS,
    Diagnosis,
    Facts,
    Fault,
    ProbeOutcome,
    Tripwire,
)

LIVING_PORTS = frozenset({ADMIN, ENVOY_INBOUND, ENVOY_OUTBOUND})
TOGETHER_S = 0.05  # 0.02 ms apart, most often; a busy kernel may put the dying process aside between two sockets
SETTLE_S = 0.05  # teardown takes 2 ms, 21 ms was the longest seen with a core size limit of 0; busy machines are slower


def dumping(case: Case) -> Diagnosis | None:
    """Sockets stay open while a core is written, so it looks like a hang; but it will not come back: sure at once."""
    facts = case.facts
    if not facts.pressure.dumping:
        return None
    since_s = case.silent[0].started_s if case.silent else facts.at_s
    sentence = "the proxy has crashed and writes its core dump"
    return case.proves(Fault.CORE_DUMPING, since_s, sentence, {"process": "CoreDumping"}, first=Source.DUMPING)


def exiting(case: Case) -> Diagnosis | None:
    """The kernel is taking the process down: its sockets go one after another (on a busy machine for some 20 ms), and
    nothing of it comes back. Envoy itself, as its threads tell, or as the held connection that was cut: beyond doubt. A
    process of another name: the traffic ports and the admin port must be gone too, because what exits may be no more
    than the command with which somebody drained the proxy."""
    facts = case.facts
    if (doomed_s := facts.envoy_doomed_s) is not None and doomed(facts):
        evidence = {"process": "envoy is being ended: a thread has gone or is to go, and so the whole process"}
        return case.proves(Fault.DEAD, doomed_s, "the proxy is dying: the kernel ends its process", evidence)
    if facts.envoy_exiting and _lately(facts, facts.tripwire_cut_s):
        evidence = {"process": "envoy exits", "15021": "the held connection was cut"}
        return case.proves(Fault.DEAD, facts.at_s, "the proxy is dying: the kernel ends its process", evidence)
    if (closed_s := _all_closed_s(case)) is not None:
        evidence = {"15021": "the held connection was cut", "15000": "so was that to the admin port, not by a reset"}
        return case.proves(Fault.DEAD, closed_s, "the proxy is dying: its connections close at once", evidence)
    if not facts.proxy_exiting or case.dump is None or case.listening & LIVING_PORTS:
        return None
    evidence = {"process": "exiting", "listening": described(case.listening & PROXY_PORTS)}
    return case.proves(Fault.DEAD, case.dump.at_s, "the proxy is dying: the kernel ends its process", evidence)


def _all_closed_s(case: Case) -> float | None:
    """Since when both connections that are held are closed, one to the main thread and one to a worker: by the kernel,
    because the process ends. Its listeners go up to 20 ms later, where it watches files. A drain leaves the admin
    port's alone, nothing is ever asked over that one, and whoever destroys sockets from outside sends a reset."""
    admin_s, health_s = case.facts.admin_closed_s, case.facts.tripwire_cut_s
    if admin_s is None or health_s is None or not abs(admin_s - health_s) <= TOGETHER_S:
        return None
    since_s = min(admin_s, health_s)
    return None if not _lately(case.facts, since_s) or _answered_after(case, since_s) else since_s


def doomed(facts: Facts) -> bool:
    """Envoy is being ended, and its sockets may stand until it has had the CPU for that: 0.9 s were seen."""
    return _lately(facts, facts.envoy_doomed_s)


def _lately(facts: Facts, instant_s: float | None) -> bool:
    return instant_s is not None and facts.at_s - instant_s <= FRESH_S


def refused(case: Case) -> Diagnosis | None:
    since_s = _refused_since_s(case)
    if since_s is None:
        return None
    if case.dump is None or not case.dump.at_s >= since_s:
        evidence = {"15021": "refused", "listeners": "not looked at since"}
        return case.suspects(Fault.DEAD, since_s, "15021 refuses; what else listens is not known yet", evidence)
    left = case.listening & PROXY_PORTS
    evidence = {"15021": "refused", "listening": described(left)}
    if not left:
        return _nothing_listens(case, since_s, evidence)
    return _something_listens(case, since_s, evidence, HEALTH in left)


def _nothing_listens(case: Case, since_s: float, evidence: dict[str, str]) -> Diagnosis:
    if _refusal_stands(case):
        return case.proves(Fault.DEAD, since_s, "the proxy is dead: none of its ports listens", evidence)
    return case.suspects(Fault.DEAD, since_s, "no port of the proxy listens, yet a connection is held", evidence)


def _something_listens(case: Case, since_s: float, evidence: dict[str, str], health_listens: bool) -> Diagnosis:
    if health_listens or not case.facts.at_s - since_s >= SETTLE_S:
        sentence = "15021 refuses and some of the proxy's ports listen: being torn down, drained, or coming back"
        return case.suspects(Fault.DEAD, since_s, sentence, evidence)
    return case.proves(Fault.DRAINED, since_s, "15021 is closed but the proxy lives: drained by an operator", evidence)


def _refusal_stands(case: Case) -> bool:
    """The tripwire broke; or it was never armed (we came after the death) and fresh connections were refused."""
    enough = len(case.run_of(ProbeOutcome.REFUSED)) >= max(1, case.thresholds.hung_probes)
    wire = case.facts.tripwire
    return wire is Tripwire.REFUSED or (wire is not Tripwire.HELD and enough)


def _refused_since_s(case: Case) -> float | None:
    """Since when 15021 refuses; None when it does not, or has answered since."""
    facts = case.facts
    if facts.tripwire is Tripwire.REFUSED and not _answered_after(case, facts.tripwire_since_s):
        return facts.tripwire_since_s
    run = case.run_of(ProbeOutcome.REFUSED)
    return run[0].started_s if run else None


def _answered_after(case: Case, instant_s: float) -> bool:
    spoken = case.newest is ProbeOutcome.OK or case.newest is ProbeOutcome.UNREADY
    return spoken and case.answers[-1].started_s > instant_s
