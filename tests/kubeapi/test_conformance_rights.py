"""RBAC, tokens and admission policies say the same on the embedded and on a real API server (S4.1, I6)."""

from __future__ import annotations

import dataclasses

import pytest

from tests.kubeapi.client import NO_NODE, config_map, eventually, pod
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PODS, MAPS = "/api/v1/namespaces/{ns}/pods", "/api/v1/namespaces/{ns}/configmaps"


@pytest.fixture
def robot(api, runner):
    """A ServiceAccount of the test's namespace, by a token of its own, without any right."""
    accounts = "/api/v1/namespaces/{ns}/serviceaccounts"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    runner.run(api.post(accounts, account))
    token = runner.run(api.post(f"{accounts}/robot/token", wanted))["status"]["token"]
    return dataclasses.replace(api, headers={"Authorization": f"Bearer {token}"})


def user(api):
    return f"system:serviceaccount:{api.namespace}:robot"


async def grant(api, *rules):
    """By a Role and its binding in the test's namespace, effective when this returns."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": api.namespace}],
    }
    await api.post(f"{RBAC}/namespaces/{{ns}}/roles", role)
    await api.post(f"{RBAC}/namespaces/{{ns}}/rolebindings", binding)


def rule(resources, verbs, group="", **more):
    return {"apiGroups": [group], "resources": resources, "verbs": verbs, **more}


async def allowed(robot, verb, resource, sub="", name=""):
    attributes = {"verb": verb, "resource": resource, "subresource": sub, "name": name, "namespace": robot.namespace}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    review = {**kind, "spec": {"resourceAttributes": attributes}}
    found = await robot.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return found["status"]["allowed"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (PODS, 'pods is forbidden: User "{user}" cannot list resource "pods" in API group "" in the namespace "{ns}"'),
        ("/api/v1/pods", 'cannot list resource "pods" in API group "" at the cluster scope'),
        (f"{PODS}/x", 'pods "x" is forbidden: User "{user}" cannot get resource "pods" in API group ""'),
        (f"{PODS}/x/log", 'pods "x" is forbidden: User "{user}" cannot get resource "pods/log" in API group ""'),
        (f"{PODS}/x/exec?command=a", 'cannot get resource "pods/exec" in API group "" in the namespace "{ns}"'),
        (
            "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases",
            'leases.coordination.k8s.io is forbidden: User "{user}" cannot list resource "leases" in API group '
            '"coordination.k8s.io" in the namespace "{ns}"',
        ),
        ("/api/v1/namespaces/{ns}", 'cannot get resource "namespaces" in API group "" in the namespace "{ns}"'),
        ("/metrics", 'forbidden: User "{user}" cannot get path "/metrics"'),
    ],
)
async def test_without_a_right_every_request_is_forbidden(api, robot, path, said):
    refused = await robot.get(path, status=403)
    assert (refused["kind"], refused["reason"]) == ("Status", "Forbidden")
    assert said.format(user=user(api), ns=api.namespace) in refused["message"]


async def test_forbidden_comes_before_not_found(api, robot):
    await robot.patch(f"{PODS}/nobody/status", {}, status=403)
    await robot.delete(f"{PODS}/nobody", status=403)
    await robot.post(PODS, pod(), status=403)


async def test_right_of_a_subresource_is_not_that_of_the_whole(api, robot):
    await api.post(PODS, pod())
    await grant(api, rule(["pods/status"], ["patch"]))

    async def granted():
        return await allowed(robot, "patch", "pods", "status")

    await eventually(granted)
    changed = await robot.patch(f"{PODS}/web-0/status", {"metadata": {"annotations": {"a": "b"}}})
    assert changed["metadata"]["annotations"] == {"a": "b"}
    await robot.patch(f"{PODS}/web-0", {"metadata": {"annotations": {"a": "c"}}}, status=403)
    await robot.get(f"{PODS}/web-0", status=403)


async def test_right_to_named_objects_only(api, robot):
    for name in ("mine", "other"):
        await api.post(MAPS, config_map(name))
    await grant(api, rule(["configmaps"], ["get", "list", "watch"], resourceNames=["mine"]))

    async def granted():
        return await allowed(robot, "get", "configmaps", name="mine")

    await eventually(granted)
    await robot.get(f"{MAPS}/mine")
    await robot.get(f"{MAPS}/other", status=403)
    await robot.get(MAPS, status=403)
    found = await robot.get(MAPS, fieldSelector="metadata.name=mine")
    assert [item["metadata"]["name"] for item in found["items"]] == ["mine"]


async def test_right_in_one_namespace_is_none_elsewhere(api, robot):
    await grant(api, rule(["pods"], ["list"]))

    async def granted():
        return await allowed(robot, "list", "pods")

    await eventually(granted)
    await robot.get(PODS)
    await robot.get("/api/v1/pods", status=403)
    await robot.get("/api/v1/namespaces/default/pods", status=403)


async def test_everybody_may_discover_and_nobody_may_look(api, robot):
    assert (await robot.get("/api"))["kind"] == "APIVersions"
    assert await robot.get("/healthz", raw=True) == b"ok"
    access = dataclasses.replace(api.access, headers={}, tls=api.access.anybodys_tls)
    nobody = dataclasses.replace(api, access=access)
    refused = await nobody.get(PODS, status=(401, 403))
    if refused["code"] == 403:  # anonymous requests may be switched off
        assert 'User "system:anonymous" cannot list' in refused["message"]


async def test_token_review_knows_the_account(api, robot):
    token = robot.headers["Authorization"].removeprefix("Bearer ")
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    found = await api.post("/apis/authentication.k8s.io/v1/tokenreviews", {**kind, "spec": {"token": token}})
    assert found["status"]["authenticated"] and found["status"]["user"]["username"] == user(api)
    assert f"system:serviceaccounts:{api.namespace}" in found["status"]["user"]["groups"]
    lost = await api.post("/apis/authentication.k8s.io/v1/tokenreviews", {**kind, "spec": {"token": "x"}})
    assert not lost["status"].get("authenticated")


REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
EXTRA = "authentication.kubernetes.io"


async def bound_token(api, status=201, **spec):
    """Of the audience of agents, bound to the pod web-0, as a kubelet asks for it."""
    whole = {"audiences": ["hotswitch-agent"], "expirationSeconds": 600, **spec}
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": whole}
    return await api.post("/api/v1/namespaces/{ns}/serviceaccounts/robot/token", wanted, status=status)


async def reviewed(api, token, *audiences):
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    found = await api.post(REVIEWS, {**kind, "spec": {"token": token, "audiences": list(audiences)}})
    return found["status"]


async def test_a_token_of_another_audience_is_bound_to_its_pod(api, robot):  # S4.2
    content = pod()
    content["spec"]["serviceAccountName"] = "robot"
    made = await api.post(PODS, content)
    uid = made["metadata"]["uid"]
    told = await bound_token(api, boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": uid})
    token = told["status"]["token"]
    seen = await reviewed(api, token, "hotswitch-agent", "another")
    assert seen["authenticated"] and seen["audiences"] == ["hotswitch-agent"]
    assert seen["user"]["username"] == user(api)
    assert seen["user"]["extra"][f"{EXTRA}/pod-name"] == ["web-0"]
    assert seen["user"]["extra"][f"{EXTRA}/pod-uid"] == [uid]
    assert seen["user"]["extra"].get(f"{EXTRA}/node-name", [NO_NODE]) == [NO_NODE]  # from Kubernetes 1.30 on
    for audiences in (("another",), ()):
        assert not (await reviewed(api, token, *audiences)).get("authenticated")
    asks = dataclasses.replace(api, headers={"Authorization": f"Bearer {token}"})
    await asks.get(PODS, status=401)
    await api.delete(f"{PODS}/web-0", gracePeriodSeconds=0)

    async def refused():
        return not (await reviewed(api, token, "hotswitch-agent")).get("authenticated")

    await eventually(refused)


async def test_a_token_that_cannot_be_bound(api, robot):
    await api.post(PODS, pod())  # of another account
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "web-0"}
    await bound_token(api, status=400, boundObjectRef=bound)
    await bound_token(api, status=404, boundObjectRef={**bound, "name": "nobody"})
    await bound_token(api, status=422, expirationSeconds=10)


@pytest.fixture
def policy(api, runner):
    """Says no in the test's namespace only; its name is the namespace's."""
    name = api.namespace
    constraints = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": resources}
            for resources in (["configmaps"], ["pods/status"])
        ],
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": constraints,
        "matchConditions": [{"name": "kept", "expression": "object.metadata.name.startsWith('kept')"}],
        "variables": [
            {"name": "data", "expression": "has(object.data) ? dyn(object.data) : {}"},
            {"name": "labels", "expression": "has(object.metadata.labels) ? dyn(object.metadata.labels) : {}"},
        ],
        "validations": [
            {"expression": "!('secret' in variables.data)", "message": "no secrets here"},
            {
                "expression": "request.operation != 'UPDATE' || has(request.subResource)",
                "messageExpression": "object.metadata.name + ' stays'",
            },
            {"expression": "!('x' in variables.labels) || variables.labels['x'] == 'y'", "reason": "Forbidden"},
        ],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    bound = {"policyName": name, "validationActions": ["Deny"]}
    runner.run(
        api.post(
            f"{ADMISSION}/validatingadmissionpolicies", {**kind, "kind": "ValidatingAdmissionPolicy", "spec": spec}
        )
    )
    runner.run(
        api.post(
            f"{ADMISSION}/validatingadmissionpolicybindings",
            {**kind, "kind": "ValidatingAdmissionPolicyBinding", "spec": bound},
        )
    )

    async def in_force():
        secret = {**config_map("kept-trial"), "data": {"secret": "x"}}
        return (await api.post(MAPS, secret, dryRun="All", status=(201, 422)))["kind"] == "Status"

    runner.run(eventually(in_force))
    yield name
    runner.run(api.delete(f"{ADMISSION}/validatingadmissionpolicybindings/{name}"))
    runner.run(api.delete(f"{ADMISSION}/validatingadmissionpolicies/{name}"))


async def test_policy_says_no_with_its_message(api, policy):
    refused = await api.post(MAPS, {**config_map("kept"), "data": {"secret": "x"}}, status=422)
    denied = f"ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request"
    assert refused["message"] == f'configmaps "kept" is forbidden: {denied}: no secrets here'
    assert refused["reason"] == "Invalid"
    await api.post(MAPS, {**config_map("other"), "data": {"secret": "x"}})


async def test_policy_sees_the_operation_and_the_reason_is_its_own(api, policy):
    await api.post(MAPS, config_map("kept"))
    refused = await api.patch(f"{MAPS}/kept", {"data": {"a": "2"}}, status=422)
    assert refused["message"].endswith("denied request: kept stays")
    await api.post(MAPS, config_map("kept-2", labels={"x": "z"}), status=403)


async def test_policy_sees_a_subresource_by_its_name(api, policy):
    await api.post(PODS, pod("kept-pod"))
    await api.patch(f"{PODS}/kept-pod/status", {"status": {"phase": "Running"}})
    patch = {"metadata": {"labels": {"x": "z"}}}
    refused = await api.patch(f"{PODS}/kept-pod/status", patch, status=403)
    assert "failed expression: !('x' in variables.labels)" in refused["message"]
    await api.patch(f"{PODS}/kept-pod", patch)  # the policy is not about the whole pod


async def test_policy_that_cannot_be_read(api):
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "a b c"}]}
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
    broken = {**kind, "metadata": {"name": api.namespace}, "spec": spec}
    refused = await api.post(f"{ADMISSION}/validatingadmissionpolicies", broken, status=422)
    assert "compilation failed" in refused["message"]
