"""Istio's objects and injected pods, read as the API server gives them (I2)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hotswitch.api.status import PodStatus, encode
from hotswitch.config.meshconfig import MeshConfigRefused, networks_of, read_config_map
from hotswitch.config.meshpod import read_pod
from hotswitch.config.meshread import NO_POLICY, READERS, assemble, read_object
from hotswitch.mesh import AppPort, MeshConfig, MeshPod
from hotswitch.mesh.objects import Doubt, Service, ServicePort, Sidecar

pytestmark = pytest.mark.unit

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: web-6d4b75cb6d-hxk2p
  namespace: shop
  labels:
    app: web
    security.istio.io/tlsMode: istio
    service.istio.io/canonical-name: web
    topology.istio.io/network: eu
  annotations:
    hotswitch.io/trusts-proxy-headers: "false"
    sidecar.istio.io/status: '{"initContainers":["istio-init","istio-proxy"],"containers":null,"revision":"1-30"}'
spec:
  initContainers:
  - name: istio-init
    image: registry.example/istio/proxyv2:1.30.3
    args:
      [istio-iptables, -p, "15001", -z, "15006", -u, "1337", -m, REDIRECT, -i, "*", -x, "", -b, "*", -d, "15090,15021"]
  - name: istio-proxy
    restartPolicy: Always
    image: registry.example/istio/proxyv2:1.30.3-distroless@sha256:0123
    args: [proxy, sidecar, --domain, $(POD_NAMESPACE).svc.cluster.local]
    ports: [{containerPort: 15090, name: http-envoy-prom}]
    env:
    - {name: ISTIO_META_DNS_CAPTURE, value: "true"}
    - {name: ISTIO_KUBE_APP_PROBERS, value: '{}'}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  containers:
  - name: web
    ports:
    - {containerPort: 8080, name: http}
    - {containerPort: 9090, name: grpc, protocol: TCP}
    - {containerPort: 53, protocol: UDP}
"""


def pod(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(POD)
    found["spec"].update(changes.pop("spec", {}))
    found["metadata"]["annotations"].update(changes.pop("annotations", {}))
    found["metadata"]["labels"].update(changes.pop("labels", {}))
    for name, value in changes.pop("env", {}).items():
        found["spec"]["initContainers"][1]["env"].append({"name": name, **value})
    assert not changes
    return found


def test_injected_pod() -> None:
    read = read_pod(pod(), "deploy/web")
    assert read == MeshPod(
        name="web-6d4b75cb6d-hxk2p",
        namespace="shop",
        workload="deploy/web",
        labels=read.labels,
        annotations=read.annotations,
        ports=(AppPort(8080, "http"), AppPort(9090, "grpc")),
        native=True,
        interception="REDIRECT",
        dns_capture=True,
        tls_mode="istio",
        network="eu",
        revision="1-30",
        proxy_version="1.30.3-distroless",
        probes_rewritten=True,
    )


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"spec": {"hostNetwork": True}}, "host_network", True),
        ({"spec": {"initContainers": []}}, "sidecar", False),
        ({"annotations": {"ambient.istio.io/redirection": "enabled"}}, "ambient", True),
        ({"env": {"DISABLE_ENVOY": {"value": "true"}}}, "envoy_disabled", True),
        ({"env": {"DISABLE_ENVOY": {"value": "false"}}}, "envoy_disabled", False),
        ({"env": {"ISTIO_META_ENABLE_HBONE": {"value": "true"}}}, "hbone", True),
        ({"env": {"ISTIO_META_ENABLE_HBONE": {"valueFrom": {}}}}, "hbone", True),
        ({"labels": {"networking.istio.io/tunnel": "http"}}, "hbone", True),
        ({"env": {"PROXY_CONFIG": {"value": '{"inboundTrafficPolicy":{"mode":"LOCALHOST"}}'}}}, "local_only", True),
        ({"annotations": {"sidecar.istio.io/status": "[]"}}, "revision", ""),
        ({"annotations": {"sidecar.istio.io/status": "junk"}}, "revision", ""),
    ],
)
def test_what_a_pod_says(changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(read_pod(pod(**changes)), field) == value


@pytest.mark.parametrize(
    ("uid", "status", "mode"),
    [
        ("u1", encode(PodStatus(uid="u1", tls_mode_before="istio")), "istio"),
        ("u1", encode(PodStatus(uid="u1")), "disabled"),
        ("u1", encode(PodStatus(uid="u1", tls_mode_before="")), "disabled"),
        ("u2", encode(PodStatus(uid="u1", tls_mode_before="istio")), "disabled"),
        ("u1", "junk", "disabled"),
    ],
)
def test_label_that_hotswitch_changed(uid: str, status: str, mode: str) -> None:
    found = pod(labels={"security.istio.io/tlsMode": "disabled"}, annotations={"hotswitch.io/status": status})
    found["metadata"]["uid"] = uid
    assert read_pod(found).tls_mode == mode


def test_gateways_and_waypoints_are_no_sidecars() -> None:
    for role in ("router", "waypoint"):
        found = pod()
        found["spec"]["initContainers"][1]["args"] = ["proxy", role]
        read = read_pod(found)
        assert read.gateway and not read.sidecar


def test_interception_mode_none() -> None:
    found = pod(annotations={"sidecar.istio.io/interceptionMode": "NONE"})
    del found["spec"]["initContainers"][0]
    assert read_pod(found).interception == "NONE"


@pytest.mark.parametrize(
    "broken",
    [
        {"spec": {"containers": "web"}},
        {"labels": {"app": 7}},
        {"spec": {"containers": [{"name": "web", "ports": [{"containerPort": "http"}]}]}},
        {
            "annotations": {"sidecar.istio.io/interceptionMode": "SIDEWAYS"},
            "spec": {"initContainers": [{"name": "istio-proxy"}]},
        },
    ],
)
def test_pod_that_is_not_understood_is_in_doubt(broken: dict[str, Any]) -> None:
    read = read_pod(pod(**broken))
    assert read.doubts and read.namespace == "shop"


def test_service() -> None:
    found = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": "web"},
            "ports": [
                {"port": 80, "targetPort": "http"},
                {"port": 81, "targetPort": "8081"},
                {"port": 82},
                {"port": 53, "protocol": "UDP", "targetPort": 5353},
            ],
        },
    }
    read = read_object(found, api_version="v1", kind="Service")
    assert isinstance(read, Service) and read.headless
    assert read.ports == (
        ServicePort(80, "http"),
        ServicePort(81, 8081),
        ServicePort(82, 82),
        ServicePort(53, 5353, tcp=False),
    )


