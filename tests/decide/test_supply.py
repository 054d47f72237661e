"""What the proxy depends on (S4.2c): named, said once, paged where wanted, and never a reason to open by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import Code, step
from hotswitch.model import Act, Dependency, Facts, Mode, Policy, Reaction, Supply
from tests.decide.scenes import AUTO, NOW, RESCUE_READY, view, well

pytestmark = pytest.mark.unit

LACKS = (
    (Supply(NOW, cut_off=("the control plane",), cut_off_s=301.0), Dependency.CONTROL_PLANE_LOST, "HSD060"),
    (Supply(NOW, rejected=("listeners",)), Dependency.CONFIGURATION_REJECTED, "HSD061"),
    (Supply(NOW, missing=("default",)), Dependency.CERTIFICATE_MISSING, "HSD062"),
    (Supply(NOW, certificate_ends_in_s=3000.0), Dependency.CERTIFICATE_ENDS, "HSD063"),
)


def supplied(supply: Supply) -> Facts:
    return replace(well(), supply=supply)


@pytest.mark.parametrize(("supply", "dependency", "code"), LACKS)
def test_a_lack_is_said_once_and_nothing_is_opened(supply: Supply, dependency: Dependency, code: str) -> None:
    before = view(supplied(supply), policy=AUTO, capabilities=RESCUE_READY)
    standing, decisions = step(before)
    assert [(each.act, each.code) for each in decisions] == [(Act.HOLD, code)]
    assert not standing.is_open
    again, nothing = step(replace(before, standing=standing))
    assert nothing == ()
    over, _ = step(replace(before, standing=again, facts=well()))
    assert [each.code for each in step(replace(before, standing=over))[1]] == [code]


@pytest.mark.parametrize(("supply", "dependency", "code"), LACKS)
def test_a_person_is_called_where_the_policy_wants_it(supply: Supply, dependency: Dependency, code: str) -> None:
    policy = replace(AUTO, dependencies={dependency: Reaction.PAGE})
    _, decisions = step(view(supplied(supply), policy=policy, capabilities=RESCUE_READY))
    assert [(each.act, each.code) for each in decisions] == [(Act.PAGE, code)]
    _, watched = step(view(supplied(supply), policy=replace(policy, mode=Mode.OBSERVE), capabilities=RESCUE_READY))
    assert [(each.act, each.code) for each in watched] == [(Act.HOLD, code)]


def test_what_has_not_lasted_is_not_said() -> None:
    fine = Supply(NOW, cut_off=("the control plane",), cut_off_s=299.0, certificate_ends_in_s=40000.0)
    assert step(view(supplied(fine), policy=AUTO))[1] == ()


def expired(policy: Policy) -> list[tuple[Act, str]]:
    facts = replace(well(), proxy_certificate_expires_in_s=-5.0, identity_expires_in_s=5000.0)
    return [(each.act, each.code) for each in step(view(facts, policy=policy, capabilities=RESCUE_READY))[1]]


def test_an_expired_certificate_is_acted_on_unless_it_is_left_to_people() -> None:
    assert expired(AUTO) == [(Act.OPEN, Code.OPENED)]
    paged = replace(AUTO, dependencies={Dependency.CERTIFICATE_EXPIRED: Reaction.PAGE})
    assert expired(paged) == [(Act.HOLD, Code.HELD), (Act.PAGE, Code.CERTIFICATE_EXPIRED)]
