"""What a guard with a grant is told of its pod changes; what it may do is the grant's (I1, I2)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from hotswitch.agent.granted import GrantedGuard
from hotswitch.config.agentfile import parse
from hotswitch.model import Level, Mode, Mtls, Policy, Thresholds

pytestmark = pytest.mark.unit


def test_a_bypassed_pod_begins_to_end() -> None:
    """By the settings alone the mode would be observe, and the gate be closed on clients that it still serves."""
    told = {"name": "web-0", "namespace": "shop", "uid": "uid", "netns": "/proc/self/ns/net", "addresses": ["10.0.0.7"],
            "capture": {"args": []}, "policy": {"mode": "observe"}}  # fmt: skip
    settings = structs.replace(parse({"pods": [told]}, "test").pods[0], terminating=True)
    granted = Policy(mode=Mode.AUTO, inbound=(Level.RESCUE, Level.HOLD))
    guard: Any = object.__new__(GrantedGuard)
    guard.policy, guard.stand_in, stepped = granted, SimpleNamespace(wanted=False), list[Policy]()
    guard.step = lambda: stepped.append(guard.policy)
    guard.change_policy(settings)
    assert guard.settings.terminating and stepped == [granted]


@pytest.mark.parametrize("mtls", list(Mtls))
def test_how_the_proxy_is_asked_follows_the_grant(mtls: Mtls) -> None:
    told = {"name": "web-0", "namespace": "shop", "uid": "uid", "netns": "/proc/self/ns/net", "addresses": ["10.0.0.7"],
            "capture": {"args": []}, "app": {"ports": [8080], "probe": {"port": 8080, "path": "/"}}}  # fmt: skip
    asked: list[tuple[float, bool]] = []
    guard: Any = object.__new__(GrantedGuard)
    guard.settings = parse({"pods": [told]}, "test").pods[0]
    guard.policy = Policy(mtls=mtls, thresholds=Thresholds(probe_timeout_s=0.7))
    guard.watch = SimpleNamespace(obey=lambda thresholds, strict: asked.append((thresholds.probe_timeout_s, strict)))
    guard._ask_by_policy()
    assert asked == [(0.7, mtls is Mtls.STRICT)]


def test_a_newer_grant_leads_nobody_to_a_rescue_that_ends() -> None:  # I1
    guard: Any = object.__new__(GrantedGuard)
    guard.policy = Policy(mode=Mode.OFF)
    guard.leaves, guard._mapped, guard._taken, guard._ordered, guard._drilling = False, False, 0, None, ""
    guard.settings, guard.spare = "as before", SimpleNamespace(tried=SimpleNamespace(is_set=lambda: True))
    guard.step = guard._ask_by_policy = guard.look_again = lambda: None
    guard.note, guard._with = lambda *_, **__: None, lambda _: "as before"
    both = (Level.RESCUE, Level.DIRECT, Level.HOLD)
    granted = Policy(mode=Mode.AUTO, inbound=both, outbound=both)
    grant = SimpleNamespace(version=2, policy=granted, override=None, drill=None)
    guard._take(grant)
    assert guard.policy == granted
    guard.leave()
    assert (guard.policy.inbound, guard.policy.outbound) == (both[1:], both[1:])
    guard._take(SimpleNamespace(**{**vars(grant), "version": 3}))
    assert (guard.policy.inbound, guard.policy.outbound) == (both[1:], both[1:])
