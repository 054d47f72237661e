"""A Pod object to what the preflight asks of it (I2). The injected pod is the truth: annotations, labels and the
sidecar's variables as they are there, whatever the injector's settings say by now. What is not understood is a doubt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hotswitch.api.names import STATUS
from hotswitch.api.status import StatusError, decode
from hotswitch.capture import manifest, podspec
from hotswitch.capture.fields import SpecError
from hotswitch.config.meshfields import NETWORK, Object, labels, port, text
from hotswitch.mesh import AppPort, MeshPod

TLS_MODE, TUNNEL = "security.istio.io/tlsMode", "networking.istio.io/tunnel"
STATUS_ANNOTATION, PROXY_CONFIG = "sidecar.istio.io/status", "proxy.istio.io/config"
_TRUE = frozenset({"1", "t", "true"})


def read_pod(pod: Mapping[str, Any], workload: str = "") -> MeshPod:
    """`workload`: the owner as budgets count it. Never raises: what is wrong with the pod is among its doubts."""
    try:
        about, spec = manifest.pod_template(pod)
        marks = labels("metadata.labels", about.get("labels"))
        notes = labels("metadata.annotations", about.get("annotations"))
        return _read(about, spec, marks, notes, workload)
    except SpecError as failure:
        given = pod.get("metadata")
        about = given if isinstance(given, Mapping) else {}
        name, namespace = (str(about.get(key) or "")[:253] for key in ("name", "namespace"))
        return MeshPod(name=name, namespace=namespace, workload=workload, doubts=(str(failure),))


def _read(about: Object, spec: Object, marks: dict[str, str], notes: dict[str, str], workload: str) -> MeshPod:
    proxy, native = _proxy(spec)
    gateway = manifest.strings("istio-proxy.args", (proxy or {}).get("args"))[:2] == ("proxy", "router")
    gateway = gateway or manifest.strings("istio-proxy.args", (proxy or {}).get("args"))[:2] == ("proxy", "waypoint")
    env = manifest.environment("istio-proxy", proxy or {})
    sidecar = proxy is not None and not gateway
    interception, doubts = _interception({"metadata": about, "spec": spec}) if sidecar else ("NONE", ())
    return MeshPod(
        name=text("metadata.name", about.get("name")),
        namespace=text("metadata.namespace", about.get("namespace")),
        workload=workload,
        labels=marks,
        annotations=notes,
        ports=_ports(spec),
        sidecar=sidecar,
        native=native,
        gateway=gateway,
        ambient=notes.get("ambient.istio.io/redirection") == "enabled",
        interception=interception,
        host_network=spec.get("hostNetwork") is True,
        envoy_disabled="DISABLE_ENVOY" in env and env["DISABLE_ENVOY"] not in ("false", "0", ""),
        hbone=marks.get(TUNNEL) == "http" or _on(env, "ISTIO_META_ENABLE_HBONE"),
        dns_capture=_on(env, "ISTIO_META_DNS_CAPTURE"),
        local_only=_local_only(env, notes),
        tls_mode=_tls_mode(about, marks, notes),
        network=marks.get(NETWORK) or env.get("ISTIO_META_NETWORK") or "",
        revision=_revision(marks, notes),
        proxy_version=_version(proxy),
        probes_rewritten="ISTIO_KUBE_APP_PROBERS" in env,
        doubts=doubts,
    )


def _proxy(spec: Object) -> tuple[Object | None, bool]:
    found = manifest.named("containers", spec.get("containers"), podspec.PROXY)
    native = manifest.named("initContainers", spec.get("initContainers"), podspec.PROXY)
    return found or native, found is None and native is not None


def _interception(pod: Object) -> tuple[str, tuple[str, ...]]:
    try:
        return str(podspec.facts_from_pod(pod).mode), ()
    except SpecError as failure:
        return "REDIRECT", (str(failure),)


def _ports(spec: Object) -> tuple[AppPort, ...]:
    inits = manifest.objects("initContainers", spec.get("initContainers"))
    running = [item for item in inits if item.get("restartPolicy") == "Always"]
    apps = [*running, *manifest.objects("containers", spec.get("containers"))]
    listed = [
        p for app in apps if app.get("name") != podspec.PROXY for p in manifest.objects("ports", app.get("ports"))
    ]
    tcp = [item for item in listed if item.get("protocol") in (None, "", "TCP")]
    return tuple(
        AppPort(port("containerPort", item.get("containerPort")), text("ports.name", item.get("name"))) for item in tcp
    )


def _on(env: Mapping[str, str | None], name: str) -> bool:
    """Where the value is known only inside of the container, the careful answer is yes."""
    value = env.get(name, "")
    return value is None or value.lower() in _TRUE


def _local_only(env: Mapping[str, str | None], notes: Mapping[str, str]) -> bool | None:
    """A pod's own proxy config may say it; None: it does not, so the mesh's word counts."""
    given = (env.get("PROXY_CONFIG") or "") + notes.get(PROXY_CONFIG, "")
    if "inboundTrafficPolicy" not in given:
        return None
    return "LOCALHOST" in given


def _tls_mode(about: Object, marks: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """What the label says when hotswitch has not changed it: while it has, the pod is judged as it was before. The
    annotation can be anybody's, so it counts only where it makes for more care."""
    now = marks.get(TLS_MODE, "")
    try:
        status = decode(notes.get(STATUS, ""), text("metadata.uid", about.get("uid"))) if STATUS in notes else None
    except StatusError:
        return now
    return "istio" if status is not None and status.tls_mode_before == "istio" else now


def _revision(marks: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """Of the istiod that injected the proxy. The pod's label may be a tag, which is no revision."""
    try:
        status = json.loads(notes.get(STATUS_ANNOTATION, "") or "{}")
    except ValueError:
        return ""
    revision = status.get("revision") if isinstance(status, dict) else None
    return revision if isinstance(revision, str) else ""


def _version(proxy: Object | None) -> str:
    """The image's tag, e.g. 1.30.3-distroless; "" for a digest."""
    image = text("istio-proxy.image", (proxy or {}).get("image")).partition("@")[0]
    return image.rpartition("/")[2].partition(":")[2]
