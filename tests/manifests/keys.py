"""What the controller may change of others' objects, and what not: one list, tried on whatever API server is at hand.

Each case is a patch and the beginning of the refusal, "" when it must be let through. `tiers`: where the case holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.api.names import HELPER_CAPABILITIES, HELPER_CONTAINER, HELPER_VARIABLE
from tests.manifests.callers import MERGE, STRATEGIC

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "labels": {"app": "web", "security.istio.io/tlsMode": "istio"},
        "annotations": {"owner": "shop"},
    },
    "spec": {
        "schedulingGates": [{"name": "example.org/never"}],  # no kubelet shall start it
        "volumes": [{"name": "workload-socket", "emptyDir": {}}, {"name": "secret", "emptyDir": {}}],
        "containers": [{"name": "app", "image": "app:1"}, {"name": "istio-proxy", "image": "proxy:1"}],
    },
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.1"]}],
    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
}


@dataclass(frozen=True)
class Case:
    name: str
    patch: Mapping[str, Any]
    refused: str = ""
    kind: str = MERGE
    changed: str = ""  # a word that the object holds afterwards; of patches that the API server drops in silence


def annotations(**changes: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {name.replace("__", "/").replace("_", "."): changes[name] for name in changes}}}


def label(name: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": {name: value}}}


def conditions(*types: str, **more: Any) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": name, "status": "True", **more} for name in types]}}


OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}
STATUSES = [{"name": "app", "image": "app:1", "imageID": "", "ready": True, "restartCount": 0}]
ANNOTATIONS = "of a pod's annotations hotswitch may change only its own"
METADATA = "hotswitch may not change a pod's finalizers"
STATUS = "of a pod's status hotswitch may change only its own conditions"
CONDITIONS = "of a pod's conditions hotswitch may change only its own"

POD_STATUS = (
    Case("own-annotation", annotations(hotswitch_io__status="{}"), changed="hotswitch.io/status"),
    Case("own-annotation-gone", annotations(hotswitch_io__status=None)),
    Case("other-annotation-added", annotations(sidecar_istio_io__inject="false"), ANNOTATIONS),
    Case("other-annotation-changed", annotations(owner="hotswitch"), ANNOTATIONS),
    Case("other-annotation-removed", annotations(owner=None), ANNOTATIONS),
    Case("annotation-that-only-looks-like-ours", annotations(nothotswitch_io__status="x"), ANNOTATIONS),
    Case("finalizer", {"metadata": {"finalizers": ["example.org/keep"]}}, METADATA),
    Case("own-condition", conditions("hotswitch.io/Capture"), kind=STRATEGIC, changed="hotswitch.io/Capture"),
    Case("condition-of-kubelet-changed", conditions("Ready"), CONDITIONS, STRATEGIC),
    Case("condition-of-kubelet-added", conditions("PodScheduled", reason="x"), CONDITIONS, STRATEGIC),
    Case("all-conditions-replaced", conditions("hotswitch.io/Capture"), CONDITIONS),
    Case("phase", {"status": {"phase": "Failed"}}, STATUS),
    Case("pod-ip", {"status": {"podIP": "10.9.9.9", "podIPs": [{"ip": "10.9.9.9"}]}}, STATUS),
    Case("container-status", {"status": {"containerStatuses": STATUSES}}, STATUS),
    Case("message", {"status": {"message": "x"}}, STATUS),
)
LABELS_OBSERVE = (
    Case("opened-by", label("hotswitch.io/opened-by", "exec"), changed="hotswitch.io/opened-by"),
    Case("opened-by-gone", label("hotswitch.io/opened-by", None)),
    Case("tls-mode", label("security.istio.io/tlsMode", "disabled"), "of a pod's labels hotswitch may change only"),
    Case("app-label", label("app", "other"), "of a pod's labels hotswitch may change only"),
)
LABELS_DIRECT = (
    Case("tls-mode-disabled", label("security.istio.io/tlsMode", "disabled"), changed='"disabled"'),
    Case("tls-mode-back", label("security.istio.io/tlsMode", "istio"), changed='"istio"'),
    Case("tls-mode-odd", label("security.istio.io/tlsMode", "x"), "hotswitch may set security.istio.io/tlsMode only"),
    Case("opened-by", label("hotswitch.io/opened-by", "exec"), changed="hotswitch.io/opened-by"),
    Case("role-before-tier-3", label("hotswitch.io/role", "x"), "hotswitch"),
    Case("app-label", label("app", "other"), "of a pod's labels hotswitch may change only"),
    Case("label-added", label("topology.istio.io/network", "n2"), "of a pod's labels hotswitch may change only"),
    Case("label-removed", label("app", None), "of a pod's labels hotswitch may change only"),
)
_SLICES = "hotswitch may not change an EndpointSlice's"
SLICES = (
    Case("touched", annotations(hotswitch_io__touched="1"), changed="hotswitch.io/touched"),
    Case("other-annotation", annotations(hotswitch_io__other="1"), "of an EndpointSlice's annotations"),
    Case("label", label("kubernetes.io/service-name", "other"), f"{_SLICES} labels"),
    Case("owner", {"metadata": {"ownerReferences": [OWNER]}}, f"{_SLICES} labels"),
    Case("address", {"endpoints": [{"addresses": ["10.9.9.9"]}]}, f"{_SLICES} endpoints"),
    Case("no-endpoints", {"endpoints": []}, f"{_SLICES} endpoints"),
    Case("port", {"ports": [{"name": "http", "port": 81, "protocol": "TCP"}]}, f"{_SLICES} endpoints"),
)

API_SERVERS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "kubernetes", "namespace": "default"},
    "subsets": [],
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "labels": {"team": "shop"},
        "annotations": {"owner": "shop", "endpoints.hotswitch.io/adopt": "when-below"},
    },
    "spec": {"selector": {"app": "web", "tier": "front"}, "ports": [{"name": "http", "port": 80}]},
}
KEPT = "endpoints.hotswitch.io/adopted"


def taken(kept: str | None = "app=web,tier=front", **more: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": {KEPT: kept, **more}}, "spec": {"selector": None}}


def given(**selector: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {KEPT: None}}, "spec": {"selector": selector}}


SERVICES = (
    Case("selector-away", taken(), changed=KEPT),
    Case("selector-away-unsaid", taken(None), "hotswitch may take a Service's selector away only where"),
    Case("selector-away-half-said", taken("app=web"), "hotswitch may take a Service's selector away only where"),
    Case(
        "selector-away-said-wrong", taken("app=web,tier=f"), "hotswitch may take a Service's selector away only where"
    ),
    Case("other-selector", given(app="web", tier="back"), "hotswitch may give a Service only the selector that stands"),
    Case("other-annotation", {"metadata": {"annotations": {"owner": "x"}}}, "of a Service's annotations hotswitch"),
    Case("annotation-gone", {"metadata": {"annotations": {"owner": None}}}, "of a Service's annotations hotswitch"),
    Case("label", label("team", "other"), "hotswitch may not change a Service's labels"),
    Case("owner", {"metadata": {"ownerReferences": [OWNER]}}, "hotswitch may not change a Service's labels"),
    Case("type", {"spec": {"type": "NodePort"}}, "of a Service's spec hotswitch may change only the selector"),
    Case("port", {"spec": {"ports": [{"name": "http", "port": 81}]}}, "of a Service's spec hotswitch may change only"),
)
TAKEN = {
    **SERVICE,
    "metadata": {**SERVICE["metadata"], "annotations": {"owner": "shop", KEPT: "app=web,tier=front"}},
    "spec": {"ports": SERVICE["spec"]["ports"]},
}
"""As it is while its selector is away; that nobody asks for it any more is no reason not to put it back."""
RETURNED = (
    Case("back", given(app="web", tier="front"), changed='"front"'),
    Case(
        "back-as-another", given(app="web", tier="back"), "hotswitch may give a Service only the selector that stands"
    ),
    Case("back-with-more", given(app="web", tier="front", x="y"), "hotswitch may give a Service only the selector"),
)

HELPER: dict[str, Any] = {
    "name": HELPER_CONTAINER,
    "image": "hotswitch-agent:1.0",
    "command": ["hotswitch", "helper"],
    "env": [{"name": HELPER_VARIABLE, "value": "{}"}],
    "securityContext": {
        "runAsUser": 0,
        "runAsGroup": 1337,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": list(HELPER_CAPABILITIES)},
    },
}
"""As docs/reference/helper.md says that it is started."""


def added(**changes: Any) -> dict[str, Any]:
    return {"spec": {"ephemeralContainers": [HELPER | changes]}}


def secured(**changes: Any) -> dict[str, Any]:
    return added(securityContext=HELPER["securityContext"] | changes)


def _mounts(volume: str, read_only: bool = True) -> dict[str, Any]:
    return {"name": volume, "mountPath": "/var/run/secrets/workload-spiffe-uds", "readOnly": read_only}


_RIGHTS = "the helper runs as root with few capabilities"
_VALUE = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
HELPERS = (
    Case("other-name", added(name="debug"), "hotswitch may add one ephemeral container"),
    Case("other-image", added(image="evil/hotswitch-agent:1.0"), "the helper must run hotswitch's own image"),
    Case("image-without-tag", added(image="hotswitch-agentx"), "the helper must run hotswitch's own image"),
    Case("privileged", secured(privileged=True, allowPrivilegeEscalation=True), _RIGHTS),
    Case("keeps-default-capabilities", secured(capabilities={"add": ["NET_ADMIN"]}), _RIGHTS),
    Case("sys-admin", secured(capabilities={"drop": ["ALL"], "add": ["SYS_MODULE"]}), _RIGHTS),
    Case("may-gain-privileges", secured(allowPrivilegeEscalation=True), _RIGHTS),
    Case("other-user", secured(runAsUser=1000), _RIGHTS),
    Case("secret-in-environment", added(env=[_VALUE]), "the helper may not read Secrets"),
    Case("secret-as-environment", added(envFrom=[{"secretRef": {"name": "s"}}]), "the helper may not read Secrets"),
    Case("other-command", added(command=["sh", "-c", "id"]), "the helper may run only hotswitch"),
    Case("sees-the-app", added(targetContainerName="app"), "the helper may not look into another container"),
    Case("other-volume", added(volumeMounts=[_mounts("secret")]), "the helper may mount only the socket"),
    Case("writes-to-the-socket", added(volumeMounts=[_mounts("workload-socket", False)]), "the helper may mount only"),
    Case("own", added(volumeMounts=[_mounts("workload-socket")]), changed="hotswitch-helper"),
)
