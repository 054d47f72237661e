"""From a Pod, or any workload's pod template, to what Istio captures in it and what its sidecar looks like.

Where `istio-init` is, its arguments and variables are the truth. Where istio-cni programs the rules there is none, and
the truth is in annotations and in istio-proxy's own variables and ids (istio-validation's arguments are not it). A
sidecar may be a container or, since Istio 1.27 by default, an init container that keeps running (S4.1, S4.3a).
Sources: Istio's injection-template.yaml, cni/pkg/plugin/sidecar_redirect.go, facts on Istio 1.1 and 1.6.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from hotswitch.capture import fields, manifest, option_table, options, probes
from hotswitch.capture.fields import SpecError
from hotswitch.capture.manifest import Object
from hotswitch.capture.probes import AppProbe
from hotswitch.capture.spec import PROXY_ID, CaptureSpec, Interception
from hotswitch.model import AGENT_CONTAINER, AGENT_STATUS, Port

PROXY, INIT, VALIDATION = "istio-proxy", "istio-init", "istio-validation"
MODE_ANNOTATION = "sidecar.istio.io/interceptionMode"
STATUS_PORT_ANNOTATION = "status.sidecar.istio.io/port"
_TRAFFIC = "traffic.sidecar.istio.io/"
_CNI_ALWAYS_EXCLUDED: tuple[Port, ...] = (15020, 15021, 15090)


class Source(StrEnum):
    """Who writes the rules into the pod."""

    INIT = "istio-init"
    CNI = "istio-cni"
    NOBODY = "nobody"  # interception mode NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarFacts:
    """What else the manifest says of the sidecar and the app beside it."""

    native: bool  # an init container with restartPolicy Always
    source: Source
    mode: Interception
    app_ports: tuple[Port, ...]  # TCP ports that the app's containers declare, in order
    app_containers: tuple[str, ...]
    probes: tuple[AppProbe, ...]
    hooks: tuple[AppProbe, ...]  # what the kubelet asks of pilot-agent at start and stop; never to be replayed
    status_port: Port | None  # pilot-agent's; None: switched off with "0"
    proxy_uid: int | None = None  # securityContext of the container, None: the image's
    proxy_gid: int | None = None


def spec_from_pod(pod: Mapping[str, Any], *, ipv6: bool | None = None, dns_servers: Sequence[str] = ()) -> CaptureSpec:
    """What Istio captures in this pod. `ipv6` None: told from status.podIPs, as Istio tells it from the first address
    (of a template: no). `dns_servers`: the pod's resolv.conf. Raises SpecError, never anything else."""
    metadata, spec = manifest.pod_template(pod)
    source = _source(metadata, spec)
    if source is Source.NOBODY:
        return CaptureSpec(mode=Interception.NONE, ipv6=bool(ipv6))
    read = _from_init(spec) if source is Source.INIT else _from_annotations(metadata, spec)
    return replace(read, **options.detected(_has_ipv6(pod, read) if ipv6 is None else ipv6, dns_servers))


def facts_from_pod(pod: Mapping[str, Any]) -> SidecarFacts:
    """Raises SpecError, never anything else."""
    metadata, spec = manifest.pod_template(pod)
    proxy, native = _proxy(spec)
    env = manifest.environment(PROXY, proxy)
    apps = _app_containers(spec)
    asked = _probes(env, apps)
    return SidecarFacts(
        native=native,
        source=_source(metadata, spec),
        mode=_mode(metadata, spec, env),
        app_ports=tuple(dict.fromkeys(port for app in apps for port in _tcp_ports(app))),
        app_containers=tuple(manifest.string("name", app.get("name")) for app in apps),
        probes=tuple(probe for probe in asked if not probe.is_hook),
        hooks=tuple(probe for probe in asked if probe.is_hook),
        status_port=_status_port(metadata, apps),
        proxy_uid=_id(spec, proxy, "runAsUser"),
        proxy_gid=_id(spec, proxy, "runAsGroup"),
    )


