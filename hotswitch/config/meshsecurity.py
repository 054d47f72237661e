"""Istio's security and extension objects, read: who may come in, and what else was put into the proxy (I2)."""

from __future__ import annotations

from typing import Any

from hotswitch.capture import manifest
from hotswitch.capture.fields import SpecError
from hotswitch.config.meshfields import Object, common, labels, metadata, spec, word
from hotswitch.mesh.authorization import (
    DRY_RUN,
    UnsupportedAuthorization,
    parse_policy,
)
from hotswitch.mesh.objects import (
    Authorization,
    Enforcement,
    Extension,
    PeerAuthentication,
    RequestAuthentication,
)
from hotswitch.model import Direction, Mtls, Port

_MODES = frozenset({"UNSET", "DISABLE", "PERMISSIVE", "STRICT"})
_ACTIONS = frozenset({"ALLOW", "DENY", "AUDIT", "CUSTOM"})
_CONTEXTS = {
    "ANY": frozenset(Direction),
    "SIDECAR_INBOUND": frozenset({Direction.INBOUND}),
    "SIDECAR_OUTBOUND": frozenset({Direction.OUTBOUND}),
    "GATEWAY": frozenset[Direction](),
    "WAYPOINT": frozenset[Direction](),
}
_WASM_MODES = {
    "UNDEFINED": frozenset(Direction),
    "CLIENT_AND_SERVER": frozenset(Direction),
    "CLIENT": frozenset({Direction.OUTBOUND}),
    "SERVER": frozenset({Direction.INBOUND}),
}
_IDENTITIES = frozenset({"principals", "namespaces", "serviceAccounts"})
_IDENTITY_KEYS = ("source.principal", "source.namespace", "source.serviceAccount")
TELEMETRY_TYPES = ("stats.PluginConfig", "istio_peer_metadata", "peer_metadata.Config")
"""What the filters of Istio's own telemetry are configured with; they change no request."""


def peer_authentication(found: Object) -> PeerAuthentication:
    ports: dict[Port, Mtls | None] = {}
    for key, value in manifest.mapping("spec.portLevelMtls", spec(found).get("portLevelMtls")).items():
        if not (key.isascii() and key.isdigit() and 0 < int(key) < 65536):
            raise SpecError("spec.portLevelMtls", key[:80], "not a port from 1 to 65535")
        ports[int(key)] = _mode(f"spec.portLevelMtls.{key}", value)
    return PeerAuthentication(
        **common("PeerAuthentication", found), mode=_mode("spec.mtls", spec(found).get("mtls")), ports=ports
    )


def _mode(where: str, value: object) -> Mtls | None:
    given = word(f"{where}.mode", manifest.mapping(where, value).get("mode"), "UNSET", _MODES)
    return None if given == "UNSET" else Mtls(given)


def request_authentication(found: Object) -> RequestAuthentication:
    return RequestAuthentication(**common("RequestAuthentication", found))


def authorization(found: Object) -> Authorization:
    about = labels("metadata.annotations", metadata(found).get("annotations"))
    action = word("spec.action", spec(found).get("action"), "ALLOW", _ACTIONS)
    enforcement, why = _enforcement(found, action, about)
    return Authorization(
        **common("AuthorizationPolicy", found),
        action=action,
        enforcement=enforcement,
        why=why,
        manifest=_kept(found, about),
        spares_the_unnamed=action in ("ALLOW", "DENY") and _spares(found, action),
    )


def _enforcement(found: Object, action: str, annotations: dict[str, str]) -> tuple[Enforcement, str]:
    if action == "AUDIT" or annotations.get(DRY_RUN) == "true":
        return Enforcement.NONE, ""
    if action == "CUSTOM":
        return Enforcement.EXTERNAL, ""
    try:
        parse_policy(_kept(found, annotations))
    except UnsupportedAuthorization as failure:
        return Enforcement.REQUEST, str(failure)
    return Enforcement.CONNECTION, ""


def _kept(found: Object, annotations: dict[str, str]) -> dict[str, Any]:
    """What whoever enforces it needs; where it is bound to is settled by then."""
    about = metadata(found)
    dry_run = {DRY_RUN: annotations[DRY_RUN]} if DRY_RUN in annotations else {}
    body = {key: value for key, value in spec(found).items() if key not in ("targetRef", "targetRefs")}
    names = {"name": about.get("name"), "namespace": about.get("namespace", ""), "annotations": dry_run}
    return {"metadata": names, "spec": body}


def _spares(found: Object, action: str) -> bool:
    """Who has no identity matches no name, and every name that is excluded."""
    rules = manifest.objects("spec.rules", spec(found).get("rules"))
    return any(_names(rule, "DENY" if action == "DENY" else "ALLOW") for rule in rules)


def _names(rule: Object, action: str) -> bool:
    """Whether a rule names identities in the way that spares the unnamed: DENY some, or ALLOW all but some."""
    wanted = _IDENTITIES if action == "DENY" else frozenset(f"not{name[0].upper()}{name[1:]}" for name in _IDENTITIES)
    sources = (manifest.mapping("source", item.get("source")) for item in manifest.objects("from", rule.get("from")))
    conditions = [item for item in manifest.objects("when", rule.get("when")) if item.get("key") in _IDENTITY_KEYS]
    values = "values" if action == "DENY" else "notValues"
    return any(wanted & source.keys() for source in sources) or any(values in condition for condition in conditions)


def envoy_filter(found: Object) -> Extension:
    patches = manifest.objects("spec.configPatches", spec(found).get("configPatches"))
    contexts = [manifest.mapping("match", patch.get("match")).get("context") for patch in patches]
    known = [word("match.context", context, "ANY", frozenset(_CONTEXTS)) for context in contexts]
    return Extension(
        **common("EnvoyFilter", found, "workloadSelector"),
        directions=frozenset(direction for context in known for direction in _CONTEXTS[context]),
        telemetry=bool(patches) and all(_counts_only(patch) for patch in patches),
    )


def _counts_only(patch: Object) -> bool:
    """Adds one filter, and that filter is Istio's own for statistics, by its type and not by a name of its own."""
    body = manifest.mapping("patch", patch.get("patch"))
    value = manifest.mapping("patch.value", body.get("value"))
    config = manifest.mapping("typed_config", value.get("typed_config"))
    inserts = str(body.get("operation", "")).startswith("INSERT_")
    filters = patch.get("applyTo") in ("HTTP_FILTER", "NETWORK_FILTER")
    kind = str(config.get("type_url") or config.get("@type") or "")
    return inserts and filters and kind.rpartition("/")[2].endswith(TELEMETRY_TYPES)


def plugin(kind: str, found: Object) -> Extension:
    """A WasmPlugin or TrafficExtension, which choose pods and directions alike."""
    matches = manifest.objects("spec.match", spec(found).get("match"))
    modes = [word("match.mode", match.get("mode"), "UNDEFINED", frozenset(_WASM_MODES)) for match in matches]
    directions = frozenset(direction for mode in modes or ["UNDEFINED"] for direction in _WASM_MODES[mode])
    return Extension(**common(kind, found), directions=directions)
