"""Timings: the nearest who says one has it, within what the mesh allows (I2).

A timing can be a promise too: an opening that may last longer gives more away, a shorter hold-down makes an induced
fault worth trying again. In those directions the mesh's own value is the limit, unless its bounds say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from hotswitch.api.policy import Bounds, DurationBound, PolicySpec
from hotswitch.api.values import shown_duration
from hotswitch.config.layers import DEFAULT, MESH_TIERS, Layer, Provenance, said
from hotswitch.model import Policy, Thresholds

_A_MINUTE = "a minute"
"""Recovery may be drawn out so far where the mesh sets no bound: the gate stays open meanwhile."""
_POLICY, _THRESHOLDS = Policy(), Thresholds()


@dataclass(frozen=True, slots=True)
class Timing:
    """`field` of Timings, `bound` of Bounds. `at_most`, `at_least`: which of the mesh's own timings is the limit where
    the mesh sets no bound."""

    name: str
    default_s: float
    field: str
    bound: str = ""
    at_most: str = ""
    at_least: str = ""

    def pick(self, spec: PolicySpec) -> float | None:
        value_s: float | None = getattr(spec.timings, self.field)
        return value_s


TIMINGS: tuple[Timing, ...] = (
    Timing("expiry", _POLICY.expiry_s, "expiry_s", bound="expiry", at_most="openAtMost"),
    Timing("openAtMost", _POLICY.open_at_most_s, "open_at_most_s", bound="open_at_most", at_most="openAtMost"),
    Timing("holdDown", _POLICY.hold_down_s, "hold_down_s", bound="hold_down", at_least="holdDown"),
    Timing("holdDownMax", _POLICY.hold_down_max_s, "hold_down_max_s", bound="hold_down_max", at_least="holdDownMax"),
    Timing("recoverAfter", _THRESHOLDS.recover_after_s, "recover_after_s", bound="recover_after", at_most=_A_MINUTE),
    Timing("staleAfter", _POLICY.stale_after_s, "stale_after_s"),
    Timing("certificateEnds", _POLICY.certificate_ends_s, "certificate_ends_s"),
)


def resolve(found: tuple[Layer, ...]) -> tuple[dict[str, float], dict[str, Provenance]]:
    """Every duration of TIMINGS by its name, in seconds, and where each came from."""
    mesh_layers = tuple(layer for layer in found if layer.tier in MESH_TIERS)
    own = {timing.name: _nearest(timing, mesh_layers)[0] for timing in TIMINGS}
    bounds = bounds_of(mesh_layers)
    values, where = dict[str, float](), dict[str, Provenance]()
    for timing in TIMINGS:
        values[timing.name], where[timing.name] = _bounded(timing, found, own, bounds)
    _agree(values, where, "expiry", "openAtMost", follows="expiry")
    _agree(values, where, "holdDown", "holdDownMax", follows="holdDownMax")
    return values, where


def bounds_of(mesh_layers: tuple[Layer, ...]) -> Bounds:
    """Side by side: the nearest who sets a bound has it."""
    bounds: dict[str, object] = {}
    for layer in mesh_layers:
        own = {name: getattr(layer.spec.bounds, name) for name in Bounds.model_fields}
        bounds |= {name: value for name, value in own.items() if value is not None}
    return Bounds().model_copy(update=bounds)


def _nearest(timing: Timing, found: tuple[Layer, ...]) -> tuple[float, Layer | None, list[str]]:
    chosen = said(found, timing.pick)
    notes = [f"{layer.source} said {shown_duration(value_s)}" for layer, value_s in chosen[:-1]]
    return (chosen[-1][1], chosen[-1][0], notes) if chosen else (timing.default_s, None, notes)


def _bounded(
    timing: Timing, found: tuple[Layer, ...], own: Mapping[str, float], bounds: Bounds
) -> tuple[float, Provenance]:
    """The mesh's own value is not held to its bounds: the same people set both."""
    value_s, layer, notes = _nearest(timing, found)
    if layer is None or layer.tier in MESH_TIERS:
        return value_s, Provenance(shown_duration(value_s), DEFAULT if layer is None else layer.source, tuple(notes))
    low_s, high_s = _limits(timing, own, bounds)
    for limit_s, cuts, words in ((low_s, value_s < low_s, "at least"), (high_s, value_s > high_s, "at most")):
        if cuts:
            notes.append(f"asks for {shown_duration(value_s)}; the mesh allows {words} {shown_duration(limit_s)}")
            value_s = limit_s
    return value_s, Provenance(shown_duration(value_s), layer.source, tuple(notes))


def _limits(timing: Timing, own: Mapping[str, float], bounds: Bounds) -> tuple[float, float]:
    bound: DurationBound = getattr(bounds, timing.bound, None) or DurationBound()
    low_s = own.get(timing.at_least, 0.0) if bound.min_s is None else bound.min_s
    high_s = own.get(timing.at_most, inf) if bound.max_s is None else bound.max_s
    if timing.at_most == _A_MINUTE and bound.max_s is None:
        high_s = max(own[timing.name], 60.0)
    return low_s, high_s


def _agree(values: dict[str, float], where: dict[str, Provenance], shorter: str, longer: str, follows: str) -> None:
    """Values from several places may contradict each other: the shorter opening and the longer hold-down hold."""
    if values[shorter] <= values[longer]:
        return
    other = longer if follows == shorter else shorter
    notes = (*where[follows].notes, f"{where[follows].source} said {where[follows].value}; it follows {other}")
    values[follows] = values[other]
    where[follows] = Provenance(shown_duration(values[follows]), where[other].source, notes)
