"""A policy's receivers as the dispatcher takes them (S4.6, A9).

The policy's scope rules have already dropped what its place may not say. Here a URL that the root namespace wrote in
clear with http counts as listed for that host; one out of a Secret needs TLS.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from urllib.parse import urlsplit

from hotswitch.api import alerts as api
from hotswitch.config.telling import ReceiverAt
from hotswitch.report.alerts.guard import PRIVATE, Network, Rules
from hotswitch.report.alerts.receiver import Kind, Receiver, SecretRef


def listed(
    at: ReceiverAt, *, root_namespace: str, repeat_s: float | None = None, cluster_networks: Sequence[Network] = PRIVATE
) -> Receiver:
    """`cluster_networks`: of pods, Services and nodes; all private ones where they are not known."""
    spec, in_root = at.receiver, at.namespace == root_namespace
    return Receiver(
        name=at.key,
        kind=Kind(spec.type),
        namespace=at.namespace,
        url=_address(at),
        signing=_secret(at, spec.hmac_secret_ref),
        rules=Rules(
            allow_networks=tuple(ip_network(each) for each in spec.allow_networks) if in_root else (),
            cluster_networks=tuple(cluster_networks),
            allow_http=_without_tls(spec) if in_root else frozenset(),
        ),
        timeout_s=spec.timeout_s,
        repeat_s=repeat_s,
        default=in_root,
    )


def _address(at: ReceiverAt) -> str | SecretRef:
    return at.receiver.url or _secret(at, at.receiver.secret_ref) or ""


def _secret(at: ReceiverAt, ref: api.SecretRef | None) -> SecretRef | None:
    return None if ref is None else SecretRef(at.namespace, ref.name, ref.key)


def _without_tls(spec: api.Receiver) -> frozenset[str]:
    url = urlsplit(spec.url or "")
    return frozenset({(url.hostname or "").rstrip(".")}) if url.scheme == "http" else frozenset()
