"""meshConfig, from the ConfigMap that istiod reads (`istio`, key `mesh`), as far as a bypass depends on it (I2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from hotswitch.capture import manifest
from hotswitch.capture.fields import SpecError
from hotswitch.config.meshfields import NETWORK, text
from hotswitch.config.meshtraffic import egress_proxy, registry_only
from hotswitch.mesh import MeshConfig
from hotswitch.mesh.view import ROOT_NAMESPACE

MAP_KEY, NETWORKS_KEY = "mesh", "meshNetworks"


class MeshConfigRefused(ValueError):
    """The mesh's configuration cannot be understood; nothing may be opened on it."""


def read_config_map(
    config_map: Mapping[str, Any], *, networks: frozenset[str] = frozenset(), cluster_domain: str = "cluster.local"
) -> MeshConfig:
    """`networks`: those that labels tell of (`networks_of`), beside the ones listed here. Raises MeshConfigRefused; a
    caller that goes on without the configuration has to say so in `read_mesh`'s `unread`."""
    try:
        data = manifest.mapping("data", config_map.get("data"))
        given = yaml.safe_load(text(f"data.{MAP_KEY}", data.get(MAP_KEY)))
        listed = yaml.safe_load(text(f"data.{NETWORKS_KEY}", data.get(NETWORKS_KEY)))
        known = manifest.mapping("networks", manifest.mapping(NETWORKS_KEY, listed).get("networks"))
        return _read(manifest.mapping(MAP_KEY, given), networks | known.keys(), cluster_domain)
    except (SpecError, yaml.YAMLError) as failure:
        raise MeshConfigRefused(f"meshConfig: {failure}") from failure


def networks_of(objects: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of networks by the labels of namespaces, and of Services of gateways between networks. Never raises."""
    found = set()
    for item in objects:
        about = item.get("metadata")
        marks = about.get("labels") if isinstance(about, Mapping) else None
        name = marks.get(NETWORK) if isinstance(marks, Mapping) else None
        if isinstance(name, str) and name:
            found.add(name)
    return frozenset(found)


def _read(mesh: Mapping[str, Any], networks: frozenset[str], cluster_domain: str) -> MeshConfig:
    inbound = manifest.mapping("inboundTrafficPolicy", mesh.get("inboundTrafficPolicy"))
    outbound = mesh.get("outboundTrafficPolicy")
    auto_mtls = mesh.get("enableAutoMtls")
    exported = manifest.strings("defaultDestinationRuleExportTo", mesh.get("defaultDestinationRuleExportTo"))
    return MeshConfig(
        root_namespace=text("rootNamespace", mesh.get("rootNamespace")) or ROOT_NAMESPACE,
        registry_only=outbound is not None and registry_only("outboundTrafficPolicy", outbound, "REGISTRY_ONLY"),
        egress_proxy=egress_proxy("outboundTrafficPolicy", outbound),
        local_only=inbound.get("mode") == "LOCALHOST",
        auto_mtls=True if auto_mtls is None else manifest.boolean("enableAutoMtls", auto_mtls),
        rules_exported=not exported or "*" in exported,
        trust_domain=text("trustDomain", mesh.get("trustDomain")) or "cluster.local",
        cluster_domain=cluster_domain,
        networks=networks,
    )
