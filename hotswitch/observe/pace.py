"""How often a pod is looked at: slow when idle, fast on suspicion, less and less fast while a doubt stays (S4.2b)."""

from __future__ import annotations

from dataclasses import dataclass

SLOW_S = 0.03  # a healthy Envoy answers within 1 ms; asking again this early costs a probe and wins most of a second
SLOW_PART = 4  # a pace that asks more often doubts sooner, too: after this part of the time between two questions
DOUBT_S = 5.0  # after so long, and so long again, a doubt is looked at half, and a third, as often


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to ask, in seconds. idle 0.8 keeps a hang below 1.2 s; most of its questions go over the held
    connection, because a fresh one each time would cost 250 pods a third of a core."""

    idle_s: float = 0.8
    fresh_s: float = 8.0
    fast_s: float = 0.05
    alert_s: float = 0.25
    path_idle_s: float = 30.0
    path_fast_s: float = 0.3

    @property
    def slow_s(self) -> float:
        """An answer that takes longer is a reason to doubt."""
        return min(SLOW_S, self.idle_s / SLOW_PART)


class Doubt:
    """That something may be wrong, since when, and how soon to look again."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._since_s: float | None = None

    def __bool__(self) -> bool:
        return self._since_s is not None

    def end(self) -> None:
        self._since_s = None

    def wait_s(self, now_s: float) -> float:
        """A doubt is settled fast; it begins now, if there was none. One that stays (a proxy that is throttled all day)
        is looked at less and less often, down to the pace of a fault."""
        self._since_s = now_s if self._since_s is None else self._since_s
        slower = 1 + (now_s - self._since_s) / DOUBT_S
        pace = self._pace
        return max(pace.fast_s, min(pace.fast_s * slower, pace.alert_s))
