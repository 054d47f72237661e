"""The admission policies keep the controller to its own keys, whatever RBAC lets through (A9, I2).

Each tier is installed as shipped and tried as the controller's own service account.
"""

from __future__ import annotations

import copy
import itertools
import json
from urllib.parse import urlencode

import pytest

from hotswitch.sandbox.manifests import render
from tests.manifests.callers import MERGE, STRATEGIC, await_that, path_of
from tests.manifests.keys import (
    API_SERVERS,
    HELPERS,
    LABELS_DIRECT,
    LABELS_OBSERVE,
    POD,
    POD_STATUS,
    RETURNED,
    SERVICE,
    SERVICES,
    SLICE,
    SLICES,
    TAKEN,
    annotations,
)
from tests.manifests.servers import connected
from tests.manifests.shipped import ACCOUNT, NAMESPACE, with_opt_ins

SHOP, ISTIO = "hotswitch-test-keys", "istio-system"
RBAC = "rbac.authorization.k8s.io"
COUNT = itertools.count()
IN_FORCE = {
    "tier-1-rescue": "in this tier",
    "tier-2-direct": "only security.istio.io/tlsMode",
    "tier-3-endpoints": "only security.istio.io/tlsMode",
}


def names(cases):
    return [case.name for case in cases]


def placed(template, name):
    obj = copy.deepcopy(template)
    obj["metadata"] |= {"name": name, "namespace": SHOP}
    return obj


@pytest.fixture(
    scope="module",
    params=[pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=pytest.mark.e2e)],
)
def server(request):
    with connected(request.param) as caller:
        roots = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (SHOP, ISTIO)]
        ours = [root for root in roots if not caller.exists(root)]
        for root in ours:
            caller.apply(root)
        yield caller
        for root in ours:
            caller.remove(root)


@pytest.fixture(scope="module")
def tier(server, request, tmp_path_factory):
    """The tier of `request.param` with both opt-ins, taken away again."""
    folder = tmp_path_factory.mktemp(request.param)
    objects = render(with_opt_ins(folder, request.param, "exec", "ephemeral"))
    for obj in objects:
        server.apply(obj)
    canaries = [placed(POD, "canary"), placed(SLICE, "canary"), placed(SERVICE, "canary")]
    for canary in canaries:
        server.apply(canary)
    for policy, path, said in in_force(request.param, *map(path_of, canaries)):
        await_that(lambda path=path, said=said: said in provoked(server, path), f"{policy} is in force")
    yield request.param
    for canary in canaries:
        server.remove(canary)
    for obj in reversed(objects):
        server.remove(obj)


def server_pod(server, name):
    pod = placed(POD, name)
    server.apply(pod)
    return path_of(pod)


def in_force(tier, pod, endpoint_slice, service):
    """Each policy is taken up in its own time: what it says of an annotation, a label, and an added container."""
    yield "hotswitch-pods", f"{pod}/status", "of a pod's annotations"
    yield "hotswitch-pod-labels", f"{pod}/status?", IN_FORCE[tier]
    yield "hotswitch-ephemeral-containers", f"{pod}/ephemeralcontainers", "one ephemeral container"
    yield "hotswitch-exec", f"{pod}/exec?container=app&command=id&stdout=true", "only in hotswitch-helper"
    if tier == "tier-2-direct":
        yield "hotswitch-endpoint-slices", endpoint_slice, "of an EndpointSlice's annotations"
    if tier == "tier-3-endpoints":
        yield "hotswitch-services", service, "of a Service's annotations"


def provoked(server, path):
    """A change each time: what changes nothing is always let through."""
    if "/exec" in path:
        return server.send("POST", path, as_account=ACCOUNT).message
    value = {"x": f"y{next(COUNT)}"}
    patch = {"metadata": {"labels" if path.endswith("?") else "annotations": value}}
    if path.endswith("ephemeralcontainers"):
        patch = {"spec": {"ephemeralContainers": [{"name": f"c{next(COUNT)}", "image": "x:1"}]}}
    return server.send("PATCH", path, patch, as_account=ACCOUNT, kind=MERGE).message


def check(server, path, case):
    answer = server.send("PATCH", path, case.patch, case.kind, as_account=ACCOUNT)
    if case.refused:
        assert answer.status == 422 or answer.status == 403, answer
        assert case.refused in answer.message
    else:
        assert answer.status == 200, answer.message
        assert case.changed in json.dumps(answer.body)


