"""No validation of an admission policy is there for nothing: with any one of them gone, something gets through (A9)."""

from __future__ import annotations

import copy
from urllib.parse import urlencode

import pytest

from hotswitch.endpoints.istio import config
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from hotswitch.sandbox.kubeapi.istio import definitions
from hotswitch.sandbox.manifests import render
from tests.manifests.callers import MERGE, STRATEGIC, path_of
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
    Case,
    annotations,
)
from tests.manifests.servers import connected
from tests.manifests.shipped import ACCOUNT, TIERS, with_opt_ins

pytestmark = pytest.mark.k8s
SHOP = "hotswitch-test-needed"
IMAGE = Case(
    "image", {"spec": {"containers": [{"name": "app", "image": "evil:1"}]}}, "hotswitch may not change a pod's spec"
)
TRIED = {
    "hotswitch-pods": (POD, "status", POD_STATUS),
    "hotswitch-pod-labels": (POD, "status", (*LABELS_OBSERVE, *LABELS_DIRECT)),
    "hotswitch-endpoint-slices": (SLICE, "", SLICES),
    "hotswitch-orders": (POD, "status", [Case("order", annotations(**{"hotswitch.io/override-accept": "HSW0101"}))]),
    "hotswitch-ephemeral-containers": (POD, "ephemeralcontainers", HELPERS),
}
OURS, HOST = {config.MANAGED_BY: MANAGER}, f"web.{SHOP}.{config.SUFFIX}"
OWNER = {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u"}
ISTIOS = f"/apis/networking.istio.io/v1/namespaces/{SHOP}"
COMMANDS = [("app", "hotswitch"), ("app", "nft -j list ruleset"), ("istio-proxy", "sh"), ("hotswitch-helper", "sh")]


@pytest.fixture(scope="module", params=TIERS[1:])
def installed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("needed")
    objects = render(with_opt_ins(folder, request.param, "exec", "ephemeral"))
    with connected("embedded") as server:
        for name in (SHOP, "istio-system"):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for obj in (*definitions(), *objects, *too_much()):
            server.apply(obj)
        yield server, [obj for obj in objects if obj["kind"] == "ValidatingAdmissionPolicy"]


def too_much():
    """The right to patch pods, slices, Leases and Istio's at large: only the policies are left to say no."""
    group, name = "rbac.authorization.k8s.io", {"name": "too-much"}
    resources = ["pods", "endpointslices", "leases", "services", "serviceentries", "destinationrules"]
    rule = {
        "apiGroups": ["", "discovery.k8s.io", "coordination.k8s.io", "networking.istio.io"],
        "resources": resources,
        "verbs": ["patch", "create"],
    }
    yield {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": name, "rules": [rule]}
    yield {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": name,
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", **name},
        "subjects": [{"kind": "ServiceAccount", "name": "hotswitch-controller", "namespace": "hotswitch-system"}],
    }


def fresh(server, template):
    obj = copy.deepcopy(template)
    obj["metadata"] |= {"name": "tried", "namespace": SHOP}
    server.remove(obj)
    server.apply(obj)
    if obj["kind"] == "Pod":
        kubelets = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        server.send("PATCH", f"{path_of(obj)}/status", kubelets, MERGE)
    return path_of(obj)


def attempts(policy):
    """All that this policy is there to refuse: each tries one thing, leaves nothing, and gives what the server says."""
    match policy:
        case "hotswitch-leases":
            return [lease_made]
        case "hotswitch-own-slices":
            return [*map(slice_made, ({MANAGED_BY: "x"}, {MANAGED_BY: MANAGER, SERVICE_NAME: "web"})), slice_removed]
        case "hotswitch-services":
            tried = [*((SERVICE, case) for case in SERVICES), *((TAKEN, case) for case in RETURNED)]
            return [changed(template, "", case) for template, case in tried]
        case "hotswitch-endpoints":
            return [of_the_api_server_removed]
        case "hotswitch-own-istio-config":
            return list(of_istio())
        case "hotswitch-exec":
            return [run(container, words) for container, words in COMMANDS]
    template, sub, cases = TRIED[policy]
    image = [changed(template, "", IMAGE)] if policy == "hotswitch-pods" else []
    return [*(changed(template, sub, case) for case in cases), *image]


def changed(template, sub, case):
    kind = STRATEGIC if case is IMAGE else case.kind

    def attempt(server):
        path = f"{fresh(server, template)}/{sub}".rstrip("/")
        return server.send("PATCH", path, case.patch, kind, as_account=ACCOUNT).message

    return attempt


def run(container, words):
    query = urlencode([("container", container), ("stdout", "1"), *(("command", word) for word in words.split())])
    return lambda server: server.send("POST", f"{fresh(server, POD)}/exec?{query}", as_account=ACCOUNT).message


def made(path, obj):
    def attempt(server):
        said = server.send("POST", path, obj, as_account=ACCOUNT).message
        server.send("DELETE", f"{path}/{obj['metadata']['name']}")
        return said

    return attempt


def lease_made(server):
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": {}}
    return made(f"/apis/coordination.k8s.io/v1/namespaces/{SHOP}/leases", lease)(server)


def slice_made(labels):
    """One that nobody owns, or that is not ours."""
    obj = copy.deepcopy(SLICE)
    obj["metadata"] = {"name": "made", "labels": labels}
    return made(f"/apis/discovery.k8s.io/v1/namespaces/{SHOP}/endpointslices", obj)


def slice_removed(server):
    """One of others."""
    return server.send("DELETE", fresh(server, SLICE), as_account=ACCOUNT).message


def of_the_api_server_removed(server):
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    server.apply(API_SERVERS)
    return server.send("DELETE", path_of(API_SERVERS), as_account=ACCOUNT).message


def of_istio():
    """Objects made that are not ours, or nobody's, or speak of another host or claim an address, one of others changed,
    and one removed."""
    for labels, owners, named in (({}, [OWNER], HOST), (OURS, [], HOST), (OURS, [OWNER], "bank.example")):
        metadata = {"name": "made", "labels": labels, "ownerReferences": owners}
        for kind, spec in (("ServiceEntry", {"hosts": [named]}), ("DestinationRule", {"host": named})):
            yield istio_made(kind, metadata, spec)
    yield from claims()
    yield lambda server: server.send("DELETE", of_others(server), as_account=ACCOUNT).message
    taken = {"metadata": {"labels": OURS, "ownerReferences": [OWNER]}, "spec": {"hosts": [HOST]}}
    yield lambda server: server.send("PATCH", of_others(server), taken, MERGE, as_account=ACCOUNT).message


def claims():
    """A ServiceEntry of ours that says more than its own name."""
    metadata = {"name": "made", "labels": OURS, "ownerReferences": [OWNER]}
    for more in ({"addresses": ["10.96.0.1"]}, {"exportTo": ["*"]}, {"workloadSelector": {"labels": {"a": "b"}}}):
        yield istio_made("ServiceEntry", metadata, {"hosts": [HOST], **more})


def istio_made(kind, metadata, spec):
    plural = {"ServiceEntry": "serviceentries", "DestinationRule": "destinationrules"}[kind]
    obj = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return made(f"{ISTIOS}/{plural}", obj)


def of_others(server):
    metadata = {"name": "tried", "namespace": SHOP}
    theirs = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata}
    server.send("DELETE", f"{ISTIOS}/serviceentries/tried")
    server.send("POST", f"{ISTIOS}/serviceentries", {**theirs, "spec": {"hosts": ["bank.example"]}})
    return f"{ISTIOS}/serviceentries/tried"


def test_istio_config_claims_no_address_of_others(installed):  # A9, I2
    server, policies = installed
    is_shipped = any(policy["metadata"]["name"] == "hotswitch-own-istio-config" for policy in policies)
    assert {"claims no address" in attempt(server) for attempt in claims()} == {is_shipped}


def test_each_validation_is_needed(installed):
    server, policies = installed
    idle = []
    for policy in policies:
        name, validations = policy["metadata"]["name"], policy["spec"]["validations"]
        said = [(attempt, attempt(server)) for attempt in attempts(name)]
        for place, validation in enumerate(validations):
            message = validation["message"]
            assert any(message in before for _, before in said), f"{name}: {message}"
            without = copy.deepcopy(policy)
            without["spec"]["validations"][place]["expression"] = "true"
            server.apply(without)
            likely_first = sorted(said, key=lambda each, message=message: message not in each[1])
            if all(attempt(server) == before for attempt, before in likely_first):
                idle.append(f"{name}: {message}")
            server.apply(policy)
    assert idle == []
