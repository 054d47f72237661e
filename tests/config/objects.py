"""Policies, pods and what comes of them, as tests write them."""

from typing import Any

from hotswitch.api import names
from hotswitch.config.merged import Effective
from hotswitch.config.settings import Settings

ROOT = "istio-system"
TRUSTS_NOT = {names.TRUSTS_PROXY_HEADERS: "false"}


def manifest(namespace: str, name: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name, "uid": f"{namespace}/{name}", **metadata}, "spec": spec}


def known(*policies: tuple[str, Any], mode: str = "", **annotations: str) -> Settings:
    """Policies by namespace, the first created first; the label of namespace shop."""
    found = Settings(ROOT)
    for place, (namespace, spec) in enumerate(policies):
        created = f"2026-01-01T00:00:{place:02}Z"
        found.put_policy(manifest(namespace, f"p{place}", spec, creationTimestamp=created))
    found.put_namespace("shop", "n1", {names.MODE_LABEL: mode} if mode else {}, annotations)
    found.put_namespace("batch", "n2", {}, {})
    return found


def pod(
    found: Settings, annotations: dict[str, str] | None = None, *, namespace: str = "shop", **labels: str
) -> Effective:
    own = {names.MODE_LABEL if name == "mode" else name: value for name, value in labels.items()}
    return found.for_pod(namespace, "web-0", f"{namespace}-u1", own, annotations or {})