@pytest.fixture(scope="module")
def pod(server, tier):
    path = server_pod(server, "web")
    kubelets = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    assert server.send("PATCH", f"{path}/status", kubelets, STRATEGIC).status == 200
    yield path
    server.remove(placed(POD, "web"))


@pytest.mark.parametrize("tier", ["tier-1-rescue", "tier-2-direct"], indirect=True)
@pytest.mark.parametrize("case", POD_STATUS, ids=names(POD_STATUS))
def test_of_a_pod_only_our_keys(server, tier, pod, case):
    check(server, f"{pod}/status", case)


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
@pytest.mark.parametrize("case", LABELS_OBSERVE, ids=names(LABELS_OBSERVE))
def test_no_label_but_our_own_before_direct_is_installed(server, tier, pod, case):
    check(server, f"{pod}/status", case)


@pytest.mark.parametrize("tier", ["tier-2-direct"], indirect=True)
@pytest.mark.parametrize("case", LABELS_DIRECT, ids=names(LABELS_DIRECT))
def test_one_label_of_istios_where_direct_is_installed(server, tier, pod, case):
    check(server, f"{pod}/status", case)


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
def test_the_pod_itself_is_not_patched(server, tier, pod):
    answer = server.send("PATCH", pod, annotations(hotswitch_io__status="{}"), STRATEGIC, as_account=ACCOUNT)
    assert answer.status == 403


@pytest.fixture
def too_much(server):
    """What nobody ships: the right to patch pods."""
    name = {"name": "hotswitch-test-too-much"}
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": name, "rules": [rule]}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": name,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", **name},
        "subjects": [{"kind": "ServiceAccount", "name": "hotswitch-controller", "namespace": NAMESPACE}],
    }
    server.apply(role)
    server.apply(binding)
    yield
    server.remove(binding)
    server.remove(role)


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
def test_a_right_that_was_granted_by_mistake(server, tier, pod, too_much):
    """RBAC lets it patch pods; the spec and other annotations stay what they are all the same."""
    own = annotations(hotswitch_io__status="{}")
    await_that(lambda: server.send("PATCH", pod, own, STRATEGIC, as_account=ACCOUNT).status == 200, "it is granted")
    image = {"spec": {"containers": [{"name": "app", "image": "evil:1"}]}}
    refused = server.send("PATCH", pod, image, STRATEGIC, as_account=ACCOUNT)
    assert "hotswitch may not change a pod's spec" in refused.message
    refused = server.send("PATCH", pod, annotations(owner="x"), STRATEGIC, as_account=ACCOUNT)
    assert "of a pod's annotations hotswitch may change only its own" in refused.message


@pytest.fixture(scope="module")
def endpoint_slice(server, tier):
    obj = placed(SLICE, "web-1")
    server.apply(obj)
    yield path_of(obj)
    server.remove(obj)


@pytest.mark.parametrize("tier", ["tier-2-direct"], indirect=True)
@pytest.mark.parametrize("case", SLICES, ids=names(SLICES))
def test_of_a_slice_one_annotation(server, tier, endpoint_slice, case):
    check(server, endpoint_slice, case)


@pytest.mark.parametrize("tier", ["tier-3-endpoints"], indirect=True)
@pytest.mark.parametrize(
    ("template", "case"),
    [*((SERVICE, each) for each in SERVICES), *((TAKEN, each) for each in RETURNED)],
    ids=names((*SERVICES, *RETURNED)),
)
def test_of_a_service_the_selector_away_and_back(server, tier, template, case):
    obj = placed(template, "web")
    server.apply(obj)
    try:
        check(server, path_of(obj), case)
    finally:
        server.remove(obj)


@pytest.mark.parametrize("tier", ["tier-3-endpoints"], indirect=True)
def test_a_service_that_does_not_ask_keeps_its_selector(server, tier):
    obj = placed(SERVICE, "plain")
    del obj["metadata"]["annotations"]["endpoints.hotswitch.io/adopt"]
    server.apply(obj)
    try:
        answer = server.send("PATCH", path_of(obj), SERVICES[0].patch, MERGE, as_account=ACCOUNT)
        assert "only where endpoints.hotswitch.io/adopt asks" in answer.message
    finally:
        server.remove(obj)


