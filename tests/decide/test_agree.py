"""Who sees what, and what they agree on: one witness alone opens nothing (S4.2, S4.2a, S4.2b, I2)."""

from __future__ import annotations

import itertools

import pytest

from hotswitch.decide.agree import Container, Witnesses, agree
from hotswitch.decide.levels import justified
from hotswitch.model import Diagnosis, Facts, Fault, Grade, Probe, ProbeOutcome, Thresholds

pytestmark = pytest.mark.unit

NOW_S = 100.0
RUNS = Container(running=True, ready=True, since_s=10.0)
UNREADY = Container(running=True, ready=False, since_s=98.0)
DOWN = Container(running=False, since_s=99.0, told="terminated: Completed, exit code 0")
LOOPING = Container(running=False, since_s=90.0, crash_looping=True, told="waiting: CrashLoopBackOff")


def afar(outcome: ProbeOutcome, count: int = 3) -> Facts:
    probes = tuple(Probe(NOW_S - 0.5 * (count - n), NOW_S - 0.5 * (count - n) + 0.1, outcome) for n in range(count))
    return Facts(at_s=NOW_S, probes=probes)


def beside(fault: Fault, grade: Grade = Grade.CONFIRMED) -> Diagnosis:
    return Diagnosis(fault, grade, str(fault), {}, NOW_S - 1.0)


def judged(container: Container, far: ProbeOutcome | None = None, near: Diagnosis | None = None) -> tuple[Fault, Grade]:
    seen = Witnesses(NOW_S, container, None if far is None else afar(far), near)
    found = agree(seen, Thresholds())
    return found.fault, found.grade


OK, REFUSED, TIMEOUT, SAYS_NO = ProbeOutcome.OK, ProbeOutcome.REFUSED, ProbeOutcome.TIMEOUT, ProbeOutcome.UNREADY


@pytest.mark.parametrize(
    ("container", "far", "near", "expected"),
    [
        (RUNS, OK, None, (Fault.WELL, Grade.NONE)),
        (RUNS, OK, beside(Fault.WELL, Grade.NONE), (Fault.WELL, Grade.NONE)),
        (DOWN, REFUSED, None, (Fault.DEAD, Grade.CORROBORATED)),  # S4.2a and S4.2b
        (LOOPING, None, None, (Fault.DEAD, Grade.CONFIRMED)),
        (RUNS, REFUSED, beside(Fault.DEAD), (Fault.DEAD, Grade.CORROBORATED)),
        (DOWN, None, beside(Fault.DEAD), (Fault.DEAD, Grade.CORROBORATED)),
        (UNREADY, TIMEOUT, None, (Fault.HUNG, Grade.CORROBORATED)),
        (UNREADY, TIMEOUT, beside(Fault.STARTING), (Fault.HUNG, Grade.CORROBORATED)),  # it came after the fault
        (RUNS, TIMEOUT, beside(Fault.HUNG), (Fault.HUNG, Grade.CORROBORATED)),
        (RUNS, OK, beside(Fault.MISROUTING), (Fault.MISROUTING, Grade.CONFIRMED)),  # cannot be seen from afar
        (RUNS, SAYS_NO, beside(Fault.UNCONFIGURED), (Fault.UNCONFIGURED, Grade.CORROBORATED)),
        (RUNS, OK, beside(Fault.APP_SICK), (Fault.APP_SICK, Grade.CONFIRMED)),
        (RUNS, SAYS_NO, beside(Fault.TERMINATING), (Fault.TERMINATING, Grade.CONFIRMED)),
    ],
)
def test_two_witnesses_agree(
    container: Container, far: ProbeOutcome | None, near: Diagnosis | None, expected: tuple[Fault, Grade]
) -> None:
    assert judged(container, far, near) == expected


@pytest.mark.parametrize(
    ("container", "far", "near", "fault"),
    [
        (RUNS, REFUSED, None, Fault.DEAD),  # a NetworkPolicy, say
        (DOWN, OK, None, Fault.DEAD),  # the status lags behind a restart
        (DOWN, None, None, Fault.DEAD),
        (RUNS, TIMEOUT, None, Fault.HUNG),  # the network, say
        (RUNS, OK, beside(Fault.HUNG), Fault.HUNG),  # the observer's own loop, say
        (RUNS, OK, beside(Fault.DEAD), Fault.DEAD),
        (RUNS, SAYS_NO, None, Fault.UNREADY),
    ],
)
def test_one_witness_alone_is_only_a_suspicion(
    container: Container, far: ProbeOutcome | None, near: Diagnosis | None, fault: Fault
) -> None:
    assert judged(container, far, near) == (fault, Grade.SUSPECTED)


def test_fewer_answers_than_the_threshold_are_none() -> None:
    seen = Witnesses(NOW_S, DOWN, afar(ProbeOutcome.REFUSED, 2), None)
    assert agree(seen, Thresholds()).grade is Grade.SUSPECTED
    assert agree(seen, Thresholds(hung_probes=2)).grade is Grade.CORROBORATED


def test_nobody_knows_anything() -> None:
    assert judged(Container()) == (Fault.UNKNOWN, Grade.NONE)


def test_nothing_is_sure_that_a_single_source_says() -> None:
    """Every combination: what may be acted on was seen by two, or by one that proves it by two of its own (I2)."""
    nears = [None, *(beside(fault) for fault in Fault)]
    for container, far, near in itertools.product((Container(), RUNS, DOWN, UNREADY), (None, *ProbeOutcome), nears):
        found = agree(Witnesses(NOW_S, container, None if far is None else afar(far), near), Thresholds())
        if not justified(found) or (near is not None and near.fault in (Fault.MISROUTING, Fault.CERTIFICATE_EXPIRED)):
            continue
        if near is not None and near.fault is Fault.UNREADY:
            continue  # proven in the pod by the path comparison
        ill_afar = far in (REFUSED, TIMEOUT, SAYS_NO, ProbeOutcome.RESET)
        told = container.running is False or container is UNREADY
        assert sum((ill_afar, told, near is not None and justified(near))) >= 2, (container, far, near, found)