@pytest.mark.parametrize(("kept", "selector"), [("app=web", {"app": "web"}), ("web", None)])
def test_service_that_is_taken_over_still_has_its_pods(kept: str, selector: dict[str, str] | None) -> None:  # I2
    annotations = {"endpoints.hotswitch.io/adopted": kept}
    found = {"metadata": {"name": "web", "namespace": "shop", "annotations": annotations}, "spec": {}}
    read = read_object(found, api_version="v1", kind="Service")
    assert read.selector == selector if isinstance(read, Service) else selector is None and isinstance(read, Doubt)


def test_old_api_versions_are_read_alike() -> None:
    for version in ("v1", "v1beta1", "v1alpha3"):
        found = {
            "apiVersion": f"networking.istio.io/{version}",
            "kind": "Sidecar",
            "metadata": {"name": "s"},
            "spec": {},
        }
        assert isinstance(read_object(found), Sidecar)


def test_other_groups_are_passed_over_and_new_kinds_are_not() -> None:
    assert read_object({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}}) is None
    assert read_object({"apiVersion": "istio.io.example/v1", "kind": "X", "metadata": {}}) is None
    doubt = read_object({"apiVersion": "extensions.istio.io/v1", "kind": "FilterOfNextYear", "metadata": {}})
    assert isinstance(doubt, Doubt) and doubt.unknown_kind
    assert not READERS.keys() & NO_POLICY


def test_doubts_and_objects_are_kept_apart() -> None:
    odd = read_object({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "s"}, "spec": 7})
    view = assemble([odd, None], MeshConfig(), ["envoyfilters"])
    assert view.objects == () and view.doubts == (odd,) and view.unread == ("envoyfilters",)


def config_map(mesh: str) -> dict[str, Any]:
    return {"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}


def test_mesh_config() -> None:
    text = """
accessLogFile: /dev/stdout
rootNamespace: istio-config
trustDomain: prod.example
enableAutoMtls: false
defaultDestinationRuleExportTo: ["."]
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
inboundTrafficPolicy: {mode: LOCALHOST}
defaultConfig: {discoveryAddress: istiod.istio-system.svc:15012}
"""
    read = read_config_map(config_map(text), networks=frozenset({"eu"}))
    assert read == MeshConfig(
        root_namespace="istio-config",
        registry_only=True,
        local_only=True,
        auto_mtls=False,
        rules_exported=False,
        trust_domain="prod.example",
        networks=frozenset({"eu"}),
    )
    assert read_config_map(config_map("")) == MeshConfig()
    assert read_config_map(config_map("outboundTrafficPolicy: {mode: ALLOW_ANY}")) == MeshConfig()


def test_networks_of_the_mesh() -> None:
    listed = config_map("") | {"data": {"mesh": "", "meshNetworks": "networks: {us: {endpoints: []}}"}}
    assert read_config_map(listed, networks=frozenset({"eu"})).networks == {"eu", "us"}
    labelled = [{"metadata": {"labels": {"topology.istio.io/network": "eu"}}}, {"metadata": {}}, {}, {"metadata": 7}]
    assert networks_of(labelled) == {"eu"}


@pytest.mark.parametrize(
    "text", ["[", "outboundTrafficPolicy: {mode: SOME}", "- a", "rootNamespace: 7", "enableAutoMtls: x"]
)
def test_mesh_config_that_is_not_understood(text: str) -> None:
    with pytest.raises(MeshConfigRefused, match="meshConfig"):
        read_config_map(config_map(text))
