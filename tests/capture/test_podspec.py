"""Capture settings and probes from injected manifests, of every shape that Istio makes (S4.1, S4.3a)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hotswitch.capture.podspec import Source, facts_from_pod, spec_from_pod
from hotswitch.capture.probes import Action, AppProbe
from hotswitch.capture.spec import CaptureSpec, Interception, SpecError
from tests.capture.golden import pods

pytestmark = pytest.mark.unit
PODS = pods()
USUAL = CaptureSpec(inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15090, 15021, 15020))


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """The pod that a workload's controller would make."""
    return {"kind": "Pod", **workload["spec"]["template"]}


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    every = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
    (found,) = (item for item in every if item["name"] == name)
    return found


@pytest.fixture
def hello() -> dict[str, Any]:
    """A pod with classic sidecar, istio-init and one app container."""
    return pod_of(copy.deepcopy(PODS["hello-old-version.yaml.injected"]))


@pytest.fixture
def cni() -> dict[str, Any]:
    return pod_of(copy.deepcopy(PODS["hello.yaml.cni.injected"]))


def sidecar(**extra: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {}, "spec": {"containers": [{"name": "istio-proxy", **extra}]}}


def test_every_golden_pod_is_read() -> None:
    assert len(PODS) >= 8
    for workload in PODS.values():
        assert spec_from_pod(workload).inbound_port == 15006
        assert facts_from_pod(workload).status_port == 15020


def test_classic_and_native_sidecars_are_told_apart() -> None:
    classic, native = (PODS[f"{name}.yaml.injected"] for name in ("hello-old-version", "native-sidecar"))
    assert spec_from_pod(classic) == spec_from_pod(native) == USUAL
    assert not facts_from_pod(classic).native
    assert facts_from_pod(native).native
    assert facts_from_pod(native).source is Source.INIT


def test_annotations_of_the_injector_reach_the_spec() -> None:
    spec = spec_from_pod(PODS["traffic-annotations.yaml.injected"])
    assert spec.inbound_ports == (1, 2, 3)
    assert spec.outbound_cidrs == ("127.0.0.1/24", "10.96.0.1/24")
    assert spec.outbound_exclude_cidrs == ("10.96.0.2/24", "10.96.0.3/24")
    assert spec.outbound_exclude_ports == (7, 8, 9)
    assert spec.loopback_included


def test_tproxy_pod_is_handled() -> None:
    spec = spec_from_pod(PODS["hello-tproxy.yaml.injected"])
    assert spec.mode is facts_from_pod(PODS["hello-tproxy.yaml.injected"]).mode is Interception.TPROXY
    assert spec.unsupported() == ()
    assert facts_from_pod(PODS["hello-tproxy.yaml.injected"]).proxy_uid == 0


def test_app_ports_leave_out_the_proxys_own() -> None:
    facts = facts_from_pod(PODS["native-sidecar.yaml.injected"])
    assert facts.app_ports == (80,)
    assert facts.app_containers == ("other-sidecar", "hello")


def test_probes_are_read_from_before_the_rewrite() -> None:
    facts = facts_from_pod(PODS["hello-probes.yaml.injected"])
    assert [(probe.name, probe.action, probe.port) for probe in facts.probes] == [
        ("/app-health/hello/livez", Action.HTTP_GET, 80),
        ("/app-health/hello/readyz", Action.HTTP_GET, 3333),
        ("/app-health/world/livez", Action.HTTP_GET, 90),
    ]


def test_lifecycle_hooks_are_not_taken_for_probes() -> None:
    """To replay a preStop hook would stop the app."""
    facts = facts_from_pod(PODS["hello-probes.yaml.injected"])
    assert [hook.name for hook in facts.hooks] == ["/app-lifecycle/hello/poststartz", "/app-lifecycle/hello/prestopz"]


