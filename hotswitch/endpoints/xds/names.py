"""What clients call a Service's port: `web.shop:8080`, with a Kubernetes domain, or as Istio names its clusters. Pure.

web.shop:8080                                     ours; also of clusters, listeners and routes
web.shop.svc:8080, web.shop.svc.cluster.local:8080
outbound|8080||web.shop.svc.cluster.local         so that a sidecar's own cluster can take its endpoints from here
web.shop:8080#far                                 the same backends in the order that a request rule names (S2.8)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hotswitch.backends import ServiceId
from hotswitch.model import Port

DOMAIN = "cluster.local"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST = rf"(?P<name>{_LABEL})\.(?P<namespace>{_LABEL})"
_DOMAIN = r"(?P<domain>[a-z0-9.-]+)"
_OURS = re.compile(rf"{_HOST}(\.svc(\.{_DOMAIN})?)?:(?P<port>[1-9][0-9]{{0,4}})(#(?P<rule>[a-z0-9-]+))?")
_ISTIO = re.compile(rf"outbound\|(?P<port>[1-9][0-9]{{0,4}})\|\|{_HOST}\.svc\.{_DOMAIN}")


class Target(NamedTuple):
    """`rule`: name of a request rule; "": the Service's own order."""

    service: ServiceId
    port: Port
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.service.name}.{self.service.namespace}:{self.port}" + (f"#{self.rule}" if self.rule else "")


def parse(name: str, domain: str = DOMAIN) -> Target | None:
    """None: no name of a Service's port, or of another domain."""
    found = _OURS.fullmatch(name) or _ISTIO.fullmatch(name)
    if found is None or found["domain"] not in (None, domain):
        return None
    rule = found.groupdict().get("rule") or ""
    return Target(ServiceId(found["namespace"], found["name"]), int(found["port"]), rule)


def spellings(target: Target, domain: str = DOMAIN) -> Iterator[str]:
    """Every name that `parse` takes for this."""
    host, rule = f"{target.service.name}.{target.service.namespace}", f"#{target.rule}" if target.rule else ""
    for suffix in ("", ".svc", f".svc.{domain}"):
        yield f"{host}{suffix}:{target.port}{rule}"
    if not rule:
        yield f"outbound|{target.port}||{host}.svc.{domain}"
