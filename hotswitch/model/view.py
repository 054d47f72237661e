"""The whole input of a decision: one consistent picture of one pod."""

from __future__ import annotations

from dataclasses import dataclass

from hotswitch.model.facts import Facts
from hotswitch.model.pod import PodRef
from hotswitch.model.policy import Policy
from hotswitch.model.standing import Standing


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What could be done for this pod right now, and why not."""

    gate: bool = True
    gate_refusal: str = ""  # e.g. foreign NAT in the namespace
    rescue: bool = False  # spare Envoy listening in the namespace with a valid identity (seen in the kernel)
    rescue_refusal: str = ""
    rescue_deaths: int = 0  # deaths of the rescue inside the hold-down; two: hold


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What happens around the pod: budgets and mass failure (I3)."""

    open_on_node: int = 0  # other pods that are open at this moment, those of the same tick included
    open_of_workload: int = 0  # likewise
    node_budget: int = 1
    workload_budget: int = 1
    open_in_namespace: int = 0  # likewise
    namespace_budget: int | None = None  # None: not counted
    pods_on_node: int = 1
    faulty_on_node: int = 0  # includes this one
    workload_fault_ages_s: tuple[float, ...] = ()  # how long ago other pods of the workload fell ill
    open_until_s: float | None = None  # no opening lasts longer, none begins later; None: nobody set an end
    frozen: str = ""  # why nothing new may be opened: somebody who sees more than this node says so


@dataclass(frozen=True, slots=True)
class View:
    """One consistent picture of one pod, the whole input of a decision."""

    now_s: float
    pod: PodRef
    policy: Policy
    facts: Facts
    standing: Standing
    capabilities: Capabilities
    surroundings: Surroundings = Surroundings()
