"""HotSwitchPolicy, as users write it: the spec's fields, each of which may be left unsaid (I2, S4.6).

A spec says what its author wants; what he may want is settled elsewhere (config.scope, config.merged). The same rules
are in the schema that the API server enforces (api.schema); here they are checked again, because a policy may also
come from a file, or from before the schema. Names in Python carry units (`expiry_s`), in YAML they do not (`expiry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from hotswitch.api.alerts import Alerts
from hotswitch.api.fields import DnsLabel, Duration, Strict, camel, invalid_values, no_doubles
from hotswitch.api.values import CODE_PATTERN, Allowance, allowance, shown_duration
from hotswitch.model import ACTED_ON, Dependency, Direction, Mode, Reaction

Profile = Literal["default", "fast"]
OptIn = Literal["label", "all"]
Adopt = Literal["never", "when-below"]
ActuatorName = Literal["agent", "helper", "exec"]
OutputName = Literal["slices", "xds", "istio"]

Share = Annotated[Allowance, BeforeValidator(allowance)]
Code = Annotated[str, Field(pattern=CODE_PATTERN)]
SomeLevel = Literal["rescue", "direct", "hold"]
Levels = Annotated[tuple[SomeLevel, ...], AfterValidator(no_doubles)]
Probes = Annotated[int, Field(ge=1, le=100)]


def _at_least_a_minute(seconds: float | None) -> float | None:
    if seconds is not None and seconds < 60.0:
        raise ValueError("is less than 1m")
    return seconds


def _at_most_a_minute(seconds: float | None) -> float | None:
    if seconds is not None and not 1.0 <= seconds <= 60.0:
        raise ValueError("is not between 1s and 1m")
    return seconds


class LabelSelector(Strict):
    """Only `matchLabels`, as in Istio's own policies. Empty selects everything."""

    match_labels: dict[str, str] = Field(default_factory=dict)

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items())


class Selector(LabelSelector):
    """`namespaces`: root namespace only; empty means all."""

    namespaces: Annotated[tuple[DnsLabel, ...], AfterValidator(no_doubles)] = ()


class DirectionLevels(Strict):
    """Which levels may be used, as sets: the order is always rescue, direct, hold, and hold is always allowed."""

    inbound: Levels | None = None
    outbound: Levels | None = None


class Timings(Strict):
    expiry_s: Duration | None = None
    open_at_most_s: Duration | None = None
    hold_down_s: Duration | None = None
    hold_down_max_s: Duration | None = None
    recover_after_s: Duration | None = None
    recover_probes: Probes | None = None
    stale_after_s: Duration | None = None
    certificate_ends_s: Duration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Timings:
        for less, more in (("expiry_s", "open_at_most_s"), ("hold_down_s", "hold_down_max_s")):
            first, second = getattr(self, less), getattr(self, more)
            if first is not None and second is not None and first > second:
                raise ValueError(
                    f"{camel(less)} {shown_duration(first)} is longer than {camel(more)} {shown_duration(second)}"
                )
        return self


class DurationBound(Strict):
    min_s: Duration | None = None
    max_s: Duration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DurationBound:
        if self.min_s is not None and self.max_s is not None and self.min_s > self.max_s:
            raise ValueError(f"min {shown_duration(self.min_s)} is longer than max {shown_duration(self.max_s)}")
        return self


class Bounds(Strict):
    """How far namespaces and workloads may change a timing. Root namespace only."""

    expiry: DurationBound | None = None
    open_at_most: DurationBound | None = None
    hold_down: DurationBound | None = None
    hold_down_max: DurationBound | None = None
    recover_after: DurationBound | None = None
    profile: Profile | None = None  # the fastest that may be chosen


class Acceptance(Strict):
    """Somebody with authority over the mesh accepts that the code's loss happens, for these pods, and says why (I2)."""

    code: Code
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"\S")]
    namespaces: Annotated[tuple[DnsLabel, ...], AfterValidator(no_doubles)] = ()  # empty: all
    selector: LabelSelector = LabelSelector()
    only_by_order: bool = False  # counts only while a person's order names the code


class Budgets(Strict):
    """How many pods may be open at once (I3): a count or a share. `mesh` and `node`: root namespace only."""

    mesh: Share | None = None
    node: Share | None = None
    namespace: Share | None = None
    workload: Share | None = None


class Dependencies(Strict):
    """What to do when something that the proxy depends on is not well (S4.2c). Most are never acted on."""

    certificate_expired: Reaction | None = None
    no_configuration: Reaction | None = None
    configuration_rejected: Reaction | None = None
    control_plane_lost: Reaction | None = None
    certificate_missing: Reaction | None = None
    certificate_ends: Reaction | None = None

    @model_validator(mode="after")
    def _only_some_are_acted_on(self) -> Dependencies:
        for dependency, reaction in self.said().items():
            if reaction is Reaction.ACT and dependency not in ACTED_ON:
                raise ValueError(f"{camel(dependency.replace('-', '_'))} is never acted on; say or page")
        return self

    def said(self) -> dict[Dependency, Reaction]:
        found = {dependency: getattr(self, dependency.replace("-", "_")) for dependency in Dependency}
        return {dependency: reaction for dependency, reaction in found.items() if reaction is not None}


class Drilling(Strict):
    """One pod of each workload in turn is drilled by order of the controller. Without `every`: by hand only."""

    every_s: Annotated[Duration | None, AfterValidator(_at_least_a_minute)] = None
    for_s: Annotated[Duration | None, AfterValidator(_at_most_a_minute)] = None


class Endpoints(Strict):
    """`outputs`: how data planes may be told of Services (S2.5). Beyond slices and xDS only the root namespace gives
    one; everybody else can only take away."""

    outputs: Annotated[tuple[OutputName, ...], AfterValidator(no_doubles)] | None = None


class PolicySpec(Strict):
    """None: nothing is said about it, which is not the same as a default."""

    selector: Selector = Selector()
    mode: Mode | None = None
    opt_in: OptIn | None = None
    directions: Annotated[tuple[Direction, ...], AfterValidator(no_doubles)] | None = None
    levels: DirectionLevels = DirectionLevels()
    profile: Profile | None = None
    timings: Timings = Timings()
    bounds: Bounds = Bounds()
    accept: tuple[Acceptance, ...] = ()
    budgets: Budgets = Budgets()
    actuators: Annotated[tuple[ActuatorName, ...], AfterValidator(no_doubles)] | None = None
    dependencies: Dependencies = Dependencies()
    adopt: Adopt | None = None
    drill: Drilling = Drilling()
    endpoints: Endpoints = Endpoints()
    alerts: Alerts = Alerts()


def parse(spec: object, at: str = "spec") -> PolicySpec:
    """Raises InvalidValues with every wrong field."""
    try:
        return PolicySpec.model_validate(spec if spec is not None else {})
    except ValidationError as failure:
        raise invalid_values(failure, at) from failure
