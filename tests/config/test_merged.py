"""Mesh, namespace and workload together: safety is intersected, timings are nearest within bounds (I2, S4.6)."""

from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.api.knobs import Knobs
from hotswitch.api.values import Allowance
from hotswitch.config.agentfile import FAST
from hotswitch.config.layers import DEFAULT, Bearing
from hotswitch.config.merged import effective, merge
from hotswitch.config.objects import ObjectRef, policy_object
from hotswitch.model import Dependency, Level, Mode, Policy, Reaction
from tests.config.objects import ROOT, TRUSTS_NOT, known, manifest, pod

pytestmark = pytest.mark.unit
R, D, H = Level.RESCUE, Level.DIRECT, Level.HOLD
AUTO: dict[str, Any] = {"mode": "auto"}
WEB = {"matchLabels": {"app": "web"}}


def test_a_fresh_install_observes_and_gives_nothing_away() -> None:
    got = pod(known())
    assert got.policy == Policy(dependencies=got.policy.dependencies)
    assert (got.policy.mode, got.policy.inbound, got.policy.outbound) == (Mode.OBSERVE, (R, H), (H,))
    assert (got.accepted, got.accepted_by_order, got.receivers) == (frozenset(), frozenset(), ())
    assert {origin.source for origin in got.provenance.values()} == {DEFAULT}


@pytest.mark.parametrize(
    ("mesh", "space", "namespace", "workload", "mode"),
    [
        ({}, {}, "auto", "auto", Mode.OBSERVE),  # the mesh gives no more
        (AUTO, {}, "", "", Mode.OBSERVE),  # nobody asks
        (AUTO, {}, "auto", "", Mode.AUTO),
        (AUTO, {}, "", "auto", Mode.AUTO),
        (AUTO, AUTO, "", "", Mode.AUTO),  # a policy of one's own asks as well
        (AUTO, {}, "observe", "auto", Mode.OBSERVE),
        (AUTO, {}, "auto", "observe", Mode.OBSERVE),
        (AUTO, {}, "auto", "off", Mode.OFF),
        (AUTO, {"mode": "off"}, "auto", "auto", Mode.OFF),
        ({"mode": "off"}, AUTO, "auto", "auto", Mode.OFF),
        ({**AUTO, "optIn": "all"}, {}, "", "", Mode.AUTO),
        ({**AUTO, "optIn": "all"}, {}, "", "off", Mode.OFF),
    ],
)
def test_the_most_careful_mode_wins(mesh: Any, space: Any, namespace: str, workload: str, mode: Mode) -> None:
    found = known((ROOT, mesh), ("shop", space), mode=namespace)
    assert pod(found, mode=workload).policy.mode is mode if workload else pod(found).policy.mode is mode


@pytest.mark.parametrize(
    ("mesh", "space", "workload", "inbound"),
    [
        ({}, ["rescue", "direct"], "", (R, H)),
        (["direct", "rescue"], None, "", (R, D, H)),  # the order is fixed
        (["rescue", "direct"], ["direct"], "", (D, H)),
        (["rescue", "direct"], None, "rescue", (R, H)),
        (["rescue"], None, "direct", (H,)),
        (["hold"], ["rescue"], "rescue,direct", (H,)),
        ([], None, "rescue", (H,)),
    ],
)
def test_levels_are_intersected(mesh: Any, space: Any, workload: str, inbound: tuple[Level, ...]) -> None:
    policies = [(ROOT, {"levels": {"inbound": mesh}}) if mesh != {} else (ROOT, {})]
    policies += [("shop", {"levels": {"inbound": space}})] if space is not None else []
    annotations = {names.LEVELS_INBOUND: workload} if workload else {}
    assert pod(known(*policies), {**TRUSTS_NOT, **annotations}).policy.inbound == inbound


def test_a_direction_that_is_not_allowed_is_held() -> None:
    found = known((ROOT, {"levels": {"outbound": ["direct"]}}))
    got = pod(found, {names.DIRECTIONS: "inbound"})
    assert (got.policy.inbound, got.policy.outbound) == ((R, H), (H,))
    assert (got.provenance["levels.outbound"].source, got.provenance["levels.outbound"].value) == ("the pod", "hold")


