"""The helper's ephemeral container for one pod: what is asked of the API server, and what the helper is told (S4.2).

Everything is taken from the pod's own manifest, native sidecar or classic: how Istio captures, which ports and probes
the app declares, where the proxy's identity is served. Its rights are the few that docs/reference/helper.md explains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.act.order import Target
from hotswitch.api.names import HELPER_CAPABILITIES, HELPER_CONTAINER, HELPER_VARIABLE
from hotswitch.api.orders import whole_policies
from hotswitch.capture import manifest as manifests
from hotswitch.capture import options
from hotswitch.capture.fields import SpecError
from hotswitch.capture.podspec import PROXY, SidecarFacts, facts_from_pod, spec_from_pod
from hotswitch.capture.probes import PROBERS_VARIABLE, Action, AppProbe
from hotswitch.config.agentfile import FAST
from hotswitch.model import Policy, Port

SOCKET_VOLUME, SOCKET_MOUNT = "workload-socket", "/var/run/secrets/workload-spiffe-uds"
COMMAND = ("hotswitch", "helper")
DEFAULT_TRUST_DOMAIN = "cluster.local"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The helper's container as the pod's manifest shows it. `running` and `ended` False: it is being started."""

    running: bool
    ended: str = ""  # how, in words
    waiting: str = ""  # for what, in words
    image: str = ""


def find(pod: Object) -> Found | None:
    """None: there is none yet. Never raises for a manifest of another shape: then there is none."""
    spec, status = _part(pod, "spec"), _part(pod, "status")
    container = _named(spec.get("ephemeralContainers"), HELPER_CONTAINER)
    if container is None:
        return None
    image = str(container.get("image", ""))
    state = _part(_named(status.get("ephemeralContainerStatuses"), HELPER_CONTAINER) or {}, "state")
    if "terminated" in state:
        end = _part(state, "terminated")
        words = f"exit code {end.get('exitCode')} {end.get('reason') or ''} {end.get('message') or ''}"
        return Found(False, ended=" ".join(words.split()), image=image)
    waiting = _part(state, "waiting")
    words = ": ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
    return Found("running" in state, waiting=words, image=image)


def patch(target: Target, image: str) -> dict[str, Any]:
    """For PATCH pods/ephemeralcontainers, strategic; bound to the pod's uid. Raises SpecError: Istio's settings of the
    pod cannot be read, or it has no address yet."""
    return {
        "metadata": {"uid": target.pod.uid},
        "spec": {"ephemeralContainers": [container(target, image)]},
    }


def container(target: Target, image: str) -> dict[str, Any]:
    """Raises SpecError."""
    spec = spec_from_pod(target.manifest)
    _, pod_spec = manifests.pod_template(target.manifest)
    volumes = manifests.objects("spec.volumes", pod_spec.get("volumes"))
    mounts = [{"name": SOCKET_VOLUME, "mountPath": SOCKET_MOUNT, "readOnly": True}]
    return {
        "name": HELPER_CONTAINER,
        "image": image,
        "command": list(COMMAND),
        "env": [{"name": HELPER_VARIABLE, "value": json.dumps(settings(target), separators=(",", ":"))}],
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": spec.proxy_gids[0],
            "runAsNonRoot": False,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": False,
            "capabilities": {"drop": ["ALL"], "add": list(HELPER_CAPABILITIES)},
        },
        "volumeMounts": mounts if any(volume.get("name") == SOCKET_VOLUME for volume in volumes) else [],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


# ---- what it is told ----


def settings(target: Target) -> dict[str, Any]:
    """The document in its environment (agent.helper.agent_file reads it). Raises SpecError."""
    pod = target.manifest
    spec, facts = spec_from_pod(pod), facts_from_pod(pod)
    _, pod_spec = manifests.pod_template(pod)
    proxy = proxy_environment(pod)
    return {
        "pod": {
            "name": target.pod.name,
            "namespace": target.pod.namespace,
            "uid": target.pod.uid,
            "workload": target.pod.workload,
            "addresses": _addresses(pod),
            "capture": {
                "args": list(options.to_argv(spec)[1:]),
                "env": dict(options.to_env(spec)),
                "ipv6": spec.ipv6,
            },
            **_identity(target, pod_spec, proxy),
            "app": _app(facts, proxy),
            "policy": _policy(target.policy),
            "authorization": whole_policies(target.authorization),
        },
        "dns": spec.redirect_dns and not spec.capture_all_dns,
    }


