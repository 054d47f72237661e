"""Many pods in few lines (I8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.preflight import Code, Verdict
from hotswitch.decide.preflight.analyze import analyze
from hotswitch.mesh import MeshPod
from tests.decide.preflight.meshes import DIRECT, IN, OUT, RESCUE, WEB, mesh
from tests.decide.preflight.test_authorization import METHODS, policy
from tests.decide.preflight.test_mtls import ROOT_STRICT

pytestmark = pytest.mark.unit


def replicas(count: int, workload: str = "deploy/web", namespace: str = "shop") -> list[MeshPod]:
    names = [f"{workload.partition('/')[2]}-{number}" for number in range(count)]
    return [replace(WEB, name=name, workload=workload, namespace=namespace) for name in names]


def test_one_cause_is_one_line() -> None:
    found = analyze(mesh(ROOT_STRICT), [*replicas(40), *replicas(2, "deploy/cart")])
    (strict,) = found.of(Code.STRICT_MTLS)
    assert (strict.pods, strict.workloads) == (42, ("shop/deploy/cart", "shop/deploy/web"))
    assert strict.levels == {DIRECT} and str(strict.object) == "PeerAuthentication istio-system/default"
    assert found.usable == {(IN, RESCUE): 42, (IN, DIRECT): 0, (OUT, RESCUE): 42, (OUT, DIRECT): 42}


def test_refusals_come_first_and_those_of_many_before_those_of_few() -> None:
    text = ROOT_STRICT + policy(METHODS, "pay")
    found = analyze(mesh(text), [*replicas(3), *replicas(1, "deploy/api", "pay")])
    refusing = [concern for concern in found.concerns if concern.verdict is Verdict.REFUSE]
    assert list(found.concerns[: len(refusing)]) == refusing
    assert [concern.pods for concern in refusing] == sorted((c.pods for c in refusing), reverse=True)
    assert refusing[0].code is Code.STRICT_MTLS


def test_what_is_accepted_for_some_is_said_apart() -> None:
    pods = [*replicas(2), *replicas(1, "deploy/cart")]
    found = analyze(mesh(ROOT_STRICT), pods, lambda pod: frozenset({"HSW0101"} if "cart" in pod.workload else ()))
    refused, accepted = found.of(Code.STRICT_MTLS)
    assert (refused.pods, accepted.pods) == (2, 1) and accepted.verdict is Verdict.DEGRADED
    assert found.usable[IN, DIRECT] == 1


def test_mesh_that_only_observes() -> None:
    found = analyze(mesh(), replicas(5))
    assert {concern.code for concern in found.concerns} == {Code.NOTHING_LOST}
    assert set(found.usable.values()) == {5}
    assert analyze(mesh(), []).concerns == ()
