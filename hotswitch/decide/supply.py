"""What the proxy depends on, and is not well supplied with: named, and said or paged as the policy wants (S4.2c).

None of it is a reason to open anything: a proxy whose configuration is old still serves what it knows. Those two lacks
that stop traffic are faults of their own (certificate expired, no configuration); the policy may leave these to people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hotswitch.decide.codes import Code
from hotswitch.decide.verdict import SURE
from hotswitch.model import Dependency, Diagnosis, Fault, Policy, Reaction, Supply, View

_FAULTS: Mapping[Fault, tuple[Dependency, Code]] = {
    Fault.CERTIFICATE_EXPIRED: (Dependency.CERTIFICATE_EXPIRED, Code.CERTIFICATE_EXPIRED),
    Fault.UNCONFIGURED: (Dependency.NO_CONFIGURATION, Code.NO_CONFIGURATION),
}


def left_to_people(fault: Fault, policy: Policy) -> bool:
    """The policy does not want this fault to be acted on."""
    found = _FAULTS.get(fault)
    return found is not None and policy.reaction(found[0]) is not Reaction.ACT


def concerns(view: View, diagnosis: Diagnosis) -> Iterator[tuple[Reaction, Code, str]]:
    """What is to be said, with the policy's reaction; nothing of a pod that begins or ends."""
    if diagnosis.fault in (Fault.TERMINATING, Fault.STARTING):
        return
    if diagnosis.grade in SURE and left_to_people(diagnosis.fault, view.policy):
        dependency, code = _FAULTS[diagnosis.fault]
        yield view.policy.reaction(dependency), code, diagnosis.sentence
    if view.facts.supply is not None:
        for dependency, code, sentence in _lacks(view.facts.supply, view.policy):
            yield view.policy.reaction(dependency), code, sentence


def _lacks(supply: Supply, policy: Policy) -> Iterator[tuple[Dependency, Code, str]]:
    if supply.cut_off and supply.cut_off_s >= policy.stale_after_s:
        what = f"the proxy is cut off from {', '.join(supply.cut_off)}: what it knows grows old"
        yield Dependency.CONTROL_PLANE_LOST, Code.CONTROL_PLANE_LOST, what
    if supply.rejected:
        what = f"the proxy rejected its newest {', '.join(supply.rejected)}, and goes on with what it had"
        yield Dependency.CONFIGURATION_REJECTED, Code.CONFIGURATION_REJECTED, what
    if supply.missing:
        what = f"the proxy was never given: {', '.join(supply.missing)}"
        yield Dependency.CERTIFICATE_MISSING, Code.CERTIFICATE_MISSING, what
    ends_in_s = supply.certificate_ends_in_s
    if ends_in_s is not None and 0 < ends_in_s <= policy.certificate_ends_s:
        what = "the proxy's certificate ends soon, and was not renewed"
        yield Dependency.CERTIFICATE_ENDS, Code.CERTIFICATE_ENDS, what
