"""What is allowed for one pod (config/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch.model.level import Level
from hotswitch.model.ports import Port


class Mode(StrEnum):
    AUTO = "auto"
    OBSERVE = "observe"  # say what would be done, do nothing
    OFF = "off"


class Mtls(StrEnum):
    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When evidence is enough. Defaults: architecture.md "Confirmation"; the fast profile is opt-in."""

    probe_timeout_s: float = 0.25
    hung_probes: int = 3  # timeouts in a row, on fresh connections
    hung_queue_s: float = 0.25  # accept queue's head not moving for this long
    loop_lag_s: float = 0.02  # a probe during which our own loop was later than this says nothing
    direct_after_s: float = 0.25  # `direct` inbound: the fault has stood at least this long, and a second source agrees
    recover_probes: int = 3  # end-to-end passes through the proxy before capture comes back
    recover_after_s: float = 1.0  # and well for at least this long
    second_within_s: float = 1.0  # a controller that is asked about a hang is waited for so long, from the question


class Dependency(StrEnum):
    """What a proxy depends on can be wrong in these ways (S4.2c)."""

    CERTIFICATE_EXPIRED = "certificate-expired"
    NO_CONFIGURATION = "no-configuration"
    CONFIGURATION_REJECTED = "configuration-rejected"
    CONTROL_PLANE_LOST = "control-plane-lost"
    CERTIFICATE_MISSING = "certificate-missing"
    CERTIFICATE_ENDS = "certificate-ends"


class Reaction(StrEnum):
    ACT = "act"  # as the levels allow
    PAGE = "page"
    SAY = "say"


ACTED_ON: frozenset[Dependency] = frozenset({Dependency.CERTIFICATE_EXPIRED, Dependency.NO_CONFIGURATION})
"""Those that stop traffic; the others are never a reason to open anything."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What hotswitch may do for one pod: the result of intersecting all safety fields (I2)."""

    mode: Mode = Mode.OBSERVE
    inbound: tuple[Level, ...] = (Level.RESCUE, Level.HOLD)  # tried in this order
    outbound: tuple[Level, ...] = (Level.HOLD,)
    outbound_free: bool = False  # preflight: nothing is enforced outbound, so `direct` gives nothing away there (I3)
    mtls: Mtls = Mtls.STRICT
    mtls_by_port: Mapping[Port, Mtls] = field(default_factory=dict)
    strict_granted: bool = False  # the mesh's administrators accept `direct` where mTLS is STRICT (I2)
    never_direct: frozenset[Port] = frozenset()  # inbound ports that the preflight refuses to open to `direct`
    expiry_s: float = 300.0  # kernel timeout of an opening; renewed while the fault lasts
    open_at_most_s: float = 3600.0  # no renewal beyond this
    hold_down_s: float = 30.0  # after a restore; doubles on every further fault, up to hold_down_max_s
    hold_down_max_s: float = 3600.0
    thresholds: Thresholds = Thresholds()
    dependencies: Mapping[Dependency, Reaction] = field(default_factory=dict)
    stale_after_s: float = 300.0  # without its control plane for so long
    certificate_ends_s: float = 3600.0  # Istio renews at half of a life of 24 h

    def reaction(self, dependency: Dependency) -> Reaction:
        return self.dependencies.get(dependency, Reaction.ACT if dependency in ACTED_ON else Reaction.SAY)

    def mtls_on(self, port: Port) -> Mtls:
        return self.mtls_by_port.get(port, self.mtls)
