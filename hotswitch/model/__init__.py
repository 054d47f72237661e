"""Value types that every room speaks. No I/O, no clock, no logging: only frozen values and their names.

observe/ fills `Facts`; decide/ turns facts into a `Diagnosis` and, with the pod's `Standing` and `Policy`, into
`Decision`s; act/ carries decisions out; report/ writes them down (I8). All times are seconds; `*_s` that are instants
come from one monotonic clock, wall-clock instants are named `*_unix_s`.
"""

from hotswitch.model.decision import Act, Decision
from hotswitch.model.diagnosis import Diagnosis, Fault, Grade
from hotswitch.model.facts import (
    AcceptQueue,
    Facts,
    Listeners,
    Opinion,
    PathComparison,
    Pressure,
    Probe,
    ProbeOutcome,
    Supply,
    Tripwire,
)
from hotswitch.model.level import OPEN_LEVELS, Direction, Level, Opening
from hotswitch.model.pod import AGENT_CONTAINER, Generation, NetnsCookie, PodRef, PodUid
from hotswitch.model.policy import ACTED_ON, Dependency, Mode, Mtls, Policy, Reaction, Thresholds
from hotswitch.model.ports import (
    ADMIN,
    AGENT_STATUS,
    DRILL_MARK,
    ENVOY_INBOUND,
    ENVOY_OUTBOUND,
    HEALTH,
    MESH_ONLY_NETWORKS,
    NEVER_OPENED,
    PROXY_PORTS,
    RESCUE_INBOUND,
    RESCUE_OUTBOUND,
    RESCUE_UID,
    STAND_IN,
    STAND_IN_UID,
    STATS,
    TRIAL_MARK,
    TUNNEL,
    Port,
)
from hotswitch.model.standing import Override, Standing
from hotswitch.model.view import Capabilities, Surroundings, View

__all__ = [
    "ACTED_ON",
    "ADMIN",
    "AGENT_CONTAINER",
    "AGENT_STATUS",
    "DRILL_MARK",
    "ENVOY_INBOUND",
    "ENVOY_OUTBOUND",
    "HEALTH",
    "MESH_ONLY_NETWORKS",
    "NEVER_OPENED",
    "OPEN_LEVELS",
    "PROXY_PORTS",
    "RESCUE_INBOUND",
    "RESCUE_OUTBOUND",
    "RESCUE_UID",
    "STAND_IN",
    "STAND_IN_UID",
    "STATS",
    "TRIAL_MARK",
    "TUNNEL",
    "AcceptQueue",
    "Act",
    "Capabilities",
    "Decision",
    "Dependency",
    "Diagnosis",
    "Direction",
    "Facts",
    "Fault",
    "Generation",
    "Grade",
    "Level",
    "Listeners",
    "Mode",
    "Mtls",
    "NetnsCookie",
    "Opening",
    "Opinion",
    "Override",
    "PathComparison",
    "PodRef",
    "PodUid",
    "Policy",
    "Port",
    "Pressure",
    "Probe",
    "ProbeOutcome",
    "Reaction",
    "Standing",
    "Supply",
    "Surroundings",
    "Thresholds",
    "Tripwire",
    "View",
]
