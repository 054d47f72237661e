"""Who may order a bypass that accepts what the preflight refuses: whoever holds the verb `accept` there (I2)."""

from __future__ import annotations

import copy

import pytest
import yaml

from hotswitch.sandbox.manifests import MANIFESTS
from tests.manifests.callers import MERGE, await_that, path_of
from tests.manifests.keys import POD
from tests.manifests.servers import connected

SHOP, OTHER = "hotswitch-test-orders", "hotswitch-test-orders-2"
WHO = f"system:serviceaccount:{SHOP}:oncall"
RBAC = "rbac.authorization.k8s.io"
ACCEPT, WORD, UNTIL = "hotswitch.io/override-accept", "hotswitch.io/override", "hotswitch.io/override-until"
PATCHES = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create", "patch"]}
ACCEPTS = {"apiGroups": ["hotswitch.io"], "resources": ["hotswitchpolicies"], "verbs": ["accept"]}
SAYS = "hotswitch.io/override-accept needs the verb accept"


def grant(server, name, namespace, rule):
    metadata = {"name": name, "namespace": namespace}
    subject = {"kind": "ServiceAccount", "name": "oncall", "namespace": SHOP}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    reference = {"apiGroup": RBAC, "kind": "Role", "name": name}
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": reference}
    server.apply(role)
    server.apply({**binding, "subjects": [subject]})
    return binding


def pod(namespace, name="web", **annotations):
    obj = copy.deepcopy(POD)
    obj["metadata"] |= {"name": name, "namespace": namespace, "annotations": annotations}
    return obj


def annotate(server, place, who=WHO, query="", **values):
    return server.send("PATCH", path_of(place) + query, {"metadata": {"annotations": values}}, MERGE, as_account=who)


@pytest.fixture(
    scope="module",
    params=[pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=pytest.mark.e2e)],
)
def server(request):
    policy = list(yaml.safe_load_all((MANIFESTS / "base/admission/orders.yaml").read_text()))
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (SHOP, OTHER)]
    with connected(request.param, WHO) as caller:
        for obj in (*spaces, *policy):
            caller.apply(obj)
        for namespace in (SHOP, OTHER):
            grant(caller, "patches", namespace, PATCHES)
            caller.apply(pod(namespace))
        await_that(lambda: annotate(caller, pod(SHOP), tried="yes").status == 200, "the rights are in force")
        # Nothing is written: what is let through before the policy is in force would be no change afterwards.
        asked = "?dryRun=All"
        await_that(lambda: SAYS in annotate(caller, pod(SHOP), query=asked, **{ACCEPT: "HSW0101"}).message, "in force")
        yield caller
        for obj in (pod(SHOP), pod(OTHER), *reversed(policy), *spaces):
            caller.remove(obj)


@pytest.fixture
def accepting(server):
    """The right for it, in one namespace."""
    binding = grant(server, "accepts", SHOP, ACCEPTS)
    await_that(lambda: annotate(server, pod(SHOP), **{ACCEPT: "HSW0999"}).status == 200, "accept is granted")
    yield
    annotate(server, pod(SHOP), "", **{ACCEPT: None, WORD: None, UNTIL: None})
    server.remove(binding)
    await_that(lambda: annotate(server, pod(SHOP), **{ACCEPT: "HSW0998"}).status == 403, "accept is taken away")


def test_who_may_patch_pods_only_cannot_accept(server):
    refused = annotate(server, pod(SHOP), **{ACCEPT: "HSW0101"})
    assert refused.status == 403 and SAYS in refused.message
    assert annotate(server, pod(SHOP), **{WORD: "rescue", UNTIL: "2026-03-01T12:30:00Z"}).status == 200
    annotate(server, pod(SHOP), **{WORD: None, UNTIL: None})


def test_a_pod_is_not_made_with_it(server):
    made = pod(SHOP, "made", **{ACCEPT: "HSW0101"})
    refused = server.send("POST", path_of(made).rpartition("/")[0], made, as_account=WHO)
    assert refused.status == 403 and SAYS in refused.message


def test_who_holds_the_right_accepts_where_it_holds(server, accepting):
    assert annotate(server, pod(SHOP), **{ACCEPT: "HSW0101,HSW0202", WORD: "direct"}).status == 200
    refused = annotate(server, pod(OTHER), **{ACCEPT: "HSW0101"})
    assert refused.status == 403 and SAYS in refused.message


def test_what_another_accepted_is_neither_prolonged_nor_changed(server):
    stands = {ACCEPT: "HSW0101", WORD: "rescue", UNTIL: "2026-03-01T12:30:00Z"}
    assert annotate(server, pod(SHOP), "", **stands).status == 200  # by the administrator
    for changed in ({UNTIL: "2026-03-02T12:30:00Z"}, {WORD: "direct"}, {ACCEPT: "HSW0202"}):
        assert SAYS in annotate(server, pod(SHOP), **changed).message
    assert annotate(server, pod(SHOP), other="x").status == 200
    assert annotate(server, pod(SHOP), **{ACCEPT: None, UNTIL: None, WORD: None}).status == 200