@pytest.mark.parametrize(
    ("said", "inbound"), [(None, (R, H)), ("true", (R, H)), ("maybe", (R, H)), ("false", (R, D, H))]
)
def test_direct_inbound_needs_a_word_on_proxy_headers(said: str | None, inbound: tuple[Level, ...]) -> None:
    """Without the proxy any client can forge them."""
    found = known((ROOT, {"levels": {"inbound": ["rescue", "direct"], "outbound": ["direct"]}}))
    got = pod(found, {} if said is None else {names.TRUSTS_PROXY_HEADERS: said})
    assert (got.policy.inbound, got.policy.outbound) == (inbound, (D, H))


@pytest.mark.parametrize(
    ("entry", "namespace", "labels", "codes"),
    [
        ({}, "shop", {}, {"HSW0101"}),
        ({"namespaces": ["shop"]}, "shop", {}, {"HSW0101"}),
        ({"namespaces": ["batch"]}, "shop", {}, set()),
        ({"selector": WEB, "namespaces": ["shop"]}, "shop", {"app": "web"}, {"HSW0101"}),
        ({"selector": WEB, "namespaces": ["shop"]}, "shop", {"app": "db"}, set()),
        ({"selector": WEB}, "shop", {"app": "web"}, set()),  # whoever wants can wear a label
        ({"selector": WEB, "namespaces": ["batch"]}, "shop", {"app": "web"}, set()),
    ],
)
def test_a_code_is_accepted_only_where_it_is_named(entry: Any, namespace: str, labels: Any, codes: set[str]) -> None:
    found = known((ROOT, {"accept": [{"code": "HSW0101", "reason": "so it is", **entry}]}))
    assert pod(found, namespace=namespace, **labels).accepted == codes


def test_a_code_of_a_policy_that_selects_other_pods_is_not_accepted() -> None:
    selector = {**WEB, "namespaces": ["shop"]}
    found = known((ROOT, {"selector": selector, "accept": [{"code": "HSW0101", "reason": "so it is"}]}))
    assert (pod(found, app="web").accepted, pod(found, app="db").accepted) == ({"HSW0101"}, frozenset())


def test_no_namespace_accepts_a_code_for_itself() -> None:  # I2
    found = known(("shop", {"accept": [{"code": "HSW0101", "reason": "mine"}]}))
    assert pod(found).accepted == frozenset()
    assert "root namespace istio-system" in pod(found).problems[0].why


def test_an_order_may_accept_what_the_mesh_leaves_to_orders() -> None:
    entries = [{"code": "HSW0101", "reason": "a"}, {"code": "HSW0102", "reason": "b", "onlyByOrder": True}]
    got = pod(known((ROOT, {"accept": entries})))
    assert got.accepts() == {"HSW0101"}
    assert got.accepts(["HSW0102", "HSW0103"]) == {"HSW0101", "HSW0102"}


def test_budgets_are_the_least_of_what_is_said() -> None:
    mesh = {"budgets": {"mesh": 4, "node": "10%", "namespace": "20%", "workload": 3}}
    found = known((ROOT, mesh), ("shop", {"budgets": {"namespace": 2, "workload": "50%"}}))
    got = pod(found, {names.BUDGET: "2"}).budgets
    assert (got.mesh, got.node) == (Allowance(4), Allowance(percent=10))
    assert (got.namespace, got.workload) == (Allowance(2, 20), Allowance(2, 50))
    assert [got.namespace.of(total) for total in (1, 4, 6, 100)] == [1, 1, 2, 2]


def test_actuators_keep_the_order_of_the_mesh() -> None:
    found = known((ROOT, {"actuators": ["exec", "helper"]}), ("shop", {"actuators": ["helper", "exec"]}))
    assert pod(found).actuators == ("exec", "helper")
    assert pod(found, {names.ACTUATORS: "helper"}).actuators == ("helper",)


def test_a_dependency_is_acted_on_only_if_all_want_it() -> None:
    found = known(
        (ROOT, {"dependencies": {"noConfiguration": "say"}}), ("shop", {"dependencies": {"noConfiguration": "act"}})
    )
    policy = pod(found).policy
    assert policy.reaction(Dependency.NO_CONFIGURATION) is Reaction.SAY
    assert policy.reaction(Dependency.CERTIFICATE_EXPIRED) is Reaction.ACT


# ---- among policies of the root namespace ----


def test_a_nearer_policy_of_the_mesh_replaces_a_farther_one() -> None:
    found = known(
        (ROOT, {"levels": {"outbound": ["hold"]}}),
        (ROOT, {"selector": {"namespaces": ["shop"]}, "levels": {"outbound": ["rescue", "direct"]}}),
        (ROOT, {"selector": {**WEB, "namespaces": ["shop"]}, "levels": {"outbound": ["direct"]}}),
    )
    assert pod(found, app="db").policy.outbound == (R, D, H)
    assert pod(found, app="web").policy.outbound == (D, H)
    assert pod(found, app="db", namespace="batch").policy.outbound == (H,)


