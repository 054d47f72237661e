"""The app's own probes, as declared before Istio rewrote them.

Istio turns HTTP, TCP and gRPC probes of every container into requests to pilot-agent (port 15020) and keeps the
originals as JSON in istio-proxy's ISTIO_KUBE_APP_PROBERS. They are what tells a sick proxy from a sick app, and what a
stand-in has to answer while pilot-agent is away. Only what the app itself declared is ever asked (S4.2).
Source: Istio's pkg/kube/inject/app_probe.go, pilot/cmd/pilot-agent/status/server.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from hotswitch.capture import manifest
from hotswitch.capture.fields import SpecError
from hotswitch.capture.manifest import Object
from hotswitch.model import Port

PROBERS_VARIABLE = "ISTIO_KUBE_APP_PROBERS"
HEALTH, LIFECYCLE = "/app-health/", "/app-lifecycle/"
_KINDS = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}


class Action(StrEnum):
    HTTP_GET = "httpGet"
    TCP_SOCKET = "tcpSocket"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppProbe:
    """One question that the app said may be asked. `name` is pilot-agent's path: /app-health/CONTAINER/readyz, or
    /app-lifecycle/CONTAINER/prestopz for a lifecycle hook, which is an act of the kubelet's and no question."""

    name: str
    action: Action
    port: Port
    host: str = ""  # empty: the pod's own address
    path: str = ""  # httpGet
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()
    service: str = ""  # grpc
    timeout_s: float = 1.0  # Kubernetes' default

    @property
    def is_readiness(self) -> bool:
        return self.name.startswith(HEALTH) and self.name.endswith("/readyz")

    @property
    def is_hook(self) -> bool:
        return self.name.startswith(LIFECYCLE)


def rewritten(text: str) -> tuple[AppProbe, ...]:
    """The value of ISTIO_KUBE_APP_PROBERS. Raises SpecError."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise SpecError(PROBERS_VARIABLE, text[:80], "not JSON") from error
    probers = manifest.mapping(PROBERS_VARIABLE, value)
    return tuple(_probe(name, manifest.mapping(name, prober), {}) for name, prober in probers.items())


def declared(container: Object) -> Iterator[AppProbe]:
    """The probes of a container that Istio did not rewrite (the pod may have that switched off). Commands are left
    out: they run inside the container and never touch the network."""
    name = manifest.string("containers.name", container.get("name"))
    ports = named_ports(container)
    for field, kind in _KINDS.items():
        probe = manifest.mapping(f"{name}.{field}", container.get(field))
        if any(action in probe for action in Action) and not is_rewritten(probe):
            yield _probe(f"{HEALTH}{name}/{kind}", probe, ports)


def is_rewritten(probe: Object) -> bool:
    path = manifest.mapping("httpGet", probe.get("httpGet")).get("path")
    return isinstance(path, str) and path.startswith((HEALTH, LIFECYCLE))


def rewritten_port(container: Object) -> Port | None:
    """Where Istio sends the kubelet instead: pilot-agent's status port."""
    for field in _KINDS:
        probe = manifest.mapping(field, container.get(field))
        if is_rewritten(probe):
            return _port(field, manifest.mapping("httpGet", probe.get("httpGet")).get("port"), {})
    return None


def named_ports(container: Object) -> dict[str, Port]:
    ports = manifest.objects("ports", container.get("ports"))
    with_name = [port for port in ports if "name" in port]
    return {str(port["name"]): _port("containerPort", port.get("containerPort"), {}) for port in with_name}


def _probe(name: str, probe: Object, ports: dict[str, Port]) -> AppProbe:
    action = next((action for action in Action if action in probe), None)
    if action is None:
        raise SpecError(name, ",".join(probe)[:80], "neither httpGet, tcpSocket nor grpc")
    what = manifest.mapping(f"{name}.{action}", probe[action])
    timeout_s = manifest.integer(f"{name}.timeoutSeconds", probe.get("timeoutSeconds") or 1, 1, 2**31 - 1)
    return AppProbe(
        name=name,
        action=action,
        port=_port(f"{name}.port", what.get("port"), ports),
        host=_text(name, what, "host"),
        path=_text(name, what, "path") if action is Action.HTTP_GET else "",
        scheme=_text(name, what, "scheme") or "HTTP",
        headers=tuple(_header(name, header) for header in manifest.objects(name, what.get("httpHeaders"))),
        service=_text(name, what, "service"),
        timeout_s=float(timeout_s),
    )


def _port(where: str, value: object, ports: dict[str, Port]) -> Port:
    """A number, the text of one, or a name among the container's ports."""
    if isinstance(value, str):
        value = ports.get(value, int(value) if value.isascii() and value.isdigit() and len(value) < 6 else value)
    return manifest.integer(where, value, 1, 65535)


def _text(name: str, what: Object, key: str) -> str:
    value = what.get(key)
    return "" if value is None else manifest.string(f"{name}.{key}", value)


def _header(name: str, header: Object) -> tuple[str, str]:
    return _text(name, header, "name"), _text(name, header, "value")
