"""The gate mirrors Istio's rules: what they capture is opened, what they leave alone stays as it is (S4.3a).

Drawn settings, loaded on a real kernel; callers of many users, groups, addresses and ports. Nothing here knows which of
them Istio captures: the closed gate shows it.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.model import NEVER_OPENED, Direction, Level, Opening
from tests.capture.captured import APP, ELSEWHERE, Captured, captured
from tests.namespaces import CLIENT_V4, CLIENT_V6, Pair, ip

pytestmark = pytest.mark.netns

DRAWS = 6  # for each backend
FAR_V4, FAR_V6 = "10.97.9.1", "fd97:9::1"  # the client's other addresses
PORTS_IN = (APP, APP + 1, 15021)
PORTS_OUT = (ELSEWHERE, ELSEWHERE + 1)
CALLERS = ((1000, 1000), (1337, 1), (2000, 1), (1, 2000), (1000, 202), (1000, 203), (1000, 204))
ADDRESSES = (CLIENT_V4, CLIENT_V6, FAR_V4, FAR_V6)
OPEN = {way: Opening(Level.RESCUE) for way in Direction}


def drawn(chance: random.Random, backend: Backend) -> CaptureSpec:
    groups: dict[str, Any] = chance.choice(
        [{}, {"owner_groups": ("202",)}, {"owner_groups": ("202", "203")}, {"owner_groups_exclude": ("204",)}]
    )
    return CaptureSpec(
        mode=chance.choice([Interception.REDIRECT, Interception.TPROXY]),
        proxy_uids=chance.choice([(1337,), (2000,), (1337, 2000)]),
        inbound_ports=chance.choice(["*", "*", (APP,), (APP, 15021), ()]),
        inbound_exclude_ports=chance.choice([(15021,), (15021, APP + 1), ()]),
        outbound_cidrs=chance.choice(["*", "*", ("10.97.9.0/24",), (f"{CLIENT_V4}/32", "fd97:9::/64"), ()]),
        outbound_exclude_cidrs=chance.choice([(), (), ("10.97.9.0/24", "fd97:9::/64"), (f"{CLIENT_V4}/32",)]),
        outbound_ports=chance.choice([(), (), (ELSEWHERE + 1,)]),
        outbound_exclude_ports=chance.choice([(), (), (ELSEWHERE,)]),
        exclude_interfaces=chance.choice([(), (), ("eth7",), ("eth0",)]),
        redirect_dns=chance.choice([False, True]),
        capture_all_dns=chance.choice([False, True]),
        dns_servers_v4=(CLIENT_V4,),
        drop_invalid=chance.choice([False, True]),
        ipv6=chance.choice([True, True, False]),
        native_nftables=backend is Backend.NFTABLES,
        **groups,
    )


def _answers(pod: Captured) -> dict[tuple[object, ...], str]:
    """Who answers whom."""
    inbound = {("in", port, family): pod.call_in(family, port).who for port in PORTS_IN for family in ("v4", "v6")}
    outbound = {
        ("out", address, port, uid, gid): pod.call_to(address, port, uid, gid).who
        for address, port, (uid, gid) in itertools.product(ADDRESSES, PORTS_OUT, CALLERS)
    }
    return {**inbound, **outbound}


def _opened(caller: tuple[object, ...], who: str) -> str:
    """Who must answer while the gate is open, given who does while it is closed."""
    never = caller[0] == "in" and caller[1] in NEVER_OPENED
    return "rescue" if who == "proxy" and not never else who


@pytest.mark.parametrize("draw", range(DRAWS))
@pytest.mark.parametrize("backend", Backend)
def test_what_is_captured_is_opened_and_nothing_else(pair: Pair, backend: Backend, draw: int) -> None:
    spec = drawn(random.Random(f"{backend} {draw}"), backend)
    for far, near, prefix in ((FAR_V4, CLIENT_V4, 32), (FAR_V6, CLIENT_V6, 128)):
        ip("addr", "add", f"{far}/{prefix}", "dev", "veth", *(("nodad",) if ":" in far else ()), netns=pair.client)
        ip("route", "add", f"{far}/{prefix}", "via", near, netns=pair.pod)
    with captured(pair, spec, backend) as pod:
        pod.serve(APP + 1, "other")
        pod.serve(15021, "health")
        pod.serve(ELSEWHERE + 1, "outside", netns=pair.client)
        closed = _answers(pod)
        pod.open(OPEN)
        wrong = {caller: who for caller, who in _answers(pod).items() if who != _opened(caller, closed[caller])}
        assert wrong == {}, spec
        pod.open({})
        assert _answers(pod) == closed
        assert pod.istio_rules() == pod.rules
