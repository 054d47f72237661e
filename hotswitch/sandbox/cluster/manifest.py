"""A sandbox pod as Istio's injector would have left it in the API: the manifest that others read (S4.1, S4.3a).

Only shapes that a real API server takes; what hotswitch finds out from such a manifest is what the sandbox pod is:
`capture.podspec.spec_from_pod(manifest)` gives the very settings that the pod's rules were made from.
Source of the shapes: Istio's injection template, as its golden test output shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hotswitch.model import AGENT_STATUS, HEALTH, STATS
from hotswitch.sandbox.app import APP_UID, GRPC_PORT, HTTP_PORT, TCP_PORT
from hotswitch.sandbox.ca import TRUST_DOMAIN
from hotswitch.sandbox.cluster.images import ISTIO_LATEST
from hotswitch.sandbox.podfiles import SPIFFE_MOUNT
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.registry import TLS_MODE_LABEL
from hotswitch.sandbox.sidecar import PROXY_GID, PROXY_UID

Manifest = dict[str, Any]

PROXY_IMAGE = f"registry.test/istio/proxyv2:{ISTIO_LATEST}"
APP_IMAGE = "registry.test/sandbox/app:1"
APP, PROXY, INIT = "app", "istio-proxy", "istio-init"
REVISION = "default"
VOLUMES: tuple[Manifest, ...] = (
    {"name": "workload-socket", "emptyDir": {}},
    {"name": "credential-socket", "emptyDir": {}},
    {"name": "workload-certs", "emptyDir": {}},
    {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
    {"name": "istio-data", "emptyDir": {}},
)
MOUNTS = (
    ("workload-socket", SPIFFE_MOUNT),
    ("credential-socket", "/var/run/secrets/credential-uds"),
    ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
    ("istio-data", "/var/lib/istio/data"),
    ("istio-envoy", "/etc/istio/proxy"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """What the API knows of a pod beside its PodSpec. `grace_s`: terminationGracePeriodSeconds."""

    name: str
    spec: PodSpec
    node: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner: Mapping[str, Any] | None = None  # an entry of ownerReferences
    readiness_gates: tuple[str, ...] = ()
    grace_s: int = 30
    image: str = PROXY_IMAGE

    @property
    def workload(self) -> str:
        return self.spec.workload.rpartition("/")[2] or self.name.rpartition("-")[0] or self.name


def pod(wanted: Injected) -> Manifest:
    """The pod as it is created; its status comes from the kubelet."""
    metadata: Manifest = {
        "name": wanted.name,
        "namespace": wanted.spec.namespace,
        "labels": _labels(wanted),
        "annotations": _annotations(wanted),
    }
    if wanted.owner:
        metadata["ownerReferences"] = [dict(wanted.owner)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _spec(wanted)}


def _labels(wanted: Injected) -> dict[str, str]:
    own = {"app": wanted.workload, **wanted.labels}
    if not wanted.spec.sidecar:
        return own
    mesh = {
        TLS_MODE_LABEL: "istio",
        "service.istio.io/canonical-name": own["app"],
        "service.istio.io/canonical-revision": "latest",
    }
    return {**mesh, **own}


def _annotations(wanted: Injected) -> dict[str, str]:
    if not wanted.spec.sidecar:
        return dict(wanted.annotations)
    native, captured = wanted.spec.native, wanted.spec.interception != "NONE"
    inits = ([INIT] if captured else []) + ([PROXY] if native else [])
    status = {
        "initContainers": inits,
        "containers": None if native else [PROXY],
        "volumes": [volume["name"] for volume in VOLUMES],
        "imagePullSecrets": None,
        "revision": REVISION,
    }
    return {
        "istio.io/rev": REVISION,
        "kubectl.kubernetes.io/default-container": APP,
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/port": str(AGENT_STATUS),
        "prometheus.io/scrape": "true",
        "sidecar.istio.io/interceptionMode": wanted.spec.interception,
        "sidecar.istio.io/status": json.dumps(status, separators=(",", ":")),
        **wanted.annotations,
    }


def _spec(wanted: Injected) -> Manifest:
    containers, inits = [_app(wanted)], []
    if wanted.spec.sidecar:
        inits = [_init(wanted)] if wanted.spec.interception != "NONE" else []
        (inits if wanted.spec.native else containers).append(_proxy(wanted))
    spec: Manifest = {
        "containers": containers,
        "initContainers": inits,
        "volumes": [dict(volume) for volume in VOLUMES] if wanted.spec.sidecar else [],
        "nodeName": wanted.node,
        "serviceAccountName": wanted.spec.account or wanted.workload,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": str(wanted.spec.restart),
        "terminationGracePeriodSeconds": wanted.grace_s,
    }
    if wanted.readiness_gates:
        spec["readinessGates"] = [{"conditionType": gate} for gate in wanted.readiness_gates]
    return spec


def app_ports(spec: PodSpec) -> list[Manifest]:
    ports = [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    ports += [{"name": "tcp", "containerPort": TCP_PORT, "protocol": "TCP"}] if spec.tcp else []
    return ports + ([{"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"}] if spec.grpc else [])


def probers(spec: PodSpec) -> dict[str, Manifest]:
    """ISTIO_KUBE_APP_PROBERS: what the app declared before the rewrite."""
    kinds = ("readyz", "livez") if spec.liveness else ("readyz",)
    return {f"/app-health/{APP}/{kind}": dict(spec.prober) for kind in kinds}


def _app(wanted: Injected) -> Manifest:
    spec = wanted.spec
    kinds = {"readyz": "readinessProbe", **({"livez": "livenessProbe"} if spec.liveness else {})}
    return {
        "name": APP,
        "image": APP_IMAGE,
        "ports": app_ports(spec),
        "securityContext": {"runAsUser": APP_UID, "runAsGroup": APP_UID},
        **{probe: _app_probe(spec, kind) for kind, probe in kinds.items()},
    }


def _app_probe(spec: PodSpec, kind: str) -> Manifest:
    what = {"httpGet": {"path": f"/app-health/{APP}/{kind}", "port": AGENT_STATUS}}
    if not spec.sidecar:
        what = {name: value for name, value in spec.prober.items() if name != "timeoutSeconds"}
    timing = {"periodSeconds": max(1, round(spec.app_period_s)), "failureThreshold": spec.app_failures}
    return {**what, **timing, "timeoutSeconds": 1}


def _init(wanted: Injected) -> Manifest:
    return {
        "name": INIT,
        "image": wanted.image,
        "args": ["istio-iptables", *wanted.spec.init_args, "--log_output_level=default:info"],
        "env": [{"name": name, "value": value} for name, value in wanted.spec.init_env.items()],
        "securityContext": _rights(("NET_ADMIN", "NET_RAW"), 0, 0, read_only=False),
    }


def _proxy(wanted: Injected) -> Manifest:
    spec = wanted.spec
    added, uid = (("NET_ADMIN",), 0) if spec.tproxy else ((), PROXY_UID)
    container: Manifest = {
        "name": PROXY,
        "image": wanted.image,
        "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning"],
        "env": _proxy_env(wanted),
        "ports": [{"name": "http-envoy-prom", "containerPort": STATS, "protocol": "TCP"}],
        "readinessProbe": {
            **_health(),
            "failureThreshold": spec.readiness_failures,
            "periodSeconds": max(1, round(spec.readiness_period_s)),
            "timeoutSeconds": max(1, round(spec.readiness_timeout_s)),
        },
        "startupProbe": {**_health(), "failureThreshold": 600, "periodSeconds": 1, "timeoutSeconds": 3},
        "securityContext": _rights(added, uid, PROXY_GID, read_only=True),
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in MOUNTS],
    }
    if spec.native:
        drain = ["pilot-agent", "request", f"--debug-port={AGENT_STATUS}", "POST", "drain"]
        container |= {"restartPolicy": "Always", "lifecycle": {"preStop": {"exec": {"command": drain}}}}
    return container


def _health() -> Manifest:
    return {"httpGet": {"path": "/healthz/ready", "port": HEALTH}}


def _rights(added: tuple[str, ...], uid: int, gid: int, *, read_only: bool) -> Manifest:
    capabilities: Manifest = {"drop": ["ALL"], **({"add": list(added)} if added else {})}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": capabilities,
        "privileged": False,
        "readOnlyRootFilesystem": read_only,
        "runAsGroup": gid,
        "runAsNonRoot": uid != 0,
        "runAsUser": uid,
    }


def _proxy_env(wanted: Injected) -> list[Manifest]:
    spec = wanted.spec
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "INSTANCE_IP": "status.podIP",
        "SERVICE_ACCOUNT": "spec.serviceAccountName",
        "HOST_IP": "status.hostIP",
        "ISTIO_META_NODE_NAME": "spec.nodeName",
    }
    ports = [{"name": port["name"], "containerPort": port["containerPort"]} for port in app_ports(spec)]
    values = {
        "PILOT_CERT_PROVIDER": "istiod",
        "CA_ADDR": "istiod.istio-system.svc:15012",
        "PROXY_CONFIG": "{}\n",
        "ISTIO_META_POD_PORTS": json.dumps(ports),
        "ISTIO_META_APP_CONTAINERS": APP,
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_INTERCEPTION_MODE": spec.interception,
        "ISTIO_META_WORKLOAD_NAME": wanted.workload,
        "ISTIO_META_OWNER": f"kubernetes://apis/apps/v1/namespaces/{spec.namespace}/deployments/{wanted.workload}",
        "ISTIO_META_MESH_ID": TRUST_DOMAIN,
        "TRUST_DOMAIN": TRUST_DOMAIN,
        **{name: value for name, value in spec.init_env.items() if name != "FORCE_IPTABLES_BINARY"},
        "ISTIO_KUBE_APP_PROBERS": json.dumps(probers(spec), separators=(",", ":")),
    }
    drawn = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    return [*drawn, *({"name": name, "value": value} for name, value in values.items())]
