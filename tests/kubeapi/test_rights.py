"""Which rule permitted what, and which was never needed: how the shipped rights are measured (S4.1)."""

from __future__ import annotations

import pytest

from hotswitch.sandbox.kubeapi.rbac import Rule
from tests.kubeapi.client import pod

pytestmark = pytest.mark.k8s

PODS = "/api/v1/namespaces/{ns}/pods"
GROUP = "rbac.authorization.k8s.io"


def role(name, *rules):
    return {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def rule(resources, verbs):
    return {"apiGroups": [""], "resources": resources, "verbs": verbs}


def binding(name, account="robot"):
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": account}],
    }


@pytest.fixture
def robot(own, embedded):
    own.headers = {"Authorization": f"Bearer {embedded.token('system:serviceaccount:default:robot')}"}
    return own


async def test_denied_request_is_remembered(robot, embedded):
    await robot.get("/api/v1/pods", status=403)
    (denial,) = embedded.denied
    assert denial.user == "system:serviceaccount:default:robot"
    assert (denial.action.verb, denial.action.resource, denial.action.namespace) == ("list", "pods", "")


async def test_needed_rules_are_told_from_spare_ones(robot, embedded):
    embedded.apply([binding("r"), role("r", rule(["pods"], ["get", "list"]), rule(["pods", "services"], ["list"]))])
    await robot.get("/api/v1/pods")
    first, second = (Rule("ClusterRole", "", "r", index) for index in (0, 1))
    assert embedded.rules_used.all[first, "list pods"] == embedded.rules_used.all[second, "list pods"] == 1
    assert embedded.rules_used.needed() == set()
    await robot.get("/api/v1/services")
    assert embedded.rules_used.needed() == {second}


async def test_removed_rule_is_a_missing_right_at_once(robot, embedded):
    embedded.apply([role("r", rule(["pods"], ["list"])), binding("r")])
    await robot.get(PODS)
    embedded.admin.patch("clusterroles", "r", {"rules": []})
    await robot.get(PODS, status=403)


async def test_question_about_a_right_is_no_use_of_it(robot, embedded):
    embedded.apply([role("r", rule(["pods"], ["list"])), binding("r")])
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    review = {**kind, "spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}}
    answer = await robot.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert answer["status"]["allowed"]
    assert Rule("ClusterRole", "", "r", 0) not in embedded.rules_used.needed()


async def test_revoked_token(robot, embedded):
    embedded.tokens.revoke("system:serviceaccount:default:robot")
    await robot.get(PODS, status=401)


async def test_admin_within_the_process_needs_no_right(embedded):
    embedded.admin.create(pod())
    seen = []
    stop = embedded.admin.listen("pods", lambda kind, new, old: seen.append((kind, new["metadata"]["name"])))
    embedded.admin.patch("pods", "web-0", {"status": {"phase": "Running"}}, sub="status")
    embedded.admin.delete("pods", "web-0", grace_s=0)
    stop()
    embedded.admin.create(pod())
    assert seen == [("MODIFIED", "web-0"), ("DELETED", "web-0")]
    assert [each["metadata"]["name"] for each in embedded.admin.list("pods", labels="!app")] == ["web-0"]
    assert embedded.denied == []