@pytest.mark.parametrize("tier", ["tier-3-endpoints"], indirect=True)
@pytest.mark.parametrize(
    ("manager", "refused"),
    [("endpointslice-controller.k8s.io", ""), ("somebody-else", "hotswitch may make and remove only")],
)
def test_of_others_slices_those_go_that_come_again(server, tier, manager, refused):
    obj = placed(SLICE, "theirs")
    obj["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = manager
    server.apply(obj)
    try:
        answer = server.send("DELETE", path_of(obj), as_account=ACCOUNT)
        assert refused in answer.message if refused else answer.status == 200
    finally:
        server.remove(obj)


@pytest.mark.parametrize("tier", ["tier-3-endpoints"], indirect=True)
def test_of_the_endpoints_objects_that_of_the_api_server_stays(server, tier):
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    missing = [obj for obj in (namespace, API_SERVERS) if not server.exists(obj)]
    for obj in missing:
        server.apply(obj)
    answer = server.send("DELETE", f"{path_of(API_SERVERS)}?dryRun=All", as_account=ACCOUNT)
    assert "may not remove the Endpoints object of the API server" in answer.message
    left = placed(API_SERVERS, "kubernetes")
    server.apply(left)
    assert server.send("DELETE", path_of(left), as_account=ACCOUNT).status == 200
    for obj in reversed(missing):
        server.remove(obj)


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
@pytest.mark.parametrize("case", HELPERS, ids=names(HELPERS))
def test_a_helper_is_ours_and_has_no_more_than_it_needs(server, tier, pod, case):
    check(server, f"{pod}/ephemeralcontainers", case)


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
def test_a_second_helper_is_refused(server, tier, pod):
    second = {"spec": {"ephemeralContainers": [{"name": "hotswitch-helper-2", "image": "hotswitch-agent:1.0"}]}}
    answer = server.send("PATCH", f"{pod}/ephemeralcontainers", second, STRATEGIC, as_account=ACCOUNT)
    assert "hotswitch may add one ephemeral container" in answer.message


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
@pytest.mark.parametrize(
    ("container", "command", "refused"),
    [
        ("app", ["id"], "hotswitch may run commands only in"),
        ("app", ["pilot-agent", "istio-clean-iptables"], "hotswitch may run commands only in"),
        ("istio-proxy", ["sh", "-c", "id"], "hotswitch may run only its own program"),
        ("istio-proxy", ["env", "A=b", "sh"], "hotswitch may run only its own program"),
        ("istio-proxy", ["hotswitch", "truth"], "hotswitch may run only its own program"),
        ("istio-proxy", ["pilot-agent", "request", "POST", "quitquitquit"], "hotswitch may run only its own program"),
        ("istio-proxy", ["nft", "flush", "ruleset"], "hotswitch may run only its own program"),
        ("hotswitch-helper", ["sh"], "hotswitch may run only its own program"),
        ("istio-proxy", ["pilot-agent", "istio-iptables", "-p", "15001"], ""),
        ("istio-proxy", ["sudo", "env", "A=b", "pilot-agent", "istio-iptables", "--cleanup-only"], ""),
        ("istio-proxy", ["iptables-nft-save"], ""),
        ("istio-proxy", ["nft", "-j", "list", "ruleset"], ""),
        ("hotswitch-helper", ["hotswitch", "truth"], ""),
    ],
)
def test_commands_run_only_beside_the_app(server, tier, pod, container, command, refused):
    query = urlencode([("container", container), ("stdout", "true"), *(("command", word) for word in command)])
    answer = server.send("POST", f"{pod}/exec?{query}", as_account=ACCOUNT)
    if refused:
        assert refused in answer.message
    else:
        assert "ValidatingAdmissionPolicy" not in answer.message  # it runs nowhere, so the server says something else


@pytest.mark.parametrize("tier", ["tier-1-rescue"], indirect=True)
def test_one_lease_and_no_other(server, tier):
    def lease(name):
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}

    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    refused = server.send("POST", path, lease("other"), as_account=ACCOUNT)
    assert "hotswitch may write only the Lease" in refused.message
    assert server.send("POST", path, lease("hotswitch-controller"), as_account=ACCOUNT).status == 201
    assert server.send("DELETE", f"{path}/hotswitch-controller").status == 200
