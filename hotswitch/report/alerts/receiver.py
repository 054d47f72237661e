"""A receiver as a policy names it, and whose word it is (S4.6, A9).

Whoever may choose where hotswitch sends requests may use it as a deputy. So a URL stands in clear only in a policy of
the root namespace; a policy of another namespace names a Secret of that same namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hotswitch.report.alerts.guard import Rules
from hotswitch.report.notice import Notice, Severity

DEFAULT_REPEAT_S = 4 * 3600.0
ALERTMANAGER_REPEAT_S = 60.0
"""Alertmanager takes an alert that is not repeated as resolved; four repeats fit into the end that each one states."""


class Kind(StrEnum):
    ALERTMANAGER = "alertmanager"  # its API v2; `url` is its root, or a root below a path prefix
    WEBHOOK = "webhook"  # JSON of our own
    CLOUDEVENTS = "cloudevents"  # 1.0, structured mode
    SLACK = "slack"  # incoming webhooks of Slack, Mattermost, Rocket.Chat


@dataclass(frozen=True, slots=True)
class SecretRef:
    """One key of a Secret."""

    namespace: str
    name: str
    key: str


class SecretReader(Protocol):
    async def read(self, ref: SecretRef) -> bytes:
        """The value now. Raises LookupError or a missing or refused ApiFailure when there is none; any other Exception
        when it cannot be had at the moment."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """`name`: unique in the controller, "namespace/name" say. `namespace`: of the policy that names it.
    `authorization`: holds the whole header value ("Bearer ..."). `signing`: the key of the signature. `ca`: PEM,
    instead of the system's authorities. `rules`: where its messages may go. `repeat_s`: None is the kind's own; 0 is
    never. `default`: gets notices that name no receiver."""

    name: str
    kind: Kind
    namespace: str
    url: str | SecretRef
    authorization: SecretRef | None = None
    signing: SecretRef | None = None
    ca: SecretRef | None = None
    rules: Rules = field(default_factory=Rules)
    timeout_s: float = 10.0
    repeat_s: float | None = None
    at_least: Severity = Severity.INFO
    default: bool = False

    @property
    def repeats_after_s(self) -> float:
        """To Alertmanager, often enough whatever is wished: how often people hear of it again is its own matter."""
        if self.kind is Kind.ALERTMANAGER:
            return min(self.repeat_s or ALERTMANAGER_REPEAT_S, ALERTMANAGER_REPEAT_S)
        return DEFAULT_REPEAT_S if self.repeat_s is None else self.repeat_s

    def wants(self, notice: Notice) -> bool:
        return rank(notice.severity) >= rank(self.at_least)


def rank(severity: Severity) -> int:
    return list(Severity).index(severity)


def origin_problem(receiver: Receiver, root_namespace: str) -> str:
    """Why this receiver is not to be used, as a sentence; "" when its policy may name it so (A9)."""
    if receiver.namespace == root_namespace and isinstance(receiver.url, str):
        url = None
    elif isinstance(receiver.url, SecretRef):
        url = receiver.url
    else:
        return (
            f"Receiver {receiver.name}: a policy outside of {root_namespace} may not state a URL; name a Secret of "
            f"{receiver.namespace} that holds it."
        )
    refs = (url, receiver.authorization, receiver.signing, receiver.ca)
    foreign = next((ref for ref in refs if ref is not None and ref.namespace != receiver.namespace), None)
    if foreign is None:
        return ""
    return f"Receiver {receiver.name}: Secret {foreign.namespace}/{foreign.name} is not of {receiver.namespace}."
