"""Whom to tell, and under which labels (S4.6). Where a receiver may be reached is a question of authority: an address
that a workload's owner may choose is a way to make the controller speak to the wrong one, so it comes from the root
namespace, or from a Secret of the policy's own namespace.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hotswitch.api.fields import DnsLabel, Duration, Strict, no_doubles
from hotswitch.api.values import duration_s

ReceiverType = Literal["alertmanager", "webhook", "cloudevents", "slack"]

LABEL_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
RESERVED_LABELS = frozenset({"alertname", "code", "namespace", "pod", "severity", "workload"})
"""What hotswitch itself says in an alert: nobody may say it in its place."""


def _network(value: str) -> str:
    ip_network(value)
    return value


def _receiver_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("https", "http") or not url.hostname or not value.isprintable() or " " in value:
        raise ValueError("is not an http or https URL")
    if "@" in url.netloc or url.fragment:
        raise ValueError("must carry neither credentials nor a fragment; what is secret belongs into a Secret")
    return value


class SecretRef(Strict):
    """A key of a Secret in the policy's own namespace."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")]


class Receiver(Strict):
    """Whom to tell. The address is `url` (root namespace only) or what the Secret of `secretRef` holds."""

    name: DnsLabel
    type: ReceiverType
    url: Annotated[str, Field(max_length=2048), AfterValidator(_receiver_url)] | None = None
    secret_ref: SecretRef | None = None
    hmac_secret_ref: SecretRef | None = None
    allow_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()  # root namespace only
    timeout_s: Annotated[float, BeforeValidator(duration_s), Field(ge=0.1, le=60)] = 10.0

    @model_validator(mode="after")
    def _one_address(self) -> Receiver:
        if (self.url is None) == (self.secret_ref is None):
            raise ValueError("give exactly one of url and secretRef")
        return self


def _own_labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a label's name (letters, digits, underscores)")
        if name in RESERVED_LABELS:
            raise ValueError(f"{name} is hotswitch's own label")
        if len(value) > 256:
            raise ValueError(f"{name} is longer than 256 characters")
    return labels


class Alerts(Strict):
    receivers: tuple[Receiver, ...] | None = None
    labels: Annotated[dict[str, str], AfterValidator(_own_labels)] | None = None
    repeat_s: Duration | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Alerts:
        no_doubles(tuple(receiver.name for receiver in self.receivers or ()))
        return self
