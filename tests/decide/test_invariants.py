"""I1 to I6 searched for a breach by random walks, and faulty deciders to show that the search finds one.

`HOTSWITCH_EXAMPLES=10000 pytest tests/decide/test_invariants.py` searches longer.
"""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from hotswitch.decide import Code, damping, engine, levels, step, track, turn
from hotswitch.model import Level, Opening
from tests.decide.forgery import forged_view
from tests.decide.invariants import Breach
from tests.decide.machine import Mesh

pytestmark = pytest.mark.unit

DIAGNOSE = importlib.import_module("hotswitch.decide.diagnose")  # the package's name for it is the function's
Fault = Callable[[pytest.MonkeyPatch], None]

EXAMPLES = int(os.environ.get("HOTSWITCH_EXAMPLES", "200"))
PART = 500  # walks in one test: a minute on a quiet machine
WALKS = settings(
    max_examples=min(EXAMPLES, PART),
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize="HOTSWITCH_EXAMPLES" not in os.environ,  # every change walks the same ways; a search goes new ones
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("part", range(max(1, EXAMPLES // PART)))
def test_no_invariant_is_breached(part: int) -> None:
    run_state_machine_as_test(Mesh, settings=WALKS)


@settings(WALKS, max_examples=max(EXAMPLES, 1000))
@given(st.integers(0, 2**64))
def test_nothing_is_raised_whatever_comes_in(seed: int) -> None:
    view = forged_view(random.Random(seed))
    standing, decisions = step(view)
    assert len(decisions) <= 20 and standing.generation >= view.standing.generation


# ---- the search finds what it is looking for ----

SEARCH = settings(WALKS, max_examples=400, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False)


def without(code: Code) -> dict[Level, tuple[levels._Check, ...]]:
    """The checks of a decider that has forgotten one of them."""
    return {level: tuple(check for check in checks if check[1] is not code) for level, checks in levels._CHECKS.items()}


def forget(code: Code) -> Fault:
    def forgets(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(levels, "_CHECKS", without(code))

    forgets.__name__ = f"forgets_{code.name.lower()}"
    return forgets


def never_expires(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine, "_expires_s", lambda turn, openings, renewable: turn.now_s + 1e6)


def renews_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(engine, "_expires_s", lambda turn, openings, renewable: turn.now_s + turn.view.policy.expiry_s)


def forgets_strict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(levels, "direct_inbound", lambda policy, ports: Opening(Level.DIRECT))


def ignores_termination(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DIAGNOSE, "_said_to_terminate", lambda case: None)


def ignores_that_it_was_never_ready(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DIAGNOSE, "_never_ready", lambda case: None)


def ignores_the_app(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DIAGNOSE, "_app_gone", lambda case: None)


def forgets_that_it_closed_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(track, "_closing_since_s", lambda view, diagnosis: None)


def repeats_generations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(turn, "Generation", lambda number: number - 1)


def restores_unproven(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(damping, "_passes", lambda view, wanted: True)


def forgets_the_last_fault(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(track, "begin_episode", lambda *args: replace(damping.begin_episode(*args), induced=False))


@pytest.mark.parametrize(
    ("fault", "invariant"),
    [
        (never_expires, "I1"),
        (renews_for_ever, "I4"),
        (forgets_strict, "I2"),
        (ignores_termination, "I2"),
        (ignores_that_it_was_never_ready, "I[26]"),
        (ignores_the_app, "I2"),
        (forgets_that_it_closed_down, "I2"),
        (forget(Code.NOT_SURE_ENOUGH), "I2"),
        (forget(Code.IDENTITY_EXPIRED), "I2"),
        (forget(Code.NODE_BUDGET), "I3"),
        (forget(Code.FROZEN), "I3"),
        (forgets_the_last_fault, "I3"),
        (restores_unproven, "I4"),
        (repeats_generations, "I6"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_faulty_decider_is_caught(fault: Fault, invariant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(Breach, match=f"^{invariant}: "):
        run_state_machine_as_test(Mesh, settings=SEARCH)
