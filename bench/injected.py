"""A pod as the API server keeps it after Istio's injection: native sidecar, managed fields, about 9 KB of JSON. Made
up; names differ from pod to pod, so that nothing can be shared that a real cluster would not share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

AT = "bench.hotswitch.io/at"
"""An annotation: CLOCK_MONOTONIC, in nanoseconds, of when the event was made. One machine, one clock."""
_SINCE = datetime(2026, 11, 1, 8, tzinfo=UTC)
_ENV = (
    "PILOT_CERT_PROVIDER", "CA_ADDR", "POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "SERVICE_ACCOUNT", "HOST_IP",
    "ISTIO_CPU_LIMIT", "PROXY_CONFIG", "ISTIO_META_POD_PORTS", "ISTIO_META_APP_CONTAINERS", "GOMEMLIMIT", "GOMAXPROCS",
    "ISTIO_META_CLUSTER_ID", "ISTIO_META_NODE_NAME", "ISTIO_META_INTERCEPTION_MODE", "ISTIO_META_WORKLOAD_NAME",
    "ISTIO_META_OWNER", "ISTIO_META_MESH_ID", "TRUST_DOMAIN", "ISTIO_KUBE_APP_PROBERS",
)  # fmt: skip
_VOLUMES = (
    "workload-socket", "credential-socket", "workload-certs", "istio-envoy", "istio-data", "istio-podinfo",
    "istio-token", "istiod-ca-cert", "kube-api-access",
)  # fmt: skip


def pod(number: int) -> dict[str, Any]:
    """Ten replicas to a workload, five workloads to a namespace."""
    workload = f"shop-{number // 10}"
    name = f"{workload}-{number:08x}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(number, name, workload),
        "spec": _spec(number, name, workload),
        "status": _status(number),
    }


def _since(number: int) -> str:
    """When it was started: each at another second."""
    return f"{_SINCE + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}"


def _metadata(number: int, name: str, workload: str) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{workload}-5d9f", "uid": f"owner-{number // 10}"}
    return {
        "name": name,
        "namespace": f"team-{number // 50}",
        "uid": f"{number:08x}-0000-4000-8000-{number:012x}",
        "resourceVersion": "1",
        "creationTimestamp": _since(number),
        "labels": {
            "app": workload, "pod-template-hash": f"5d9f{number // 10:x}", "security.istio.io/tlsMode": "istio",
            "service.istio.io/canonical-name": workload, "service.istio.io/canonical-revision": "latest",
        },
        "annotations": {
            "istio.io/rev": "default", "kubectl.kubernetes.io/default-container": "app", "prometheus.io/scrape": "true",
            "sidecar.istio.io/status": '{"initContainers":["istio-validation","istio-proxy"],"revision":"default"}',
            AT: "0",
        },
        "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        "managedFields": [_managed("kube-controller-manager", number, 28), _managed("kubelet", number, 34)],
    }  # fmt: skip


def _managed(manager: str, number: int, count: int) -> dict[str, Any]:
    fields: dict[str, Any] = {f"f:field{each}": {".": {}, "f:name": {}, "f:value": {}} for each in range(count)}
    return {
        "manager": manager, "operation": "Update", "apiVersion": "v1", "time": _since(number), "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": fields},
    }  # fmt: skip


def _spec(number: int, name: str, workload: str) -> dict[str, Any]:
    mounts = [{"name": volume, "mountPath": f"/var/run/secrets/{volume}"} for volume in _VOLUMES]
    app = {
        "name": "app", "image": f"registry.example/{workload}:1.4.2", "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}], "volumeMounts": mounts[-1:],
        "readinessProbe": {"httpGet": {"path": "/app-health/app/readyz", "port": 15020}, "periodSeconds": 10},
    }  # fmt: skip
    return {
        "nodeName": f"node-{number % 200}",
        "serviceAccountName": workload,
        "restartPolicy": "Always",
        "initContainers": [_init("istio-validation", mounts), {**_proxy(name, mounts), "restartPolicy": "Always"}],
        "containers": [app],
        "volumes": [{"name": volume, "emptyDir": {"medium": "Memory"}} for volume in _VOLUMES],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    }


def _init(name: str, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    words = ["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-b", "*"]
    return {"name": name, "image": "docker.io/istio/proxyv2:1.28.0", "args": words, "volumeMounts": mounts[-1:]}


def _proxy(name: str, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 15, "failureThreshold": 4}
    return {
        "name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.28.0", "volumeMounts": mounts,
        "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--log_output_level=default"],
        "env": [{"name": word, "value": f"{name}/{word.lower()}"} for word in _ENV],
        "ports": [{"containerPort": 15090, "name": "http-envoy-prom", "protocol": "TCP"}],
        "readinessProbe": probe, "startupProbe": {**probe, "failureThreshold": 600},
        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip


def _status(number: int) -> dict[str, Any]:
    address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": f"192.0.2.{number % 200}",
        "startTime": _since(number), "qosClass": "Burstable",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": _since(number)} for kind in kinds],
        "containerStatuses": [_container("app", number)],
        "initContainerStatuses": [_container("istio-validation", number), _container("istio-proxy", number)],
    }  # fmt: skip


def _container(name: str, number: int) -> dict[str, Any]:
    return {
        "name": name, "ready": True, "started": True, "restartCount": 0, "image": "docker.io/istio/proxyv2:1.28.0",
        "imageID": f"docker.io/istio/proxyv2@sha256:{number:064x}", "containerID": f"containerd://{number:064x}",
        "state": {"running": {"startedAt": _since(number)}},
    }  # fmt: skip
