"""What people are told by Event, alert, webhook: one value for all channels (S4.6, I8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch.model import PodRef


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"  # a person must come


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """`key`: the same for all notices of one matter, so that repeats are folded and the end finds its beginning (pod
    uid and code, say). `resolved`: the matter has ended. Instants are Unix seconds."""

    key: str
    code: str
    sentence: str
    severity: Severity
    pod: PodRef | None = None  # None: of the namespace, the policy or the whole mesh
    namespace: str = ""
    starts_unix_s: float
    ends_unix_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # alert labels of the policy
    evidence: Mapping[str, str] = field(default_factory=dict)
    receivers: tuple[str, ...] = ()  # names of the policy's receivers; empty: those of the root namespace

    @property
    def resolved(self) -> bool:
        return self.ends_unix_s is not None