def test_every_part_of_a_rewritten_probe_is_kept(hello: dict[str, Any]) -> None:
    container(hello, "istio-proxy")["env"].append(
        {
            "name": "ISTIO_KUBE_APP_PROBERS",
            "value": '{"/app-health/a/readyz": {"httpGet": {"path": "/ok?x", "port": 8443, "scheme": "HTTPS",'
            ' "host": "h", "httpHeaders": [{"name": "A", "value": "b"}]}, "timeoutSeconds": 3},'
            ' "/app-health/a/livez": {"grpc": {"port": 9000, "service": "s"}},'
            ' "/app-health/a/startupz": {"tcpSocket": {"port": 1}}}',
        }
    )
    ready, live, startup = facts_from_pod(hello).probes
    assert ready == AppProbe(
        name="/app-health/a/readyz",
        action=Action.HTTP_GET,
        port=8443,
        host="h",
        path="/ok?x",
        scheme="HTTPS",
        headers=(("A", "b"),),
        timeout_s=3.0,
    )
    assert ready.is_readiness and not live.is_readiness
    assert (live.action, live.port, live.service, live.timeout_s) == (Action.GRPC, 9000, "s", 1.0)
    assert (startup.action, startup.port) == (Action.TCP_SOCKET, 1)


def test_probes_that_were_not_rewritten_are_found_in_place(hello: dict[str, Any]) -> None:
    app = container(hello, "hello")
    app["readinessProbe"] = {"httpGet": {"path": "/ok", "port": "http"}}
    app["livenessProbe"] = {"exec": {"command": ["true"]}}
    (probe,) = facts_from_pod(hello).probes
    assert (probe.name, probe.port, probe.path) == ("/app-health/hello/readyz", 80, "/ok")


def test_cni_pod_is_read_from_its_annotations_not_from_the_validation_container(cni: dict[str, Any]) -> None:
    container(cni, "istio-validation")["args"] = ["-p", "1", "-b", "7"]
    spec = spec_from_pod(cni)
    assert facts_from_pod(cni).source is Source.CNI
    assert (spec.proxy_port, spec.inbound_ports, spec.outbound_cidrs) == (15001, "*", "*")
    assert spec.inbound_exclude_ports == (15020, 15021, 15090)
    assert spec.outbound_exclude_ports == (15020,)  # istio-cni's default; istio-init has none


def test_cni_pod_takes_ids_and_switches_from_the_proxy(cni: dict[str, Any]) -> None:
    proxy = container(cni, "istio-proxy")
    proxy["securityContext"] |= {"runAsUser": 1000670000, "runAsGroup": 1000670001}
    proxy["env"] += [
        {"name": "ISTIO_META_DNS_CAPTURE", "value": "true"},
        {"name": "INVALID_DROP", "value": "1"},
        {"name": "ISTIO_DUAL_STACK", "value": "TRUE"},
        {"name": "ISTIO_OUTBOUND_OWNER_GROUPS", "value": "java"},
    ]
    spec = spec_from_pod(cni)
    assert (spec.proxy_uids, spec.proxy_gids) == ((1000670000,), (1000670001,))
    assert (spec.redirect_dns, spec.capture_all_dns, spec.drop_invalid, spec.dual_stack) == (True,) * 4
    assert spec.owner_groups == "*"


def test_cni_pod_whose_proxy_is_root_counts_as_1337(cni: dict[str, Any]) -> None:
    container(cni, "istio-proxy")["securityContext"] |= {"runAsUser": 0, "runAsGroup": 0}
    assert spec_from_pod(cni).proxy_uids == spec_from_pod(cni).proxy_gids == (1337,)


def test_newer_name_of_virtual_interfaces_wins(cni: dict[str, Any]) -> None:
    notes = cni["metadata"]["annotations"]
    notes["traffic.sidecar.istio.io/kubevirtInterfaces"] = "net0"
    assert spec_from_pod(cni).kube_virt_interfaces == ("net0",)
    notes["istio.io/reroute-virtual-interfaces"] = "net1,net2"
    assert spec_from_pod(cni).kube_virt_interfaces == ("net1", "net2")


def test_proxy_metadata_reaches_the_spec_through_istio_init(hello: dict[str, Any]) -> None:
    container(hello, "istio-init")["env"] = [{"name": "ISTIO_META_DNS_CAPTURE", "value": "true"}]
    spec = spec_from_pod(hello, dns_servers=["10.96.0.10"])
    assert spec.dns_captured
    assert spec.dns_servers_v4 == ("10.96.0.10",)