def rewritten_from_pod(pod: Mapping[str, Any]) -> tuple[AppProbe, ...]:
    """The probes and hooks that Istio sends to pilot-agent, and no others. Raises SpecError, never anything else."""
    _, spec = manifest.pod_template(pod)
    proxy, _ = _proxy(spec)
    return probes.rewritten(manifest.environment(PROXY, proxy).get(probes.PROBERS_VARIABLE) or "")


def _proxy(spec: Object) -> tuple[Object, bool]:
    found = manifest.named("containers", spec.get("containers"), PROXY)
    native = manifest.named("initContainers", spec.get("initContainers"), PROXY)
    proxy = found or native
    if proxy is None:
        raise SpecError("containers", PROXY, "the pod has no Istio sidecar")
    args = manifest.strings(f"{PROXY}.args", proxy.get("args"))
    if args[:1] == ("proxy",) and args[1:2] == ("router",):
        raise SpecError(f"{PROXY}.args", "proxy router", "a gateway, not a sidecar: it captures nothing")
    return proxy, found is None


def _source(metadata: Object, spec: Object) -> Source:
    proxy, _ = _proxy(spec)
    inits = spec.get("initContainers")
    if manifest.named("initContainers", inits, INIT):
        return Source.INIT
    if _mode(metadata, spec, manifest.environment(PROXY, proxy)) is Interception.NONE:
        return Source.NOBODY
    if manifest.named("initContainers", inits, VALIDATION):
        return Source.CNI
    raise SpecError("initContainers", INIT, f"neither {INIT} nor {VALIDATION}: who captures is not known")


def _from_init(spec: Object) -> CaptureSpec:
    init = manifest.named("initContainers", spec.get("initContainers"), INIT) or {}
    words = [word for key in ("command", "args") for word in manifest.strings(f"{INIT}.{key}", init.get(key))]
    words = words[words.index("istio-iptables") :] if "istio-iptables" in words else words
    env = manifest.environment(INIT, init)
    for name in sorted(option_table.VARIABLES & env.keys()):
        if env[name] is None:
            raise SpecError(f"{INIT}.env.{name}", "valueFrom", "known only inside the container")
    return options.parse(words, {name: value for name, value in env.items() if value is not None})


def _from_annotations(metadata: Object, spec: Object) -> CaptureSpec:
    """As istio-cni does: listening ports fixed, captured DNS always all of it, outbound port 15020 let out unless said
    otherwise, owner groups and loopback network not read from the pod."""
    proxy, _ = _proxy(spec)
    env = manifest.environment(PROXY, proxy)
    excluded = fields.ports(*_traffic(metadata, "excludeInboundPorts", str(AGENT_STATUS)))
    dns = _switch(env, "ISTIO_META_DNS_CAPTURE")
    return CaptureSpec(
        mode=_mode(metadata, spec, env),
        proxy_uids=(_id({}, proxy, "runAsUser") or PROXY_ID,),
        proxy_gids=(_id({}, proxy, "runAsGroup") or PROXY_ID,),
        inbound_ports=fields.ports_or_all(*_traffic(metadata, "includeInboundPorts", "*")),
        inbound_exclude_ports=tuple(dict.fromkeys((*excluded, *_CNI_ALWAYS_EXCLUDED))),
        outbound_cidrs=fields.cidrs_or_all(*_traffic(metadata, "includeOutboundIPRanges", "*")),
        outbound_exclude_cidrs=fields.cidrs(*_traffic(metadata, "excludeOutboundIPRanges", "")),
        outbound_ports=fields.ports(*_traffic(metadata, "includeOutboundPorts", "")),
        outbound_exclude_ports=fields.ports(*_traffic(metadata, "excludeOutboundPorts", str(AGENT_STATUS))),
        exclude_interfaces=fields.interfaces(*_traffic(metadata, "excludeInterfaces", "")),
        kube_virt_interfaces=_virtual_interfaces(metadata),
        redirect_dns=dns,
        capture_all_dns=dns,
        drop_invalid=_switch(env, "INVALID_DROP"),
        dual_stack=_switch(env, "ISTIO_DUAL_STACK"),
    )


