"""What a controller and the helper beside a proxy say to each other, as JSON over exec (S4.2, I4, I6).

The same words as act.order has, made for a wire: instants become ages, because the two clocks differ. Whoever reads
them checks every field; an unknown one is an error, so that nothing is half understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hotswitch.api.drills import Drilled, Told
from hotswitch.model import Diagnosis, Direction, Fault, Generation, Grade, Level, Mtls, Opening, Policy

LEASE_S = 12.0
"""What the kernel is told at a time of an opening that leads to the rescue."""
ORDER_AT_MOST_S = 3600.0
"""A controller renews; what nobody renews for an hour nobody wants."""


class OrderText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The whole gate for `expiry_s` seconds; `openings` empty: close. `mtls`, `mtls_by_port` and `authorization` are
    what the rescue keeps up; None: as it was told last. `uid`: the pod's; a helper of another one refuses. `drill`: no
    gate, but a drill that the helper begins and ends; it takes this generation and the next."""

    uid: str
    generation: int
    openings: dict[Direction, OpeningText] = msgspec.field(default_factory=dict)
    expiry_s: float = 0.0
    code: str = ""
    reason: str = ""
    who: str = "controller"
    cut: bool = False
    mtls: Mtls | None = None
    mtls_by_port: dict[int, Mtls] = msgspec.field(default_factory=dict)
    authorization: list[dict[str, Any]] = msgspec.field(default_factory=list)
    drill: Told | None = None

    def gate(self) -> dict[Direction, Opening]:
        return {way: Opening(each.level, dict(each.ports)) for way, each in self.openings.items()}


class OpeningText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    level: Level
    ports: dict[int, Level] = msgspec.field(default_factory=dict)


class DiagnosisText(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`age_s`: how old the oldest evidence is."""

    fault: Fault
    grade: Grade
    sentence: str = ""
    evidence: dict[str, str] = msgspec.field(default_factory=dict)
    age_s: float | None = None


class TruthText(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`levels`, `generation`, `istio_*`: what the kernel shows. `refusal`: why the gate cannot be used here now, and
    `rescue_refusal`: why the rescue cannot. `drilled`: what became of the drill that was ordered last, once it has
    ended."""

    v: int = 1
    uid: str
    levels: dict[Direction, Level]
    generation: int = 0
    expires_in_s: float | None = None
    istio_rules: str = ""
    istio_complete: bool = True
    diagnosis: DiagnosisText | None = None
    identity_expires_in_s: float | None = None
    path_passes: int | None = None
    refusal: str = ""
    rescue_refusal: str = ""
    rescue_deaths: int = 0
    stand_in: str = ""
    drilled: Drilled | None = None


class AnswerText(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`outcome`: done, refused or failed (act.order.Outcome)."""

    outcome: str
    sentence: str = ""
    truth: TruthText | None = None
    durations_ms: dict[str, float] = msgspec.field(default_factory=dict)


def order_text(
    *,
    uid: str,
    generation: Generation,
    openings: dict[Direction, Opening],
    policy: Policy | None = None,
    authorization: Iterable[Mapping[str, Any]] = (),
    **more: Any,
) -> OrderText:
    """An order made of the model's values. `authorization`: AuthorizationPolicies, or their specs alone; `more`: the
    other fields as they are."""
    texts = {way: OpeningText(each.level, dict(each.ports)) for way, each in openings.items()}
    if policy is not None:
        kept = whole_policies(authorization)
        more |= {"mtls": policy.mtls, "mtls_by_port": dict(policy.mtls_by_port), "authorization": kept}
    return OrderText(uid=uid, generation=int(generation), openings=texts, **more)


def whole_policies(authorization: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """AuthorizationPolicies, or their specs alone, as whole ones."""
    return [dict(each) if "spec" in each else {"spec": dict(each)} for each in authorization]


def diagnosis_text(diagnosis: Diagnosis, now_s: float) -> DiagnosisText:
    age_s = None if diagnosis.since_s is None else round(max(0.0, now_s - diagnosis.since_s), 3)
    return DiagnosisText(
        fault=diagnosis.fault,
        grade=diagnosis.grade,
        sentence=diagnosis.sentence,
        evidence=dict(diagnosis.evidence),
        age_s=age_s,
    )


def diagnosis_of(text: DiagnosisText, now_s: float) -> Diagnosis:
    """On the reader's own clock."""
    since_s = None if text.age_s is None else now_s - text.age_s
    return Diagnosis(text.fault, text.grade, text.sentence, dict(text.evidence), since_s)
