"""The shipped files on a real API server: kubectl renders them as we do, each tier can do what it says and no more."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import yaml

from hotswitch.sandbox.chart import CHART
from hotswitch.sandbox.manifests import MANIFESTS, render
from tests.manifests.callers import Caller, await_that
from tests.manifests.shipped import ACCOUNT, NAMESPACE, OPT_INS, TIERS, rights, tier, with_opt_ins
from tests.manifests.test_chart import EVERY, VALUES

pytestmark = pytest.mark.e2e
ROOT = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}
NEVER = (
    ("", "pods", "", "patch"),
    ("", "pods", "", "update"),
    ("", "pods", "", "delete"),
    ("", "pods", "ephemeralcontainers", "patch"),
    ("", "pods", "exec", "create"),
    ("", "pods", "exec", "get"),
    ("", "pods", "eviction", "create"),
    ("", "secrets", "", "list"),
    ("", "secrets", "", "get"),
    ("", "configmaps", "", "list"),
    ("", "nodes", "proxy", "get"),
    ("", "serviceaccounts", "token", "create"),
    ("hotswitch.io", "hotswitchpolicies", "", "patch"),
    ("security.istio.io", "peerauthentications", "", "patch"),
    ("rbac.authorization.k8s.io", "clusterroles", "", "create"),
    ("coordination.k8s.io", "leases", "", "create"),
)
"""In a namespace that is neither the controller's nor Istio's root."""
FIRST_OF = {
    ("", "pods", "status", "patch"): TIERS[1],
    ("discovery.k8s.io", "endpointslices", "", "patch"): TIERS[2],
    ("discovery.k8s.io", "endpointslices", "", "create"): TIERS[3],
    ("discovery.k8s.io", "endpointslices", "", "delete"): TIERS[3],
    ("", "services", "", "patch"): TIERS[3],
}


def kubectl():
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is missing: it is what renders the manifests for users")
    return found


def names(obj):
    return (obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


@pytest.mark.parametrize("name", TIERS)
@pytest.mark.parametrize("components", [(), ("exec",), (*OPT_INS, "monitoring")], ids=["plain", "exec", "all"])
def test_kubectl_makes_the_same_of_them(tmp_path, name, components):
    folder = with_opt_ins(tmp_path, name, *components) if components else MANIFESTS / "overlays" / name
    text = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout
    assert sorted(render(folder), key=names) == sorted(yaml.safe_load_all(text), key=names)


@pytest.mark.parametrize("number", range(len(TIERS)), ids=TIERS)
@pytest.mark.parametrize("components", [(), ("exec",), EVERY], ids=["plain", "exec", "all"])
def test_helm_makes_the_same_of_the_chart(tmp_path, number, components):
    program = shutil.which("helm")
    if program is None:
        pytest.skip("helm is missing: it is what renders the chart for users")
    chosen = [f"--set={VALUES[name].replace('__', '.')}=true" for name in components]
    command = (program, "template", "hotswitch", str(CHART), f"--namespace={NAMESPACE}", "--kube-version=1.33")
    words = (*command, f"--set=tier={number}", "--set=namespace.create=true", *chosen)
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    made = [obj for obj in yaml.safe_load_all(text) if obj is not None]
    wanted = render(with_opt_ins(tmp_path, TIERS[number], *components))
    assert sorted(made, key=names) == sorted(wanted, key=names)


@pytest.fixture(scope="module")
def server():
    caller = Caller(os.environ.get("KUBECONFIG"))
    had_root = caller.exists(ROOT)
    caller.apply(ROOT)
    yield caller
    if not had_root:
        caller.remove(ROOT)
    caller.close()


@pytest.fixture(scope="module", params=TIERS)
def installed(server, request):
    objects = tier(request.param)
    for obj in objects:
        server.apply(obj)
    yield request.param, objects
    for obj in reversed(objects):
        server.remove(obj)


def allowed(server, namespace, group, resource, name, verb):
    plain, _, sub = resource.partition("/")
    asked = {"group": group, "resource": plain, "subresource": sub, "name": name, "verb": verb, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "groups": ["system:serviceaccounts"], "resourceAttributes": asked},
    }
    answer = server.send("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return answer.body["status"]["allowed"]


def test_each_right_that_is_written_is_one_that_is_had(server, installed):
    for namespace, group, resource, name, verb in sorted(rights(installed[1])):
        right = (namespace or "shop", group, resource, name, verb)
        await_that(lambda right=right: allowed(server, *right), f"{right} is allowed")


def test_nothing_else_can_be_done(server, installed):
    had = [
        (group, resource, sub, verb)
        for group, resource, sub, verb in NEVER
        if allowed(server, "shop", group, f"{resource}/{sub}" if sub else resource, "", verb)
    ]
    assert had == []


@pytest.mark.parametrize(("right", "first"), FIRST_OF.items())
def test_a_tier_has_its_right_and_lower_ones_have_not(server, installed, right, first):
    group, resource, sub, verb = right
    has = allowed(server, "shop", group, f"{resource}/{sub}" if sub else resource, "", verb)
    assert has is (TIERS.index(installed[0]) >= TIERS.index(first))


def test_no_secret_but_the_one_that_is_named(server, installed):
    assert not allowed(server, "istio-system", "", "secrets", "istio-ca-secret", "get")
    assert not allowed(server, "hotswitch-system", "", "secrets", "", "list")


def test_no_residue(server, tmp_path):
    """Whatever is applied from the files is also removed by them."""
    objects = render(with_opt_ins(tmp_path, TIERS[2], *OPT_INS))
    for obj in objects:
        server.apply(obj)
    for obj in reversed(objects):
        server.remove(obj)
    assert [names(obj) for obj in objects if server.exists(obj)] == []