def _annotations(metadata: Object) -> Object:
    return manifest.mapping("annotations", metadata.get("annotations"))


def _traffic(metadata: Object, name: str, default: str) -> tuple[str, str]:
    key = _TRAFFIC + name
    return key, manifest.string(key, _annotations(metadata).get(key, default)).strip()


def _virtual_interfaces(metadata: Object) -> tuple[str, ...]:
    key = "istio.io/reroute-virtual-interfaces"
    if key in _annotations(metadata):
        return fields.interfaces(key, manifest.string(key, _annotations(metadata)[key]))
    return fields.interfaces(*_traffic(metadata, "kubevirtInterfaces", ""))


def _switch(env: Mapping[str, str | None], name: str) -> bool:
    return fields.boolean(env.get(name) or "") or False


def _mode(metadata: Object, spec: Object, env: Mapping[str, str | None]) -> Interception:
    """istio-init's own arguments first; then the annotation; then what the sidecar itself was told."""
    if manifest.named("initContainers", spec.get("initContainers"), INIT):
        return _from_init(spec).mode
    text = _annotations(metadata).get(MODE_ANNOTATION) or env.get("ISTIO_META_INTERCEPTION_MODE") or "REDIRECT"
    try:
        return Interception(text)
    except ValueError as error:
        raise SpecError(MODE_ANNOTATION, str(text)[:80], "not REDIRECT, TPROXY or NONE") from error


def _has_ipv6(pod: Mapping[str, Any], spec: CaptureSpec) -> bool:
    """Istio looks at the first usable address only, unless dual stack is on."""
    status = manifest.mapping("status", pod.get("status"))
    listed = [item.get("ip") for item in manifest.objects("status.podIPs", status.get("podIPs"))]
    texts = [text for text in listed or [status.get("podIP")] if text]
    found = [fields.address("status.podIPs", manifest.string("status.podIPs", text)) for text in texts]
    looked_at = found if spec.dual_stack else found[:1]
    return any(isinstance(address, ipaddress.IPv6Address) for address in looked_at)


def _app_containers(spec: Object) -> tuple[Object, ...]:
    """Every container that runs beside the proxy: the ordinary ones, and init containers that keep running."""
    inits = manifest.objects("initContainers", spec.get("initContainers"))
    running = [item for item in inits if item.get("restartPolicy") == "Always"]
    ordinary = manifest.objects("containers", spec.get("containers"))
    return tuple(item for item in (*running, *ordinary) if item.get("name") not in (PROXY, AGENT_CONTAINER))


def _tcp_ports(container: Object) -> list[Port]:
    ports = manifest.objects("ports", container.get("ports"))
    tcp = [port for port in ports if port.get("protocol") in (None, "", "TCP")]
    return [manifest.integer("containerPort", port.get("containerPort"), 1, 65535) for port in tcp]


def _probes(env: Mapping[str, str | None], apps: Sequence[Object]) -> tuple[AppProbe, ...]:
    found = {probe.name: probe for app in apps for probe in probes.declared(app)}
    found |= {probe.name: probe for probe in probes.rewritten(env.get(probes.PROBERS_VARIABLE) or "")}
    return tuple(found.values())


def _status_port(metadata: Object, apps: Sequence[Object]) -> Port | None:
    given = _annotations(metadata).get(STATUS_PORT_ANNOTATION)
    if given is not None:
        text = manifest.string(STATUS_PORT_ANNOTATION, given).strip()
        return None if text == "0" else fields.port(STATUS_PORT_ANNOTATION, text)
    seen = (probes.rewritten_port(app) for app in apps)
    return next((port for port in seen if port is not None), AGENT_STATUS)


def _id(pod: Object, container: Object, key: str) -> int | None:
    """The container's own securityContext, then the pod's."""
    for holder in (container, pod):
        value = manifest.mapping("securityContext", holder.get("securityContext")).get(key)
        if value is not None:
            return manifest.integer(f"securityContext.{key}", value, 0, fields.MAX_UID)
    return None
