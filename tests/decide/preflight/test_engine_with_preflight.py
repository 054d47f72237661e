"""The engine on what the preflight leaves: the right level or none for each kind of mesh (I2, S4.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import step
from hotswitch.model import Capabilities, Direction, Level, Policy
from tests.decide.preflight.meshes import DIRECT, HOLD, IN, OUT, RESCUE, SERVICE, WEB, ask
from tests.decide.preflight.test_authorization import CHECKOUT, METHODS, policy
from tests.decide.preflight.test_clients import rule
from tests.decide.preflight.test_extension import envoy_filter
from tests.decide.preflight.test_mtls import ROOT_STRICT
from tests.decide.preflight.test_outbound import REGISTRY, sidecar
from tests.decide.scenes import AUTO, RESCUE_READY, dead, view

pytestmark = pytest.mark.unit
SURE = dead(for_s=1.0, container_running=False)
WIDE = replace(AUTO, inbound=(RESCUE, DIRECT, HOLD), outbound=(DIRECT, RESCUE, HOLD))
NO_RESCUE = Capabilities(rescue=False, rescue_refusal="none here")


def levels(left: Policy, capabilities: Capabilities) -> tuple[Level, Level]:
    standing, _ = step(view(SURE, policy=left, capabilities=capabilities))
    return standing.levels[Direction.INBOUND], standing.levels[Direction.OUTBOUND]


@pytest.mark.parametrize(
    ("text", "service", "with_rescue", "without"),
    [
        ("", SERVICE, (RESCUE, DIRECT), (DIRECT, DIRECT)),
        (ROOT_STRICT, SERVICE, (RESCUE, DIRECT), (HOLD, DIRECT)),
        (policy(CHECKOUT), SERVICE, (RESCUE, DIRECT), (HOLD, DIRECT)),
        (policy(METHODS), SERVICE, (HOLD, DIRECT), (HOLD, DIRECT)),
        (rule("web", "ISTIO_MUTUAL", export='exportTo: ["."]'), SERVICE, (RESCUE, HOLD), (HOLD, HOLD)),
        (envoy_filter("SIDECAR_INBOUND"), SERVICE, (HOLD, DIRECT), (HOLD, DIRECT)),
        ("", SERVICE.replace("10.96.4.17", "None"), (RESCUE, DIRECT), (HOLD, DIRECT)),
        (sidecar(REGISTRY), SERVICE, (RESCUE, HOLD), (DIRECT, HOLD)),
    ],
)
def test_right_level_or_none(
    text: str, service: str, with_rescue: tuple[Level, Level], without: tuple[Level, Level]
) -> None:
    left = ask(text, service=service).limit(WIDE)
    assert levels(left, RESCUE_READY) == with_rescue
    assert levels(left, NO_RESCUE) == without


def test_doubt_holds_both_ways() -> None:
    left = ask(pod=replace(WEB, doubts=("odd",))).limit(WIDE)
    assert levels(left, RESCUE_READY) == (HOLD, HOLD)


def test_accepted_strict_goes_straight_only_where_it_is_the_policys_turn() -> None:
    left = ask(ROOT_STRICT, accepted=("HSW0101",)).limit(WIDE)
    assert levels(left, RESCUE_READY) == (RESCUE, DIRECT)
    assert levels(left, NO_RESCUE) == (DIRECT, DIRECT)
    assert ask(ROOT_STRICT).allows(IN, RESCUE) and ask(ROOT_STRICT).allows(OUT, DIRECT)
