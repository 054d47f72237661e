"""What the preflight leaves of a policy, and how the engine then decides (I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.ports import direct_inbound
from hotswitch.model import Level, Mtls, Opening, Policy
from tests.decide.preflight.meshes import DIRECT, HOLD, IN, OUT, RESCUE, WEB, ask
from tests.decide.preflight.test_authorization import CHECKOUT, METHODS, policy
from tests.decide.preflight.test_mtls import ROOT_STRICT, peer
from tests.decide.preflight.test_outbound import REGISTRY, sidecar

pytestmark = pytest.mark.unit
WIDE = Policy(inbound=(RESCUE, DIRECT, HOLD), outbound=(DIRECT, RESCUE, HOLD), expiry_s=17.0)


@pytest.mark.parametrize(
    ("text", "inbound", "outbound", "free"),
    [
        ("", (RESCUE, DIRECT, HOLD), (DIRECT, RESCUE, HOLD), True),
        (ROOT_STRICT, (RESCUE, HOLD), (DIRECT, RESCUE, HOLD), True),
        (policy(CHECKOUT), (RESCUE, HOLD), (DIRECT, RESCUE, HOLD), True),
        (policy(METHODS), (HOLD,), (DIRECT, RESCUE, HOLD), True),
        (sidecar(REGISTRY), (RESCUE, DIRECT, HOLD), (HOLD,), False),
    ],
)
def test_levels_are_taken_away(text: str, inbound: tuple[Level, ...], outbound: tuple[Level, ...], free: bool) -> None:
    left = ask(text).limit(WIDE)
    assert (left.inbound, left.outbound, left.outbound_free) == (inbound, outbound, free)
    assert left.expiry_s == 17.0


def test_reason_is_given_in_one_sentence() -> None:
    found = ask(ROOT_STRICT + policy(METHODS))
    why = found.because(IN, DIRECT)
    assert why.startswith("HSW0101 mTLS is STRICT on every port") and why.endswith("(also HSW0201)")
    assert found.because(OUT, DIRECT) == ""
    by_port = peer("shop", "STRICT", name="web", more="selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {}}")
    assert ask(by_port).because(IN, DIRECT).startswith("HSW0101 mTLS is STRICT on port 8080")


def test_nothing_is_added() -> None:
    left = ask().limit(Policy(inbound=(HOLD,), outbound=()))
    assert (left.inbound, left.outbound) == ((HOLD,), ())


def test_engine_is_told_of_mtls() -> None:
    text = ROOT_STRICT + peer(
        "shop", name="web", more="selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: PERMISSIVE}}"
    )
    left = ask(text).limit(WIDE)
    assert (left.mtls, left.mtls_by_port) == (Mtls.STRICT, {8080: Mtls.PERMISSIVE})
    assert direct_inbound(left, frozenset({8080, 9090})) == Opening(HOLD, {8080: DIRECT})


def test_port_that_only_the_proxy_reaches_stays_captured() -> None:
    text = sidecar("{ingress: [{port: {number: 9090}, defaultEndpoint: 127.0.0.1:9090}]}")
    left = ask(text).limit(WIDE)
    assert left.never_direct == {9090}
    assert direct_inbound(left, frozenset({8080, 9090})) == Opening(DIRECT, {9090: HOLD})
    assert direct_inbound(left, frozenset({9090})) is None
    strict = ask(text + ROOT_STRICT, accepted=("HSW0101",)).limit(WIDE)
    assert direct_inbound(strict, frozenset({8080, 9090})) == Opening(DIRECT, {9090: HOLD})


def test_port_closed_among_those_that_are_lenient() -> None:
    held = Policy(mtls=Mtls.STRICT, mtls_by_port={80: Mtls.PERMISSIVE, 81: Mtls.DISABLE}, never_direct=frozenset({80}))
    assert direct_inbound(held, frozenset()) == Opening(HOLD, {81: DIRECT})
    assert direct_inbound(replace(held, never_direct=frozenset({80, 81})), frozenset()) is None


def test_doubt_leaves_nothing_but_hold() -> None:
    left = ask(pod=replace(WEB, doubts=("odd",))).limit(WIDE)
    assert (left.inbound, left.outbound, left.mtls) == ((HOLD,), (HOLD,), Mtls.STRICT)
