"""Label and annotations: read exactly, or named as wrong while what was valid stays in force (S4.6, I2)."""

import pytest

from hotswitch.api import names
from hotswitch.api.knobs import KNOBS, NO_KNOBS, Bearer, Knobs, read
from hotswitch.api.values import Allowance
from hotswitch.model import Direction, Mode

pytestmark = pytest.mark.unit


def on_pod(annotations: dict[str, str], before: Knobs | None = None, **labels: str) -> Knobs:
    return read(Bearer.POD, {names.MODE_LABEL: labels["mode"]} if labels else {}, annotations, before)


def test_every_knob_is_read() -> None:
    knobs = on_pod(
        {
            names.LEVELS_INBOUND: "rescue, direct",
            names.LEVELS_OUTBOUND: "hold",
            names.DIRECTIONS: "inbound",
            names.PROFILE: "fast",
            names.EXPIRY: "2m",
            names.OPEN_AT_MOST: "30m",
            names.HOLD_DOWN: "1m30s",
            names.HOLD_DOWN_MAX: "2h",
            names.RECOVER_AFTER: "500ms",
            names.RECOVER_PROBES: "5",
            names.STALE_AFTER: "10m",
            names.CERTIFICATE_ENDS: "2h",
            names.BUDGET: "25%",
            names.ACTUATORS: "exec",
            names.ALERT_LABELS: "team=shop, tier=1",
            names.ALERT_REPEAT: "1h",
            names.DRILL_EVERY: "24h",
            names.TRUSTS_PROXY_HEADERS: "false",
        },
        mode="auto",
    )
    spec = knobs.spec
    assert knobs.problems == ()
    assert (spec.mode, spec.levels.inbound, spec.levels.outbound) == (Mode.AUTO, ("rescue", "direct"), ("hold",))
    assert (spec.directions, spec.profile, spec.actuators) == ((Direction.INBOUND,), "fast", ("exec",))
    timings = spec.timings
    assert (timings.expiry_s, timings.open_at_most_s, timings.hold_down_s, timings.hold_down_max_s) == (
        120,
        1800,
        90,
        7200,
    )
    assert (timings.recover_after_s, timings.recover_probes) == (0.5, 5)
    assert (timings.stale_after_s, timings.certificate_ends_s) == (600, 7200)
    assert spec.budgets.workload == Allowance(percent=25)
    assert (spec.alerts.labels, spec.alerts.repeat_s) == ({"team": "shop", "tier": "1"}, 3600)
    assert spec.drill.every_s == 86400
    assert knobs.trusts_proxy_headers is False


def test_on_a_namespace_the_budget_is_the_namespaces() -> None:
    spec = read(Bearer.NAMESPACE, {}, {names.BUDGET: "3"}).spec
    assert (spec.budgets.namespace, spec.budgets.workload) == (Allowance(count=3), None)


WRONG = [
    (names.LEVELS_INBOUND, "rescu", "'rescue', 'direct' or 'hold'"),
    (names.LEVELS_INBOUND, "rescue,,hold", "empty place"),
    (names.LEVELS_OUTBOUND, "direct,direct", "names direct twice"),
    (names.LEVELS_OUTBOUND, "capture", "'rescue', 'direct' or 'hold'"),
    (names.DIRECTIONS, "both", "'inbound' or 'outbound'"),
    (names.PROFILE, "FAST", "'default' or 'fast'"),
    (names.EXPIRY, "300", "is not a duration"),
    (names.OPEN_AT_MOST, "8d", "is not a duration"),
    (names.HOLD_DOWN, "0s", "above zero"),
    (names.HOLD_DOWN_MAX, "200h", "at most 168h"),
    (names.RECOVER_AFTER, "-1s", "is not a duration"),
    (names.RECOVER_PROBES, "0", "greater than or equal to 1"),
    (names.RECOVER_PROBES, "three", "valid integer"),
    (names.STALE_AFTER, "", "is not a duration"),
    (names.CERTIFICATE_ENDS, "1h ", "is not a duration"),
    (names.BUDGET, "half", "a count like 3 or a share like 25%"),
    (names.BUDGET, "-1", "a count like 3"),
    (names.BUDGET, "120%", "a share like 25%"),
    (names.ACTUATORS, "ssh", "'helper' or 'exec'"),
    (names.ALERT_LABELS, "team", "is not name=value"),
    (names.ALERT_LABELS, "severity=none", "hotswitch's own label"),
    (names.ALERT_LABELS, "my-team=1", "not a label's name"),
    (names.ALERT_LABELS, "a=1,a=2", "names a twice"),
    (names.ALERT_REPEAT, "often", "is not a duration"),
    (names.TRUSTS_PROXY_HEADERS, "False", "neither true nor false"),
    (names.DRILL, "no", "neither on nor off"),
    (names.DRILL_EVERY, "30s", "less than 1m"),
    (names.EXPIRY, "9" * 5000, "longer than 1024"),
]


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_a_wrong_value_is_named_with_its_annotation(name: str, value: str, why: str) -> None:
    (problem,) = on_pod({name: value}).problems
    assert problem.field == name
    assert problem.value == value or len(problem.value) <= 80
    assert why in problem.why


