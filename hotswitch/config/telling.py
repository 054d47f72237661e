"""Who is told about a pod, under which labels, how often again. Receivers add up: nobody can take another's away.

A namespace's own receivers get what concerns its pods, at an address that a Secret of the same namespace holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hotswitch.api.alerts import Receiver
from hotswitch.api.values import shown_duration
from hotswitch.config.layers import DEFAULT, Layer, Provenance, said
from hotswitch.config.objects import PolicyObject

REPEAT_S = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class ReceiverAt:
    """A receiver and the namespace in which its Secrets are. `policy`: the name of the policy that has it."""

    namespace: str
    policy: str
    receiver: Receiver

    @property
    def key(self) -> str:
        """Unique in the mesh."""
        return f"{self.namespace}/{self.policy}/{self.receiver.name}"


def receivers(mine: Iterable[PolicyObject], where: dict[str, Provenance]) -> tuple[ReceiverAt, ...]:
    found = [
        ReceiverAt(policy.ref.namespace, policy.ref.name, receiver)
        for policy in mine
        for receiver in policy.spec.alerts.receivers or ()
    ]
    found.sort(key=lambda each: each.key)
    sources = {(policy.ref.namespace, policy.ref.name): str(policy.ref) for policy in mine}
    for each in found:
        source = sources[each.namespace, each.policy]
        where[f"alerts.receivers.{each.key}"] = Provenance(each.receiver.type, source)
    return tuple(found)


def labels(found: tuple[Layer, ...], where: dict[str, Provenance]) -> dict[str, str]:
    """Name by name, the nearest who says one has it."""
    merged: dict[str, str] = {}
    for layer, said_here in said(found, lambda spec: spec.alerts.labels):
        for name, value in said_here.items():
            key = f"alerts.labels.{name}"
            notes = (*where[key].notes, f"{where[key].source} said {where[key].value}") if key in where else ()
            where[key] = Provenance(value, layer.source, notes)
            merged[name] = value
    return merged


def repeat_s(found: tuple[Layer, ...], where: dict[str, Provenance]) -> float:
    chosen = said(found, lambda spec: spec.alerts.repeat_s)
    notes = tuple(f"{layer.source} said {shown_duration(value_s)}" for layer, value_s in chosen[:-1])
    source, value_s = (chosen[-1][0].source, chosen[-1][1]) if chosen else (DEFAULT, REPEAT_S)
    where["alerts.repeat"] = Provenance(shown_duration(value_s), source, notes)
    return value_s