def _policy(policy: Policy) -> dict[str, Any]:
    """What the helper itself needs of it; which levels may be used is for the controller to know."""
    return {
        "mtls": str(policy.mtls),
        "mtls_by_port": {str(port): str(mtls) for port, mtls in policy.mtls_by_port.items()},
        "profile": "fast" if policy.thresholds.probe_timeout_s <= FAST.probe_timeout_s else "default",
        "recover_probes": policy.thresholds.recover_probes,
        "recover_after_s": policy.thresholds.recover_after_s,
        "hold_down_s": policy.hold_down_s,
        "hold_down_max_s": max(policy.hold_down_s, policy.hold_down_max_s),
    }


def _identity(target: Target, pod_spec: Object, proxy: Mapping[str, str | None]) -> dict[str, Any]:
    volumes = manifests.objects("spec.volumes", pod_spec.get("volumes"))
    if not any(volume.get("name") == SOCKET_VOLUME for volume in volumes):
        return {}
    domain = proxy.get("TRUST_DOMAIN")
    account = pod_spec.get("serviceAccountName") or "default"
    who = f"spiffe://{domain}/ns/{target.pod.namespace}/sa/{account}" if domain else None
    socket = f"{SOCKET_MOUNT}/socket"
    return {
        "identity": {"socket": socket, "spiffe_id": who, "trust_domains": [domain or DEFAULT_TRUST_DOMAIN]},
    }


def _app(facts: SidecarFacts, proxy: Mapping[str, str | None]) -> dict[str, Any]:
    probe = _probe(facts)
    return {
        "ports": list(facts.app_ports),
        "probers": json.loads(proxy.get(PROBERS_VARIABLE) or "{}"),
        **({"status_port": facts.status_port} if facts.status_port else {"stand_in": False}),
        **({"probe": probe} if probe else {}),
    }


def _probe(facts: SidecarFacts) -> dict[str, Any] | None:
    """The app's own probe that both ways are compared by: readiness first, plain HTTP, else a TCP connection."""
    ordered = sorted(facts.probes, key=lambda probe: not probe.is_readiness)
    plain = (probe for probe in ordered if _is_plain(probe))
    if chosen := next(plain, None):
        path = f"/{chosen.path.removeprefix('/')}"
        return {"port": chosen.port, "path": path, "timeout_s": chosen.timeout_s}
    port = _tcp_port(ordered, facts)
    return {"port": port} if port else None


def _is_plain(probe: AppProbe) -> bool:
    return probe.action is Action.HTTP_GET and probe.scheme.upper() == "HTTP" and not probe.host and not probe.headers


def _tcp_port(probes: list[AppProbe], facts: SidecarFacts) -> Port | None:
    return next((probe.port for probe in probes if not probe.host), next(iter(facts.app_ports), None))


def _addresses(pod: Object) -> list[str]:
    status = manifests.mapping("status", pod.get("status"))
    listed = [str(each["ip"]) for each in manifests.objects("status.podIPs", status.get("podIPs")) if each.get("ip")]
    if not listed:
        raise SpecError("status.podIPs", "", "the pod has no address yet")
    return listed


def proxy_environment(pod: Object) -> dict[str, str | None]:
    """What istio-proxy is told; None where it comes from elsewhere. Raises SpecError."""
    _, pod_spec = manifests.pod_template(pod)
    for where in ("containers", "initContainers"):
        found = manifests.named(where, pod_spec.get(where), PROXY)
        if found is not None:
            return manifests.environment(PROXY, found)
    return {}


def _part(holder: Object, key: str) -> Object:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def _named(values: object, name: str) -> Object | None:
    listed = values if isinstance(values, list | tuple) else ()
    return next((each for each in listed if isinstance(each, Mapping) and each.get("name") == name), None)
