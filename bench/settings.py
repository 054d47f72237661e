"""How much of it: a quick look, or figures worth quoting."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "hb-"
"""Every namespace, cgroup and run directory of the bench begins with it."""
READY_S = 120.0
"""How long a pod may take to become Ready before anything is measured: a busy machine starts a dozen of them slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`rounds`: times that a fault is made for the other actors, and `ours` for hotswitch itself, whose figures are
    small and need more of them. `pods`: sizes of the agent row. Times in seconds. `load`: every rate is multiplied by
    it; below 1 for machines that cannot carry what the goals name."""

    quick: bool
    load: float = 1.0
    rounds: int
    ours: int
    toggles_s: float
    tail_s: float
    cycles: int
    expiries: int
    flips: int
    slow_flips: int
    orders: int
    pods: tuple[int, ...]
    idle_s: float


QUICK = Settings(
    quick=True, rounds=1, ours=3, toggles_s=10, tail_s=2, cycles=2, expiries=1, flips=2000, slow_flips=5, orders=50,
    pods=(1, 10, 50), idle_s=5,
)  # fmt: skip
FULL = Settings(
    quick=False, rounds=2, ours=8, toggles_s=150, tail_s=35, cycles=8, expiries=3, flips=20000, slow_flips=20,
    orders=300, pods=(1, 10, 100, 250), idle_s=20,
)  # fmt: skip