def test_a_policy_of_the_mesh_that_selects_by_labels_alone_takes_away_and_gives_nothing() -> None:  # I2
    wide, narrow = {"levels": {"inbound": ["direct"], "outbound": ["rescue"]}}, {"levels": {"inbound": ["hold"]}}
    found = known((ROOT, {}), (ROOT, {"selector": WEB, **wide}), (ROOT, {"selector": WEB, **narrow}))
    assert (pod(found, app="db").policy.inbound, pod(found, app="web").policy.inbound) == ((R, H), (H,))
    assert pod(found, TRUSTS_NOT, app="web").policy.outbound == (H,)


def test_two_policies_of_one_reach_give_what_both_give() -> None:
    found = known((ROOT, {"levels": {"outbound": ["direct"]}}), (ROOT, {"levels": {"outbound": ["rescue", "direct"]}}))
    assert pod(found).policy.outbound == (D, H)


def test_a_selecting_policy_of_the_mesh_asks_for_auto_in_its_pods_stead() -> None:
    found = known((ROOT, AUTO), (ROOT, {"selector": WEB, "mode": "auto"}))
    assert (pod(found, app="web").policy.mode, pod(found, app="db").policy.mode) == (Mode.AUTO, Mode.OBSERVE)


def test_of_two_timings_the_older_policy_has_its() -> None:
    found = known(("shop", {"timings": {"expiry": "1m"}}), ("shop", {"timings": {"expiry": "2m"}}))
    assert pod(found).policy.expiry_s == 60


# ---- timings ----


@pytest.mark.parametrize(
    ("policies", "annotation", "expiry_s"),
    [
        ([], None, 300),
        ([(ROOT, "1m")], None, 60),
        ([(ROOT, "1m"), ("shop", "2m")], None, 120),
        ([(ROOT, "1m"), ("shop", "2m")], "3m", 180),
        ([(ROOT, "1m")], "2h", 3600),  # as long as the mesh lets anything be open
    ],
)
def test_the_nearest_timing_wins(policies: Any, annotation: str | None, expiry_s: float) -> None:
    found = known(*((namespace, {"timings": {"expiry": expiry}}) for namespace, expiry in policies))
    assert pod(found, {names.EXPIRY: annotation} if annotation else {}).policy.expiry_s == expiry_s


@pytest.mark.parametrize(
    ("name", "value", "field", "got_s"),
    [
        (names.OPEN_AT_MOST, "2h", "open_at_most_s", 3600),
        (names.OPEN_AT_MOST, "10m", "open_at_most_s", 600),
        (names.HOLD_DOWN, "1s", "hold_down_s", 30),
        (names.HOLD_DOWN, "5m", "hold_down_s", 300),
        (names.HOLD_DOWN_MAX, "1m", "hold_down_max_s", 3600),
        (names.STALE_AFTER, "10h", "stale_after_s", 36000),
    ],
)
def test_a_timing_that_would_give_more_away_stays_with_the_mesh(
    name: str, value: str, field: str, got_s: float
) -> None:
    assert getattr(pod(known(), {name: value}).policy, field) == got_s


def test_bounds_of_the_mesh_leave_more_room_or_less() -> None:
    bounds = {"openAtMost": {"max": "4h"}, "holdDown": {"min": "5s"}, "expiry": {"min": "1m", "max": "2m"}}
    found = known((ROOT, {"bounds": bounds, "timings": {"expiry": "10s"}}))
    assert pod(found).policy.expiry_s == 10  # the mesh's own value is its own
    got = pod(found, {names.OPEN_AT_MOST: "3h", names.HOLD_DOWN: "1s", names.EXPIRY: "5s"}).policy
    assert (got.open_at_most_s, got.hold_down_s, got.expiry_s) == (10800, 5, 60)


def test_an_opening_that_must_end_early_expires_early() -> None:
    got = pod(known(), {names.OPEN_AT_MOST: "1m"})
    assert (got.policy.expiry_s, got.provenance["timings.expiry"].source) == (60, "the pod")


def test_a_long_hold_down_raises_its_maximum() -> None:
    assert pod(known(), {names.HOLD_DOWN: "2h"}).policy.hold_down_max_s == 7200


def test_recovery_may_not_be_drawn_out() -> None:
    got = pod(known(), {names.RECOVER_AFTER: "10m", names.RECOVER_PROBES: "7"}).policy.thresholds
    assert (got.recover_after_s, got.recover_probes) == (60, 7)


