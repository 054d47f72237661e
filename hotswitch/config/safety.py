"""Fields that decide what may be given away: intersected over mesh, namespace and workload (I2, I3).

The mesh gives; whoever comes after it may take away and never add. So the order in which namespaces and workloads are
asked does not matter, and a value that asks for more than was given is said in `explain` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Generic, TypeVar

from hotswitch.api.policy import PolicySpec
from hotswitch.api.values import Allowance
from hotswitch.config.layers import DEFAULT, MESH_TIERS, Layer, Provenance, said
from hotswitch.model import Dependency, Direction, Level, Mode, Policy, Reaction

T = TypeVar("T")

ORDER = (Level.RESCUE, Level.DIRECT, Level.HOLD)
_MODES = (Mode.OFF, Mode.OBSERVE, Mode.AUTO)
_REACTIONS = (Reaction.PAGE, Reaction.SAY, Reaction.ACT)
ACTUATORS = ("agent", "helper", "exec")


@dataclass(frozen=True)
class Safety(Generic[T]):
    """`meet` of two values gives no more than either; `default` is what the mesh gives when it says nothing."""

    name: str
    default: T
    pick: Callable[[PolicySpec], T | None]
    meet: Callable[[T, T], T]
    show: Callable[[T], str] = str


def resolve(field: Safety[T], found: tuple[Layer, ...]) -> tuple[T, Provenance]:
    value, source, notes = given(field, found)
    for layer, wanted in said([layer for layer in found if layer.tier not in MESH_TIERS], field.pick):
        less = field.meet(value, wanted)
        if less != wanted:
            notes.append(f"{layer.source} asks for {field.show(wanted)}, more than it is given")
        if less != value:
            notes.append(f"{source} gives {field.show(value)}")
            value, source = less, layer.source
    return value, Provenance(field.show(value), source, tuple(notes))


def given(field: Safety[T], found: tuple[Layer, ...]) -> tuple[T, str, list[str]]:
    """What the mesh gives, who says so, and what that replaced."""
    value, source, notes = field.default, DEFAULT, list[str]()
    for tier in MESH_TIERS:
        here = said([layer for layer in found if layer.tier is tier], field.pick)
        if not here:
            continue
        notes += [f"{source} gave {field.show(value)}"] if source != DEFAULT else []
        value, source = reduce(field.meet, (each for _, each in here)), " and ".join(layer.source for layer, _ in here)
    return value, source, notes


def _least(order: tuple[T, ...]) -> Callable[[T, T], T]:
    return lambda one, other: min(one, other, key=order.index)


def _levels(direction: Direction, default: frozenset[Level]) -> Safety[frozenset[Level]]:
    def pick(spec: PolicySpec) -> frozenset[Level] | None:
        levels = getattr(spec.levels, direction)
        return None if levels is None else frozenset({*map(Level, levels), Level.HOLD})

    return Safety(f"levels.{direction}", default, pick, frozenset.intersection, shown_levels)


def shown_levels(levels: frozenset[Level]) -> str:
    return ", ".join(level for level in ORDER if level in levels)


def _directions(spec: PolicySpec) -> frozenset[Direction] | None:
    return None if spec.directions is None else frozenset(spec.directions)


def _budget(name: str, default: Allowance) -> Safety[Allowance]:
    def pick(spec: PolicySpec) -> Allowance | None:
        value: Allowance | None = getattr(spec.budgets, name)
        return value

    return Safety(f"budgets.{name}", default, pick, Allowance.meet)


def _reaction(dependency: Dependency) -> Safety[Reaction]:
    default = Policy().reaction(dependency)
    return Safety(
        f"dependencies.{dependency}",
        default,
        lambda spec: spec.dependencies.said().get(dependency),
        _least(_REACTIONS),
    )


MODE = Safety[Mode]("mode", Mode.OBSERVE, lambda spec: spec.mode, _least(_MODES))
OPT_IN = Safety[str]("optIn", "label", lambda spec: spec.opt_in, _least(("label", "all")))
LEVELS: Mapping[Direction, Safety[frozenset[Level]]] = {
    Direction.INBOUND: _levels(Direction.INBOUND, frozenset({Level.RESCUE, Level.HOLD})),
    Direction.OUTBOUND: _levels(Direction.OUTBOUND, frozenset({Level.HOLD})),
}
DIRECTIONS = Safety[frozenset[Direction]](
    "directions",
    frozenset(Direction),
    _directions,
    frozenset.intersection,
    lambda ways: ", ".join(way for way in Direction if way in ways) or "none",
)
BUDGETS: Mapping[str, Safety[Allowance]] = {
    "mesh": _budget("mesh", Allowance(percent=20)),
    "node": _budget("node", Allowance(count=10)),
    "namespace": _budget("namespace", Allowance(percent=50)),
    "workload": _budget("workload", Allowance(count=1)),
}
ACTUATOR = Safety[tuple[str, ...]](
    "actuators",
    ACTUATORS,
    lambda spec: spec.actuators,
    lambda first, others: tuple(name for name in first if name in others),
    lambda chosen: ", ".join(chosen) or "none",
)
ADOPT = Safety[str]("adopt", "never", lambda spec: spec.adopt, _least(("never", "when-below")))
DEPENDENCIES: Mapping[Dependency, Safety[Reaction]] = {dependency: _reaction(dependency) for dependency in Dependency}
