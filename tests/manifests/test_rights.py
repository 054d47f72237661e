"""Which rights each tier gives the controller: by default none that changes a pod, and each for a reason (A9, S4.1)."""

from __future__ import annotations

import pytest

from hotswitch.cluster.kinds import ISTIO
from hotswitch.sandbox.manifests import render
from tests.manifests.shipped import OPT_INS, TIERS, files, rights, rules, said, tier, with_opt_ins

pytestmark = pytest.mark.unit

POWERFUL = {"pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers", "nodes/proxy"}
WRITES = {"create", "update", "patch", "delete", "deletecollection", "bind", "escalate", "impersonate"}


def writes(objects):
    return {right for right in rights(objects) if right[4] in WRITES}


@pytest.mark.parametrize("name", TIERS)
def test_no_tier_can_enter_a_pod(name):
    assert {right for right in rights(tier(name)) if right[2] in POWERFUL} == set()


@pytest.mark.parametrize("name", TIERS)
def test_no_tier_can_patch_a_pod_but_its_status(name):
    assert {right for right in writes(tier(name)) if right[2] == "pods"} == set()


@pytest.mark.parametrize("name", TIERS)
def test_no_tier_reads_secrets_but_by_name(name):
    read = {right for right in rights(tier(name)) if right[2] == "secrets"}
    assert read == {("istio-system", "", "secrets", "hotswitch-receivers", "get")}


@pytest.mark.parametrize("name", TIERS)
def test_nothing_is_granted_by_a_wildcard(name):
    for rule in rules(tier(name)):
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert "nonResourceURLs" not in rule


@pytest.mark.parametrize("name", TIERS)
def test_no_tier_can_give_itself_rights(name):
    groups = {"rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io"}
    assert {right for right in rights(tier(name)) if right[1] in groups} == set()


def test_observing_writes_nothing_but_words_and_what_is_its_own():
    assert writes(tier("tier-0-observe")) == {
        ("", "", "events", "", "create"),
        ("", "", "events", "", "patch"),
        ("", "hotswitch.io", "hotswitchpolicies/status", "", "patch"),
        ("hotswitch-system", "", "configmaps", "hotswitch-alerts", "update"),
        ("hotswitch-system", "coordination.k8s.io", "leases", "", "create"),
        ("hotswitch-system", "coordination.k8s.io", "leases", "hotswitch-controller", "update"),
    }


def test_rescue_adds_the_status_of_pods():
    added = rights(tier("tier-1-rescue")) - rights(tier("tier-0-observe"))
    assert added == {("", "", "pods/status", "", "patch")}


def test_direct_adds_the_touch_of_endpoint_slices():
    added = rights(tier("tier-2-direct")) - rights(tier("tier-1-rescue"))
    slices = {("", "discovery.k8s.io", "endpointslices", "", verb) for verb in ("list", "patch")}
    assert added == {*slices, ("", "", "services", "", "get")}


def test_endpoints_add_slices_selectors_elections_nodes_istio_config_and_whose_a_token_is():
    added = rights(tier("tier-3-endpoints")) - rights(tier("tier-2-direct"))
    slices = {
        ("", "discovery.k8s.io", "endpointslices", "", verb) for verb in ("get", "watch", "create", "update", "delete")
    }
    nodes = {("", "", "nodes", "", verb) for verb in ("list", "watch")}
    istio = {
        ("", "networking.istio.io", resource, "", verb)
        for resource in ("serviceentries", "destinationrules")
        for verb in ("get", "create", "patch", "delete")
    }
    leases = {("hotswitch-system", "coordination.k8s.io", "leases", "", verb) for verb in ("get", "update", "delete")}
    adopt = {("", "", "services", "", "patch"), *(("", "", "endpoints", "", verb) for verb in ("get", "delete"))}
    tokens = ("", "authentication.k8s.io", "tokenreviews", "", "create")
    assert added == {*slices, *nodes, *leases, *adopt, *istio, tokens}


@pytest.mark.parametrize(
    ("component", "added"),
    [
        ("exec", {("", "", "pods/exec", "", "create"), ("", "", "pods/exec", "", "get")}),
        ("ephemeral", {("", "", "pods/ephemeralcontainers", "", "patch")}),
    ],
)
def test_an_opt_in_adds_its_one_right(tmp_path, component, added):
    chosen = render(with_opt_ins(tmp_path, "tier-1-rescue", component))
    assert rights(chosen) - rights(tier("tier-1-rescue")) == added


def test_every_rule_says_why():
    silent = [f"{rule.file}:{rule.line}" for rule in said() if not rule.comment.startswith("why: ")]
    assert silent == []


def test_every_rule_was_looked_at():
    written = [rule for path in files() for rule in path.read_text().splitlines() if "verbs:" in rule]
    assert len(list(said())) == len(written) > 10


def test_all_that_the_preflight_looks_at_can_be_watched():
    watched = {(group, resource) for _, group, resource, _, verb in rights(tier("tier-0-observe")) if verb == "watch"}
    assert {(kind.group, kind.plural) for kind in ISTIO} <= watched


def test_every_role_is_bound_to_the_controller_alone(tmp_path):
    objects = render(with_opt_ins(tmp_path, "tier-2-direct", *OPT_INS))
    roles = {(obj["kind"], obj["metadata"]["name"]) for obj in objects if obj["kind"] in ("Role", "ClusterRole")}
    bindings = [obj for obj in objects if obj["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    assert {(obj["roleRef"]["kind"], obj["roleRef"]["name"]) for obj in bindings} == roles
    for binding in bindings:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "hotswitch-controller", "namespace": "hotswitch-system"}
        ]