@pytest.mark.parametrize(
    ("mesh", "annotation", "fast"),
    [
        ({}, "fast", False),
        ({"profile": "fast"}, None, True),
        ({"profile": "fast"}, "default", False),
        ({"bounds": {"profile": "fast"}}, None, False),
        ({"bounds": {"profile": "fast"}}, "fast", True),
        ({"profile": "fast", "bounds": {"profile": "default"}}, "fast", False),
    ],
)
def test_nobody_is_faster_than_the_mesh_allows(mesh: Any, annotation: str | None, fast: bool) -> None:
    got = pod(known((ROOT, mesh)), {names.PROFILE: annotation} if annotation else {}).policy.thresholds
    assert (got.probe_timeout_s == FAST.probe_timeout_s) is fast


# ---- alerts ----


def test_alert_labels_are_the_nearest_name_by_name() -> None:
    found = known((ROOT, {"alerts": {"labels": {"team": "sre", "tier": "1"}, "repeat": "1h"}}))
    got = pod(found, {names.ALERT_LABELS: "team=shop,area=web"})
    assert got.alert_labels == {"team": "shop", "tier": "1", "area": "web"}
    assert got.alert_repeat_s == 3600


def test_receivers_add_up_and_know_where_their_secrets_are() -> None:
    secret = {"secretRef": {"name": "chat", "key": "url"}}
    found = known(
        (ROOT, {"alerts": {"receivers": [{"name": "am", "type": "alertmanager", "url": "https://am.example.org"}]}}),
        ("shop", {"alerts": {"receivers": [{"name": "am", "type": "slack", **secret}]}}),
        ("batch", {"alerts": {"receivers": [{"name": "other", "type": "slack", **secret}]}}),
    )
    assert [(each.namespace, each.key) for each in pod(found).receivers] == [
        (ROOT, "istio-system/p0/am"),
        ("shop", "shop/p1/am"),
    ]


# ---- without Settings ----


@pytest.mark.parametrize("merged", [effective, merge])
def test_a_policy_that_nobody_scoped_accepts_nothing_either(merged: Any) -> None:  # I2
    entry = {"code": "HSW0101", "reason": "mine"}
    policies = [policy_object(manifest("shop", "own", {"accept": [entry], "levels": {"inbound": []}}))]
    bearing = Bearing(ObjectRef(kind="Pod", name="web-0", namespace="shop"), {}, Knobs())
    got = merged(policies, root_namespace=ROOT, namespace=None, pod=bearing)
    assert (got.accepted, got.policy.inbound) == (frozenset(), (H,))


@pytest.mark.parametrize(
    ("mesh", "space", "annotations", "every_s", "source"),
    [
        ({}, {}, {}, None, DEFAULT),
        ({"every": "24h"}, {}, {}, 86400.0, "HotSwitchPolicy istio-system/p0"),
        ({"every": "24h"}, {"every": "1h"}, {}, 3600.0, "HotSwitchPolicy shop/p1"),
        ({"every": "24h"}, {}, {names.DRILL_EVERY: "2h"}, 7200.0, "the pod"),
        ({"every": "24h"}, {}, {names.DRILL_EVERY: "30s"}, 86400.0, "HotSwitchPolicy istio-system/p0"),
        ({"every": "24h"}, {}, {names.DRILL: "off"}, None, "the pod"),
    ],
)
def test_the_nearest_says_when_drills_are(  # S4.4, S4.6
    mesh: Any, space: Any, annotations: dict[str, str], every_s: float | None, source: str
) -> None:
    got = pod(known((ROOT, {"drill": mesh}), ("shop", {"drill": space})), annotations)
    assert (got.drill.every_s, got.provenance["drill.every"].source) == (every_s, source)
    assert (got.drill.for_s, got.provenance["drill.for"].value) == (5.0, "5s")
    assert [each.field for each in got.problems] == ([names.DRILL_EVERY] if "30s" in annotations.values() else [])


@pytest.mark.parametrize(("field", "value"), [("every", "59s"), ("for", "61s"), ("for", "500ms"), ("every", "daily")])
def test_a_drill_that_is_no_drill_is_a_problem_and_no_schedule(field: str, value: str) -> None:  # I2
    got = pod(known((ROOT, {"drill": {field: value}})))
    assert [(each.field, each.value) for each in got.problems] == [(f"spec.drill.{field}", value)]
    assert got.drill.every_s is None