def test_variable_that_only_the_container_knows_is_refused(hello: dict[str, Any]) -> None:
    source = {"fieldRef": {"fieldPath": "status.podIP"}}
    container(hello, "istio-init")["env"] = [{"name": "ISTIO_SERVICE_CIDR", "valueFrom": source}]
    with pytest.raises(SpecError, match=r"istio-init\.env\.ISTIO_SERVICE_CIDR"):
        spec_from_pod(hello)
    container(hello, "istio-init")["env"] = [{"name": "POD_IP", "valueFrom": source}]
    assert spec_from_pod(hello) == USUAL


def test_custom_command_before_the_arguments(hello: dict[str, Any]) -> None:
    container(hello, "istio-init")["command"] = ["/bin/sh", "-c", "exec $0", "pilot-agent"]
    assert spec_from_pod(hello) == USUAL


@pytest.mark.parametrize(
    ("addresses", "dual_stack", "ipv6"),
    [
        (["10.0.0.1"], "false", False),
        (["fd00::1"], "false", True),
        (["10.0.0.1", "fd00::1"], "false", False),  # Istio looks at the first address only
        (["10.0.0.1", "fd00::1"], "true", True),
        ([], "true", False),
    ],
)
def test_ipv6_is_told_as_istio_tells_it(
    hello: dict[str, Any], addresses: list[str], dual_stack: str, ipv6: bool
) -> None:
    hello["status"] = {"podIP": addresses[0] if addresses else "", "podIPs": [{"ip": text} for text in addresses]}
    container(hello, "istio-init")["env"] = [{"name": "ISTIO_DUAL_STACK", "value": dual_stack}]
    assert spec_from_pod(hello).ipv6 is ipv6
    assert spec_from_pod(hello, ipv6=True).ipv6 is True


def test_mode_none_has_no_init_container_and_captures_nothing() -> None:
    pod = sidecar(env=[{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "NONE"}])
    assert spec_from_pod(pod).mode is Interception.NONE
    assert facts_from_pod(pod).source is Source.NOBODY


@pytest.mark.parametrize("annotation", ["15025", "0"])
def test_status_port_can_be_moved_or_switched_off(hello: dict[str, Any], annotation: str) -> None:
    hello["metadata"]["annotations"]["status.sidecar.istio.io/port"] = annotation
    assert facts_from_pod(hello).status_port == (int(annotation) or None)


def test_status_port_is_seen_in_rewritten_probes(hello: dict[str, Any]) -> None:
    probe = {"httpGet": {"path": "/app-health/hello/readyz", "port": 15999}}
    container(hello, "hello")["readinessProbe"] = probe
    assert facts_from_pod(hello).status_port == 15999
    assert facts_from_pod(hello).probes == ()


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob", "PodTemplate"])
def test_workloads_of_every_kind(hello: dict[str, Any], kind: str) -> None:
    template = {"metadata": hello["metadata"], "spec": hello["spec"]}
    workload = {
        "Deployment": {"spec": {"template": template}},
        "Job": {"spec": {"template": template}},
        "CronJob": {"spec": {"jobTemplate": {"spec": {"template": template}}}},
        "PodTemplate": {"template": template},
    }[kind]
    assert spec_from_pod({"kind": kind, **workload}) == USUAL


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"kind": "ConfigMap", "data": {}}, "ConfigMap.*holds no pod template"),
        ({"kind": "Pod", "spec": {"containers": [{"name": "app"}]}}, "no Istio sidecar"),
        (sidecar(args=["proxy", "router"]), "a gateway"),
        (sidecar(), "who captures is not known"),
        ([], "manifest.*not an object"),
        (sidecar(args="proxy"), r"istio-proxy\.args.*not a list"),
    ],
)
def test_what_cannot_be_read_says_why(pod: Any, words: str) -> None:
    for read in (spec_from_pod, facts_from_pod):
        with pytest.raises(SpecError, match=words):
            read(pod)