def test_every_knob_is_among_the_wrong_values() -> None:
    assert {name for name, _, _ in WRONG} == {*KNOBS[Bearer.POD], names.TRUSTS_PROXY_HEADERS, names.DRILL}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, value, _ in WRONG])
def test_while_a_value_is_wrong_the_last_valid_one_stays(name: str, value: str) -> None:
    valid = {
        names.LEVELS_INBOUND: "rescue",
        names.BUDGET: "2",
        names.EXPIRY: "1m",
        names.ALERT_LABELS: "team=shop",
        names.TRUSTS_PROXY_HEADERS: "false",
    }
    before = on_pod(valid, mode="auto")
    after = on_pod({**valid, name: value}, before, mode="auto")
    assert (after.spec, after.trusts_proxy_headers) == (before.spec, before.trusts_proxy_headers)
    assert after.problems != ()


def test_garbage_at_first_sight_is_taken_for_the_most_careful() -> None:  # I2
    annotations = {
        names.LEVELS_INBOUND: "x",
        names.DIRECTIONS: "x",
        names.BUDGET: "x",
        names.TRUSTS_PROXY_HEADERS: "x",
        names.EXPIRY: "x",
    }
    knobs = on_pod(annotations, mode="x")
    assert (knobs.spec.mode, knobs.spec.levels.inbound, knobs.spec.directions) == (Mode.OBSERVE, ("hold",), ())
    assert knobs.spec.budgets.workload == Allowance(count=0)
    assert (knobs.trusts_proxy_headers, knobs.spec.timings.expiry_s) == (True, None)


def test_a_knob_that_goes_away_is_gone() -> None:
    before = on_pod({names.LEVELS_INBOUND: "hold"})
    assert on_pod({}, before).spec.levels.inbound is None


def test_garbage_twice_in_a_row_does_not_forget_what_was_valid() -> None:
    first = on_pod({names.LEVELS_INBOUND: "rescue"})
    second = on_pod({names.LEVELS_INBOUND: "rescu"}, first)
    assert on_pod({names.LEVELS_INBOUND: "resc"}, second).spec.levels.inbound == ("rescue",)


def test_timings_that_contradict_each_other_stay_as_they_were() -> None:
    before = on_pod({names.EXPIRY: "1m"})
    after = on_pod({names.EXPIRY: "2h", names.OPEN_AT_MOST: "1h", names.LEVELS_INBOUND: "hold"}, before)
    assert (after.spec.timings, after.spec.levels.inbound) == (before.spec.timings, ("hold",))
    assert "expiry 2h is longer than openAtMost 1h" in after.problems[0].why


@pytest.mark.parametrize("bearer", Bearer)
def test_a_misspelt_knob_is_said(bearer: Bearer) -> None:
    (problem,) = read(bearer, {}, {"hotswitch.io/level-inbound": "hold"}).problems
    assert (problem.field, f"on a {bearer}" in problem.why) == ("hotswitch.io/level-inbound", True)


def test_headers_are_a_matter_of_the_pod_alone() -> None:
    (problem,) = read(Bearer.NAMESPACE, {}, {names.TRUSTS_PROXY_HEADERS: "false"}).problems
    assert problem.field == names.TRUSTS_PROXY_HEADERS


def test_the_mode_as_an_annotation_and_a_knob_as_a_label_are_said() -> None:
    knobs = read(Bearer.POD, {names.EXPIRY: "5m"}, {names.MODE_LABEL: "off"})
    assert knobs.spec == Knobs().spec
    assert {problem.field for problem in knobs.problems} == {names.MODE_LABEL, names.EXPIRY}


def test_what_hotswitch_writes_itself_is_no_knob() -> None:
    assert read(Bearer.POD, {}, dict.fromkeys(NO_KNOBS, "anything")).problems == ()
