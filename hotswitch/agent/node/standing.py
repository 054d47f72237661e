"""Whom the agent asks: a file of the node where one is named (S4.2, I2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from hotswitch.agent.authority import Authority, Grant, OwnAuthority, Right
from hotswitch.agent.node.settings import StandingPolicy
from hotswitch.config.agentfile import ConfigError, parse_as
from hotswitch.model import PodRef


class StandingAuthority(OwnAuthority):
    """The same for every pod that opted in: what a file says."""

    def __init__(self, standing: StandingPolicy) -> None:
        budget = standing.budget
        super().__init__(rights=Right(node=budget.node, namespace=budget.node, workload=budget.workload))
        self._grant = Grant(version=1, policy=standing.policy.policy(), authorization=standing.authorization)

    def attach(self, pod: PodRef, changed: Callable[[], None]) -> None:
        self.grants[pod.uid] = self._grant
        super().attach(pod, changed)


def authority_of(policy: Path | None) -> Authority:
    """`policy`: the file that says what may be done. Raises ConfigError or OSError."""
    if policy is None:
        return OwnAuthority()  # nobody grants anything: it looks on
    return StandingAuthority(read_standing(policy))


def read_standing(path: Path) -> StandingPolicy:
    """Raises ConfigError or OSError."""
    try:
        return parse_as(StandingPolicy, yaml.safe_load(path.read_text()), str(path))
    except yaml.YAMLError as failure:
        raise ConfigError(f"{path}: not YAML: {failure}") from failure
