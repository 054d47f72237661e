"""Does this machine have what hotswitch needs? Every feature, tool and right is really tried, and named if missing.

What the kernel can do is not read from its version or configuration but tried, in a network namespace made for it
(`hp-PID`) and removed with all that is in it: the machine is afterwards as it was (I4). Each failure is one sentence
that says what is missing and what to do. Used by `hotswitch check`, by the tests (a missing need is a loud skip) and by
make. Python's own version is scripts/setup's matter: an older one cannot even read this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from hotswitch.precheck import machine, programs
from hotswitch.precheck.tools import find_envoy, find_tool

__all__ = ["Finding", "Need", "find_envoy", "find_tool", "look", "missing"]


class Need(StrEnum):
    """What a test, a command or the agent may need; the tests' marks have the same names."""

    NETNS = "netns"
    ENVOY = "envoy"
    K8S = "k8s"
    PROMETHEUS = "prometheus"
    E2E = "e2e"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. `problem` is empty when it works; `said` is what the tool or the kernel answered."""

    name: str
    needs: frozenset[Need]  # what cannot be done without it
    problem: str = ""
    said: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        said = f" ({self.said})" if self.said else ""
        return f"ok       {self.name}" if self.ok else f"MISSING  {self.name}: {self.problem}{said}"


def look(needs: Iterable[Need] = tuple(Need)) -> tuple[Finding, ...]:
    """Try everything that `needs` rest on. Takes about half a second; raises nothing for what is missing."""
    wanted = frozenset(needs)
    return tuple(
        Finding(name, broken, problem, said)
        for check, broken in _CHECKS
        if broken & wanted
        for name, problem, said in check()
    )


def missing(findings: Iterable[Finding], need: Need) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if need in finding.needs and not finding.ok)


_CHECKS: tuple[tuple[Callable[[], Iterator[tuple[str, str, str]]], frozenset[Need]], ...] = (
    (machine.look, frozenset({Need.NETNS, Need.ENVOY})),
    (programs.envoy, frozenset({Need.ENVOY})),
    (programs.kubernetes, frozenset({Need.K8S})),
    (programs.monitoring, frozenset({Need.PROMETHEUS})),
    (programs.cluster, frozenset({Need.E2E})),
)
