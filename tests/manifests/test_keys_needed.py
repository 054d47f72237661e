"""No validation of an admission policy is there for nothing: with any one of them gone, something gets through (A9)."""

from __future__ import annotations

import copy
from urllib.parse import urlencode

import pytest

from hotswitch.endpoints.istio import config
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from hotswitch.sandbox.kubeapi.istio import definitions
from hotswitch.sandbox.manifests import render
from tests.manifests.callers import MERGE, path_of
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


def refusals(server, policy):
    """What the API server says to everything that this policy is there to refuse."""
    if policy == "hotswitch-leases":
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": {}}
        path = f"/apis/coordination.k8s.io/v1/namespaces/{SHOP}/leases"
        return [server.send("POST", path, lease, as_account=ACCOUNT).message]
    if policy == "hotswitch-own-slices":
        return list(slices_refused(server))
    if policy == "hotswitch-services":
        tried = [*((SERVICE, case) for case in SERVICES), *((TAKEN, case) for case in RETURNED)]
        return [
            server.send("PATCH", fresh(server, template), case.patch, case.kind, as_account=ACCOUNT).message
            for template, case in tried
        ]
    if policy == "hotswitch-endpoints":
        return [of_the_api_server_removed(server)]
    if policy == "hotswitch-own-istio-config":
        return list(istio_refused(server))
    if policy == "hotswitch-exec":
        pod = fresh(server, POD)
        queries = [
            urlencode([("container", container), ("stdout", "1"), *(("command", word) for word in words.split())])
            for container, words in COMMANDS
        ]
        return [server.send("POST", f"{pod}/exec?{query}", as_account=ACCOUNT).message for query in queries]
    template, sub, cases = TRIED[policy]
    tried = [(sub, case) for case in cases] + ([("", IMAGE)] if policy == "hotswitch-pods" else [])
    said = []
    for where, case in tried:
        path = fresh(server, template)
        kind = "application/strategic-merge-patch+json" if case is IMAGE else case.kind
        said.append(server.send("PATCH", f"{path}/{where}".rstrip("/"), case.patch, kind, as_account=ACCOUNT).message)
    return said


def slices_refused(server):
    """Slices made that nobody owns or that are not ours, and one of others removed."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{SHOP}/endpointslices"
    for number, labels in enumerate(({MANAGED_BY: "x"}, {MANAGED_BY: MANAGER, SERVICE_NAME: "web"})):
        made = copy.deepcopy(SLICE)
        made["metadata"] = {"name": f"made-{number}", "labels": labels}
        yield server.send("POST", path, made, as_account=ACCOUNT).message
        server.send("DELETE", f"{path}/made-{number}")
    yield server.send("DELETE", fresh(server, SLICE), as_account=ACCOUNT).message


def of_the_api_server_removed(server):
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    server.apply(API_SERVERS)
    return server.send("DELETE", path_of(API_SERVERS), as_account=ACCOUNT).message


def istio_refused(server):
    """Objects made that are not ours, or nobody's, or speak of another host or claim an address, one of others changed,
    and one removed."""
    root = f"/apis/networking.istio.io/v1/namespaces/{SHOP}"
    owner = {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u"}
    ours, host = {config.MANAGED_BY: MANAGER}, f"web.{SHOP}.{config.SUFFIX}"
    for labels, owners, named in (({}, [owner], host), (ours, [], host), (ours, [owner], "bank.example")):
        metadata = {"name": "made", "labels": labels, "ownerReferences": owners}
        for plural, spec in (("serviceentries", {"hosts": [named]}), ("destinationrules", {"host": named})):
            kind = {"serviceentries": "ServiceEntry", "destinationrules": "DestinationRule"}[plural]
            made = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
            yield server.send("POST", f"{root}/{plural}", made, as_account=ACCOUNT).message
            server.send("DELETE", f"{root}/{plural}/made")
    yield from claims_refused(server)
    metadata = {"name": "tried", "namespace": SHOP}
    theirs = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata}
    server.send("POST", f"{root}/serviceentries", {**theirs, "spec": {"hosts": ["bank.example"]}})
    yield server.send("DELETE", f"{root}/serviceentries/tried", as_account=ACCOUNT).message
    taken = {"metadata": {"labels": ours, "ownerReferences": [owner]}, "spec": {"hosts": [host]}}
    yield server.send("PATCH", f"{root}/serviceentries/tried", taken, MERGE, as_account=ACCOUNT).message
    server.send("DELETE", f"{root}/serviceentries/tried")


def claims_refused(server):
    """A ServiceEntry of ours that says more than its own name."""
    path = f"/apis/networking.istio.io/v1/namespaces/{SHOP}/serviceentries"
    owner = {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u"}
    metadata = {"name": "made", "labels": {config.MANAGED_BY: MANAGER}, "ownerReferences": [owner]}
    for more in ({"addresses": ["10.96.0.1"]}, {"exportTo": ["*"]}, {"workloadSelector": {"labels": {"a": "b"}}}):
        spec = {"hosts": [f"web.{SHOP}.{config.SUFFIX}"], **more}
        made = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec}
        yield server.send("POST", path, made, as_account=ACCOUNT).message
        server.send("DELETE", f"{path}/made")


def test_istio_config_claims_no_address_of_others(installed):  # A9, I2
    server, policies = installed
    is_shipped = any(policy["metadata"]["name"] == "hotswitch-own-istio-config" for policy in policies)
    assert {"claims no address" in each for each in claims_refused(server)} == {is_shipped}


def test_each_validation_is_needed(installed):
    server, policies = installed
    idle = []
    for policy in policies:
        name, validations = policy["metadata"]["name"], policy["spec"]["validations"]
        for place, validation in enumerate(validations):
            without = copy.deepcopy(policy)
            without["spec"]["validations"][place]["expression"] = "true"
            said = " ".join(refusals(server, name))
            assert validation["message"] in said, f"{name}: {validation['message']}"
            server.apply(without)
            if " ".join(refusals(server, name)) == said:
                idle.append(f"{name}: {validation['message']}")
            server.apply(policy)
    assert idle == []
