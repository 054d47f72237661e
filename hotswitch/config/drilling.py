"""When pods are drilled in their turn, and for how long: the nearest who says one has it (S4.4, S4.6).

A drill gives nothing away (decide.drill), so it is no matter of safety. A pod can always stay out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.api import names
from hotswitch.api.policy import PolicySpec
from hotswitch.api.values import shown_duration
from hotswitch.config.layers import DEFAULT, THE_POD, Bearing, Layer, Provenance, said

FOR_S = 5.0
BY_HAND = "by hand only"


@dataclass(frozen=True, slots=True)
class Turns:
    """`every_s` None: only by hand."""

    every_s: float | None = None
    for_s: float = FOR_S


def resolve(found: tuple[Layer, ...], pod: Bearing, where: dict[str, Provenance]) -> Turns:
    every_s, where["drill.every"] = _nearest(found, lambda spec: spec.drill.every_s, None)
    for_s, where["drill.for"] = _nearest(found, lambda spec: spec.drill.for_s, FOR_S)
    if every_s is not None and pod.knobs.texts.get(names.DRILL) == "off":
        before = where["drill.every"]
        where["drill.every"] = Provenance(BY_HAND, THE_POD, (*before.notes, f"{before.source} says {before.value}"))
        every_s = None
    return Turns(every_s, FOR_S if for_s is None else for_s)


def _nearest(
    found: tuple[Layer, ...], pick: Callable[[PolicySpec], float | None], default_s: float | None
) -> tuple[float | None, Provenance]:
    chosen = said(found, pick)
    if not chosen:
        return default_s, Provenance(BY_HAND if default_s is None else shown_duration(default_s), DEFAULT)
    layer, value_s = chosen[-1]
    notes = tuple(f"{other.source} said {shown_duration(each_s)}" for other, each_s in chosen[:-1])
    return value_s, Provenance(shown_duration(value_s), layer.source, notes)
