"""What became of pods under stress, and whether hotswitch did what it promises (bench.stress). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.figures import Table, number

ACT_WITHIN_S = 60.0
"""A real fault must be acted on in this time; how long it took is said. Long, because the machine is overloaded."""


@dataclass(slots=True)
class Finding:
    """What became of one pod. `deaths`: how often its proxy really ended, which calls for a switch. `throttled`:
    verdicts "slow because its quota is used up, its memory short, or it waits for a CPU". `late`, `silent`: probes of a
    naive observer not answered within 0.25 s, and within 1 s; `naive_quick`, `naive`: how often it would have switched
    after three of them in a row. `why`: what hotswitch said of each needless switch. `acted_ms`: from the real fault to
    the open gate; None: never."""

    subject: str
    profile: str
    deaths: int = 0
    switches: int = 0
    throttled: int = 0
    held: int = 0
    probes: int = 0
    late: int = 0
    silent: int = 0
    naive: int = 0
    naive_quick: int = 0
    requests: int = 0
    failed: int = 0
    real: str = ""
    acted_ms: float | None = None
    why: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """`agents`: CPU time that each agent took, in % of a core."""

    seconds: float
    findings: list[Finding] = field(default_factory=list)
    agents: dict[str, float] = field(default_factory=dict)

    def breaches(self) -> list[str]:
        """Sentences; empty when hotswitch did what it promises."""
        needless = [
            f"{each.subject}: {each.switches} needless switches"
            for each in self.findings
            if each.profile == "default" and each.switches
        ]
        return needless + [
            f"{each.subject}: a real fault ({each.real}) was not acted on within {ACT_WITHIN_S:g} s"
            for each in self.findings
            if each.acted_ms is None
        ]

    def needless(self) -> list[str]:
        """What was said of each needless switch, of any profile."""
        return [f"{each.subject}: {sentence}" for each in self.findings for sentence in each.why]

    def table(self) -> Table:
        header = (
            "well pod", "killed by the kernel", "needless switches", "verdicts: throttled",
            "probes late (0.25 s) / silent (1 s)",
            "three late / silent in a row", "requests failed", "then a real fault", "acted on after",
        )  # fmt: skip
        return Table(header, tuple(_line(each) for each in self.findings))


def _line(found: Finding) -> tuple[str, ...]:
    acted = "**never**" if found.acted_ms is None else f"{number(found.acted_ms)} ms"
    probes = f"{found.late:,} / {found.silent:,} of {found.probes:,}"
    return (
        found.subject, str(found.deaths), f"**{found.switches}**", str(found.throttled), probes,
        f"{found.naive_quick} / {found.naive}",
        f"{found.failed:,} of {found.requests:,}", found.real, acted,
    )  # fmt: skip
