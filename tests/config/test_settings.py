"""What is known of policies, namespaces and pods: the last valid word of each stays, answers follow changes (I2)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.api import names
from hotswitch.config import condition, explain
from hotswitch.config.settings import Settings
from hotswitch.model import Level, Mode
from tests.config.objects import ROOT, TRUSTS_NOT, known, manifest, pod

pytestmark = pytest.mark.unit
AUTO = {"mode": "auto", "optIn": "all"}
WEB = {"matchLabels": {"app": "web"}}
NAMES = ["mode", "levels", "inbound", "timings", "expiry", "selector", "matchLabels", "alerts", "labels"]
FIELDS = st.sampled_from(NAMES)
CODE = {"code": "HSW0101", "reason": "so it is"}
RECEIVER = {"name": "a", "type": "slack"}


def mode_of(found: Settings, **pod_is: Any) -> Mode:
    return pod(found, **pod_is).policy.mode


# ---- who may say what ----


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"optIn": "all"}, "spec.optIn"),
        ({"bounds": {"expiry": {"max": "9h"}}}, "spec.bounds"),
        ({"accept": [{"code": "HSW0101", "reason": "mine"}]}, "spec.accept[0]"),
        ({"budgets": {"mesh": 0}}, "spec.budgets.mesh"),
        ({"budgets": {"node": 0}}, "spec.budgets.node"),
        ({"selector": {"namespaces": ["other"]}}, "spec.selector.namespaces"),
        ({"alerts": {"receivers": [{**RECEIVER, "url": "https://10.0.0.1"}]}}, "spec.alerts.receivers[0].url"),
        (
            {
                "alerts": {
                    "receivers": [{**RECEIVER, "secretRef": {"name": "a", "key": "b"}, "allowNetworks": ["10.0.0.0/8"]}]
                }
            },
            "spec.alerts.receivers[0].allowNetworks",
        ),
        ({"selector": {"matchLabels": {"app": "web"}}, "budgets": {"namespace": 0}}, "spec.budgets.namespace"),
    ],
)
def test_what_a_namespace_may_not_say_counts_for_nothing(spec: Any, field: str) -> None:  # I2
    found = known(("shop", {**spec, "mode": "off"}))
    got = pod(found, app="web")
    assert [problem.field for problem in got.problems] == [field]
    assert got.policy.mode is Mode.OFF, "the rest of the policy is in force"
    assert {name: origin.source for name, origin in got.provenance.items() if origin.source != "default"} in (
        {"mode": "HotSwitchPolicy shop/p0"},
        {"mode": "HotSwitchPolicy shop/p0", "alerts.receivers.shop/p0/a": "HotSwitchPolicy shop/p0"},
    )
    assert all(each.receiver.allow_networks == () for each in got.receivers)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"selector": WEB, "accept": [CODE]}, "spec.accept[0]"),
        ({"accept": [{**CODE, "namespaces": ["shop"]}, {**CODE, "selector": WEB}]}, "spec.accept[1]"),
        ({"selector": WEB, "bounds": {"expiry": {"max": "9h"}}}, "spec.bounds"),
        ({"selector": WEB, "optIn": "all"}, "spec.optIn"),
    ],
)
def test_labels_alone_get_nothing_from_the_mesh(spec: Any, field: str) -> None:  # I2
    found = known((ROOT, spec))
    got = pod(found, namespace="batch", app="web")
    assert [problem.field for problem in found.problems()] == [field]
    assert (got.accepted, got.provenance["optIn"].value) == (frozenset(), "label")


@pytest.mark.parametrize("selector", [{"matchLabels": {"app": "web"}}, {"namespaces": ["shop"]}])
def test_the_budget_of_the_mesh_comes_from_no_policy_that_selects(selector: Any) -> None:
    found = known((ROOT, {"selector": selector, "budgets": {"mesh": 0}}))
    assert pod(found, app="web").budgets.mesh.of(10) == 2
    assert found.problems()[0].field == "spec.budgets.mesh"


# ---- the last valid word ----


def test_a_policy_that_becomes_invalid_stays_as_it_was() -> None:
    found = known((ROOT, AUTO))
    broken = found.put_policy(
        manifest(ROOT, "p0", {"mode": "sometimes", "levels": {"outbound": ["direct"]}}, generation=2)
    )
    assert (broken.read, broken.generation, len(broken.problems)) == (False, 2, 1)
    got = pod(found)
    assert (got.policy.mode, got.policy.outbound) == (Mode.AUTO, (Level.HOLD,))
    assert str(got.problems[0]).startswith("HotSwitchPolicy istio-system/p0: spec.mode: sometimes:")


def test_a_policy_made_anew_under_its_name_has_no_past() -> None:
    found = known((ROOT, AUTO))
    found.put_policy(manifest(ROOT, "p0", {"mode": "sometimes"}, uid="another"))
    assert mode_of(found) is Mode.OBSERVE


def test_a_policy_that_cannot_be_read_at_first_sight_makes_its_namespace_observe() -> None:
    found = known((ROOT, AUTO), ("shop", {"selector": {"matchLabels": 3}, "mode": "off"}))
    assert (mode_of(found), mode_of(found, namespace="batch")) == (Mode.OBSERVE, Mode.AUTO)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(junk=JUNK)
def test_junk_in_a_policy_changes_nothing_or_takes_away(junk: Any) -> None:  # I2
    found = known((ROOT, AUTO), ("shop", {"levels": {"inbound": ["hold"]}}))
    before = pod(found).policy
    written = found.put_policy(manifest("shop", "p1", junk))
    after = pod(found).policy
    assert after == before or written.read
    assert Level.DIRECT not in after.inbound and Level.RESCUE not in after.outbound


@pytest.mark.parametrize("spec", [None, {}, [], "x", 3, {"mode": None}, {"levels": []}, {"accept": {}}])
def test_no_spec_whatever_is_too_strange(spec: Any) -> None:
    found = known((ROOT, AUTO), ("shop", spec))
    assert mode_of(found) in (Mode.AUTO, Mode.OBSERVE)


def test_a_pods_garbage_leaves_it_as_it_was() -> None:
    found = known((ROOT, {**AUTO, "levels": {"inbound": ["rescue", "direct"]}}))
    before = pod(found, {**TRUSTS_NOT, names.LEVELS_INBOUND: "direct"})
    after = pod(found, {**TRUSTS_NOT, names.LEVELS_INBOUND: "%$!"})
    assert after.policy == before.policy
    assert [problem.field for problem in after.problems] == [names.LEVELS_INBOUND]
    assert [str(problem.object_ref) for problem in found.problems()] == ["Pod shop/web-0"]


def test_a_namespaces_garbage_leaves_its_pods_as_they_were() -> None:
    found = known((ROOT, {"mode": "auto"}), mode="auto")
    problems = found.put_namespace("shop", "n1", {names.MODE_LABEL: "automatic"}, {})
    assert (mode_of(found), problems[0].field) == (Mode.AUTO, names.MODE_LABEL)


def test_a_namespace_made_anew_has_no_past() -> None:
    found = known((ROOT, {"mode": "auto"}), mode="auto")
    found.put_namespace("shop", "n2", {names.MODE_LABEL: "automatic"}, {})
    assert mode_of(found) is Mode.OBSERVE


# ---- answers follow changes ----


def test_an_answer_follows_every_change_it_rests_on() -> None:
    found = known((ROOT, AUTO))
    assert mode_of(found) is Mode.AUTO
    found.put_namespace("shop", "n1", {names.MODE_LABEL: "observe"}, {})
    assert mode_of(found) is Mode.OBSERVE
    assert mode_of(found, mode="off") is Mode.OFF
    found.put_namespace("shop", "n1", {}, {})
    assert (mode_of(found, mode="off"), mode_of(found)) == (Mode.OFF, Mode.AUTO)
    found.put_policy(manifest("shop", "own", {"selector": {"matchLabels": {"app": "web"}}, "mode": "off"}))
    assert (mode_of(found, app="web"), mode_of(found, app="db")) == (Mode.OFF, Mode.AUTO)
    found.drop_policy("shop", "own")
    assert mode_of(found, app="web") is Mode.AUTO
    found.drop_policy(ROOT, "p0")
    assert mode_of(found, app="web") is Mode.OBSERVE


def test_in_a_namespace_that_is_not_known_nobody_is_acted_on() -> None:  # I2
    found = known((ROOT, AUTO))
    assert mode_of(found, namespace="new") is Mode.OBSERVE
    found.put_namespace("new", "n9", {}, {})
    assert mode_of(found, namespace="new") is Mode.AUTO
    found.drop_namespace("new")
    assert mode_of(found, namespace="new") is Mode.OBSERVE


def test_nothing_is_worked_out_again_while_nothing_changes() -> None:
    found = known((ROOT, AUTO))
    first = pod(found, {"kubernetes.io/x": "1", names.STATUS: "{}"}, app="web")
    revision = found.revision
    found.put_policy(manifest(ROOT, "p0", AUTO, resourceVersion="2"))
    found.put_namespace("shop", "n1", {"a": "b"}, {"c": "d"})
    assert found.revision == revision
    assert pod(found, {"kubernetes.io/x": "2", names.STATUS: '{"v":1}'}, app="web") is first


def test_pods_that_say_the_same_share_one_answer_but_not_their_problems() -> None:
    found = known((ROOT, AUTO))
    one, other = (found.for_pod("shop", name, name, {"i": name}, {}) for name in ("web-0", "web-1"))
    assert one is other
    wrong = found.for_pod("shop", "web-2", "web-2", {}, {names.EXPIRY: "x"})
    assert (wrong.policy, wrong.problems != one.problems) == (one.policy, True)


def test_a_forgotten_pods_problems_are_forgotten() -> None:
    found = known()
    pod(found, {names.EXPIRY: "x"})
    found.forget_pod("shop-u1")
    assert found.problems() == ()


# ---- what people see ----


def test_explain_says_where_each_value_came_from_and_what_cut_it() -> None:
    found = known((ROOT, {**AUTO, "levels": {"inbound": ["rescue", "direct"]}}), mode="observe")
    lines = explain.lines(pod(found, {names.HOLD_DOWN: "1s", names.BUDGET: "no"}), defaults=False)
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "mode observe Namespace shop" in text and "HotSwitchPolicy istio-system/p0 gives auto" in text
    assert "levels.inbound rescue, hold the pod" in text
    assert 'without direct: needs the annotation hotswitch.io/trusts-proxy-headers: "false"' in text
    assert "timings.holdDown 30s the pod" in text and "asks for 1s; the mesh allows at least 30s" in text
    assert "problem: Pod shop/web-0: hotswitch.io/budget: no: is not a count like 3 or a share like 25%" in text
    assert "staleAfter" not in text


def test_explain_shows_every_value_there_is() -> None:
    text = "\n".join(explain.lines(pod(known())))
    assert all(f"timings.{name} " in text for name in ("expiry", "holdDown", "recoverProbes"))


def test_the_condition_says_whether_the_policy_is_in_force() -> None:
    found = Settings(ROOT)
    fine = condition.status(found.put_policy(manifest("shop", "own", AUTO | {"optIn": None}, generation=1)), {}, 0.0)
    assert fine is not None and fine["observedGeneration"] == 1
    assert (fine["conditions"][0]["status"], fine["conditions"][0]["reason"]) == ("True", "InForce")
    refused = condition.status(found.put_policy(manifest("shop", "own", AUTO, generation=2)), fine, 60.0)
    assert refused is not None and refused["conditions"][0]["reason"] == "NotAllowed"
    assert refused["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:01:00Z"
    wrong = condition.status(found.put_policy(manifest("shop", "own", {"mode": "x"}, generation=3)), refused, 120.0)
    assert wrong is not None and wrong["conditions"][0]["reason"] == "InvalidValue"
    assert "spec.mode: x:" in wrong["conditions"][0]["message"]
    assert wrong["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:01:00Z", "it was False before"


def test_a_status_that_says_the_same_is_not_written_again() -> None:
    policy = Settings(ROOT).put_policy(manifest("shop", "own", {}, generation=1))
    others = {"conditions": [{"type": "Other", "status": "True"}]}
    first = condition.status(policy, others, 0.0)
    assert first is not None and [each["type"] for each in first["conditions"]] == ["Other", "Valid"]
    assert condition.status(policy, first, 60.0) is None
