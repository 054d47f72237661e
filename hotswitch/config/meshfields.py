"""Parts that all of Istio's objects have, read without trust: whatever has the wrong shape is a SpecError (I2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from hotswitch.capture import manifest
from hotswitch.capture.fields import SpecError
from hotswitch.mesh.objects import Labels, Ref

Object = Mapping[str, Any]
REVISION = "istio.io/rev"
NETWORK = "topology.istio.io/network"


class Common(TypedDict):
    ref: Ref
    created: str
    revision: str
    selector: Labels
    elsewhere: bool


def metadata(found: Object) -> Object:
    return manifest.mapping("metadata", found.get("metadata"))


def spec(found: Object) -> Object:
    return manifest.mapping("spec", found.get("spec"))


def ref_of(kind: str, found: Object) -> Ref:
    about = metadata(found)
    namespace = about.get("namespace")
    return Ref(kind, text("namespace", namespace), manifest.string("metadata.name", about.get("name")))


def text(where: str, value: object) -> str:
    """A text; absent counts as empty."""
    return "" if value is None else manifest.string(where, value)


def labels(where: str, value: object) -> dict[str, str]:
    return {key: manifest.string(f"{where}.{key}", each) for key, each in manifest.mapping(where, value).items()}


def common(kind: str, found: Object, selector: str = "selector") -> Common:
    """`selector`: the field of the spec that chooses workloads by matchLabels or labels."""
    about, body = metadata(found), spec(found)
    return Common(
        ref=ref_of(kind, found),
        created=text("metadata.creationTimestamp", about.get("creationTimestamp")),
        revision=labels("metadata.labels", about.get("labels")).get(REVISION, ""),
        selector=chosen(f"spec.{selector}", body.get(selector)),
        elsewhere=bool(body.get("targetRef") or body.get("targetRefs")),
    )


def chosen(where: str, value: object) -> dict[str, str]:
    """matchLabels, or labels as EnvoyFilter, Sidecar and ServiceEntry call them. Anything else is not understood: taken
    for no selector it would choose too many pods, left out too few."""
    body = manifest.mapping(where, value)
    for key in body:
        if key not in ("matchLabels", "labels"):
            raise SpecError(f"{where}.{key}", str(body[key])[:80], "not a known way to select")
    return labels(where, body.get("matchLabels", body.get("labels")))


def word(where: str, value: object, default: str, known: frozenset[str]) -> str:
    """One of Istio's enumerations."""
    given = default if value is None else manifest.string(where, value)
    if given not in known:
        raise SpecError(where, given[:80], f"not one of {', '.join(sorted(known))}")
    return given


def port(where: str, value: object) -> int:
    return manifest.integer(where, value, 1, 65535)


def complete(host: str, namespace: str, cluster_domain: str) -> str:
    """A Service's short name, as Istio completes it."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.{cluster_domain}"
