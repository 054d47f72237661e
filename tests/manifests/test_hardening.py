"""How the controller is run: nothing that a process which reads the whole mesh does not need."""

from __future__ import annotations

import pytest

from tests.manifests.shipped import CONTROLLER, NAMESPACE, TIERS, tier

pytestmark = pytest.mark.unit


def only(kind, objects):
    (found,) = [obj for obj in objects if obj["kind"] == kind]
    return found


@pytest.fixture(params=TIERS)
def objects(request):
    return tier(request.param)


@pytest.fixture
def pod(objects):
    return only("Deployment", objects)["spec"]["template"]


@pytest.fixture
def container(pod):
    (found,) = pod["spec"]["containers"]
    return found


def test_it_is_no_daemon_set(objects):
    assert "DaemonSet" not in {obj["kind"] for obj in objects}


def test_it_runs_as_nobody(pod, container):
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["runAsUser"] > 0
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_it_shares_nothing_with_its_node(pod):
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
    assert all(not {"hostPath"} & volume.keys() for volume in pod["spec"]["volumes"])


def test_the_namespace_refuses_anything_less_hardened(objects):
    assert only("Namespace", objects)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_its_token_is_its_own_and_short_lived(objects, pod):
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert only("ServiceAccount", objects)["automountServiceAccountToken"] is False
    projected = [part for volume in pod["spec"]["volumes"] for part in volume.get("projected", {}).get("sources", [])]
    tokens = [part["serviceAccountToken"] for part in projected if "serviceAccountToken" in part]
    assert tokens and all(token["expirationSeconds"] <= 3600 for token in tokens)


def test_the_loss_of_a_node_or_a_drain_leaves_one(objects, pod):
    assert only("Deployment", objects)["spec"]["replicas"] == 2
    assert only("PodDisruptionBudget", objects)["spec"]["minAvailable"] == 1
    assert "podAntiAffinity" in pod["spec"]["affinity"]
    assert pod["spec"]["topologySpreadConstraints"]


def test_memory_is_bounded_and_cpu_never_throttled(container):
    assert container["resources"]["limits"].keys() == {"memory"}
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_a_hung_controller_is_restarted(container):
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in {port["name"] for port in container["ports"]}


def test_it_has_no_sidecar_itself(objects, pod):
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert only("Namespace", objects)["metadata"]["labels"]["istio-injection"] == "disabled"


def test_whatever_selects_the_controller_selects_it(objects, pod):
    labels = pod["metadata"]["labels"].items()
    selectors = [
        only("Deployment", objects)["spec"]["selector"]["matchLabels"],
        only("PodDisruptionBudget", objects)["spec"]["selector"]["matchLabels"],
        *(obj["spec"]["podSelector"]["matchLabels"] for obj in objects if obj["kind"] == "NetworkPolicy"),
        *(obj["spec"]["selector"] for obj in objects if obj["kind"] == "Service"),
    ]
    assert all(selector.items() <= labels for selector in selectors)


def reachable(objects):
    policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy"]
    return {port["port"] for policy in policies for rule in policy.get("egress", []) for port in rule["ports"]}


def test_only_what_it_speaks_to_is_reachable():
    to_all = {53, 443, 6443, 9093, 15021}
    checks = {1}  # to 65535: a Service's annotation names the port
    direct = to_all | {15012}
    assert [reachable(tier(name)) for name in TIERS] == [to_all, to_all, direct, direct | checks]


def test_only_metrics_are_to_be_reached(objects):
    policy = next(
        obj["spec"]
        for obj in objects
        if obj["metadata"]["name"] == "hotswitch-controller" and obj["kind"] == "NetworkPolicy"
    )
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {"http"}


def test_everything_of_ours_lies_in_its_namespace_or_is_named_by_it(objects):
    for obj in objects:
        namespace = obj["metadata"].get("namespace")
        assert namespace in (NAMESPACE, None) or (
            namespace == "istio-system" and obj["kind"] in ("Role", "RoleBinding")
        )
        named = obj["metadata"]["name"]
        assert named.startswith(("hotswitch-", CONTROLLER)) or obj["kind"] == "CustomResourceDefinition"
