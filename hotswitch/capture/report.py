"""An inspection as words, as JSON, and as one exit code for scripts (S4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from hotswitch.capture.inspection import FamilyView, Inspection, State
from hotswitch.capture.spec import CaptureSpec

EXIT_CODES = {State.CAPTURED: 0, State.ABSENT: 3, State.FOREIGN: 3, State.PARTIAL: 4, State.OPEN: 5}
_WORST_FIRST = (State.PARTIAL, State.OPEN, State.CAPTURED, State.FOREIGN, State.ABSENT)


@dataclass(frozen=True, slots=True)
class Report:
    """`differences`: from the spec that was asked for; without one, none are known."""

    found: Inspection
    differences: tuple[str, ...]

    @classmethod
    def of(cls, found: Inspection, spec: CaptureSpec | None) -> Report:
        return cls(found, tuple(found.matches(spec)) if spec else ())

    @property
    def state(self) -> State:
        """Of both families together. A family without rules counts only if neither has any, or if the spec has some."""
        states = {self.found.ip.state, self.found.ip6.state}
        worst = next(state for state in _WORST_FIRST if state in states)
        there = worst not in (State.ABSENT, State.FOREIGN)
        return State.PARTIAL if there and self.differences else worst

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.state]

    def as_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "state": str(self.state),
            "ip": self._family("ip", found.ip),
            "ip6": self._family("ip6", found.ip6),
            "backends": [str(backend) for backend in found.backends],
            "differences": list(self.differences),
            "foreign_nat": list(found.foreign_nat),
            "doubtful": list(found.doubtful),
            "openings": list(found.openings),
            "legacy_tables": list(found.legacy_tables),
            "dormant": list(found.dormant),
            "routing": asdict(found.routing),
            "digest": found.digest,
        }

    def _family(self, name: str, view: FamilyView) -> dict[str, Any]:
        return {
            "state": str(view.state),
            "backends": [str(backend) for backend in view.backends],
            "releases": [str(release) for release in self.found.releases(name)],
            "problems": list(view.problems),
        }

    def lines(self) -> list[str]:
        return [
            f"state  {self.state}",
            *self._family_lines("ip", self.found.ip),
            *self._family_lines("ip6", self.found.ip6),
            *self._others(),
        ]

    def _family_lines(self, name: str, view: FamilyView) -> Iterator[str]:
        by = f" by {', '.join(view.backends)}" if view.backends else ""
        whole = view.state in (State.CAPTURED, State.OPEN)
        releases = " or ".join(sorted(self.found.releases(name))) if whole else ""
        yield f"{name:5}  {view.state}{by}" + (f", as Istio {releases}" if releases else "")
        yield from (f"       {problem}" for problem in view.problems)

    def _others(self) -> Iterator[str]:
        known = {*self.found.ip.problems, *self.found.ip6.problems}
        parts = {
            "differs from the spec": [text for text in self.differences if text not in known],
            "outside netfilter": self.found.routing.sentences,
            "Istio's, or somebody else's": self.found.doubtful,
            "address translation by others": self.found.foreign_nat,
            "openings of the gate": self.found.openings,
            "legacy tables": self.found.legacy_tables,
        }
        for title, texts in parts.items():
            if texts:
                yield f"{title}:"
                yield from (f"       {text}" for text in texts)
