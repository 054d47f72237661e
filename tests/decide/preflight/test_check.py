"""Is a cluster ready? Every answer by the estate that brings it about (S4.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotswitch.decide.preflight.analyze import analyze
from hotswitch.decide.preflight.check import ACT_RIGHTS, TIER_RIGHTS, Check, Estate, State, check, ready
from tests.decide.preflight.meshes import WEB, mesh
from tests.decide.preflight.test_outbound import REGISTRY, sidecar

pytestmark = pytest.mark.unit
POD = replace(WEB, native=True, proxy_version="1.30.3-distroless", probes_rewritten=True)
RIGHTS = {right: True for rights in (*TIER_RIGHTS.values(), *ACT_RIGHTS.values()) for right in rights}
GOOD = Estate(kubernetes="v1.34.1", istiod=("1.30.3",), cni=False, pods=(POD,), opted_in=1, rights=RIGHTS)


def named(name: str, **changes: Any) -> list[Check]:
    return [found for found in check(replace(GOOD, **changes)) if found.name == name]


def state(name: str, **changes: Any) -> State | None:
    found = named(name, **changes)
    return found[0].state if found else None


def test_ready_cluster() -> None:
    found = check(GOOD)
    assert ready(found)
    assert {each.name: each.state for each in found} == {
        "kubernetes": State.PASS,
        "istiod": State.PASS,
        "sidecars": State.PASS,
        "interception": State.PASS,
        "app probes": State.NOTE,
        "opt-in": State.PASS,
        "tier": State.PASS,
        "exec": State.PASS,
        "helper": State.PASS,
    }
    assert named("tier")[0].sentence == "rights for tier 2"


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("kubernetes", {"kubernetes": "v1.28.2"}, State.WARN),
        ("kubernetes", {"kubernetes": ""}, State.WARN),
        ("istiod", {"istiod": ()}, State.FAIL),
        ("istiod", {"istiod": None}, State.WARN),
        ("istiod", {"istiod": ("1.30.3", "1.17.2")}, State.WARN),
        ("istiod", {"istiod": ("master-abc",)}, State.WARN),
        ("sidecars", {"pods": ()}, State.FAIL),
        ("sidecars", {"pods": (replace(POD, sidecar=False, ambient=True),)}, State.FAIL),
        ("ambient", {"pods": (POD, replace(POD, sidecar=False, ambient=True))}, State.NOTE),
        ("proxy versions", {"pods": (replace(POD, proxy_version="1.12.1"),)}, State.WARN),
        ("istio-cni", {"cni": True}, State.NOTE),
        ("app probes", {"pods": (replace(POD, probes_rewritten=False),), "rewrite_probes": False}, State.PASS),
        ("opt-in", {"opted_in": 0}, State.NOTE),
        ("tier", {"rights": {}}, State.WARN),
        ("tier 0", {"rights": {"list pods": False}}, State.FAIL),
        ("tier 1", {"rights": RIGHTS | {"patch pods/status": False}}, State.NOTE),
        ("tier 2", {"rights": RIGHTS | {"patch endpointslices": False}}, State.NOTE),
        ("helper", {"rights": RIGHTS | {"patch pods/ephemeralcontainers": False}}, State.NOTE),
        ("pod security", {"pod_security": {"shop": "restricted"}}, State.WARN),
        ("pod security", {"pod_security": {"shop": "privileged", "other": "restricted"}}, None),
    ],
)
def test_answer(name: str, changes: dict[str, Any], expected: State | None) -> None:
    assert state(name, **changes) is expected
    assert all(found.sentence for found in check(replace(GOOD, **changes)))


def test_tier_is_the_highest_whose_rights_are_all_there() -> None:
    assert named("tier", rights=RIGHTS | {"patch endpointslices": False})[0].sentence == "rights for tier 1"
    assert not named("tier", rights={"list pods": False})


def test_not_ready_without_sidecars() -> None:
    assert not ready(check(replace(GOOD, pods=())))


def test_what_the_preflight_leaves() -> None:
    found = named("outbound levels", analysis=analyze(mesh(sidecar(REGISTRY)), [POD]))
    assert found[0].state is State.WARN and "0 of 1" in found[0].sentence
    assert state("inbound levels", analysis=analyze(mesh(), [POD])) is State.PASS
