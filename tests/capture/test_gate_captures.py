"""The gate before every kind of capture: {REDIRECT, TPROXY} x {iptables-nft, iptables-legacy, nft} x {v4, v6, dual}.

Captured, switched, reached, restored, captured; flows that are open stay where they are in both switches; afterwards
nothing of ours is open and Istio's rules are what they were (S4.3, I4, I5).
"""

from __future__ import annotations

import pytest

from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.older import Shape
from hotswitch.capture.spec import Backend
from hotswitch.model import Direction, Level, Opening
from tests.capture.captured import APP, CaptureSpec, captured, tproxy, usual
from tests.namespaces import CLIENT_V4, CLIENT_V6, Pair

pytestmark = pytest.mark.netns

MODES = {"REDIRECT": usual, "TPROXY": tproxy}
STACKS = {"v4": {"ipv6": False}, "v6": {}, "dual": {"dual_stack": True}}
every_mode = pytest.mark.parametrize("mode", MODES)
every_backend = pytest.mark.parametrize("backend", Backend)
every_stack = pytest.mark.parametrize("stack", STACKS)
CLIENT = {"v4": CLIENT_V4, "v6": CLIENT_V6}
REACHED = {Level.RESCUE: "rescue", Level.DIRECT: "app"}


def _families(stack: str) -> list[str]:
    return ["v4", "v6"] if stack == "dual" else [stack]


def _spec(mode: str, stack: str) -> CaptureSpec:
    return MODES[mode](**STACKS[stack])


@every_mode
@every_backend
@every_stack
@pytest.mark.parametrize("level", REACHED)
def test_inbound_is_switched_and_comes_back(pair: Pair, mode: str, backend: Backend, stack: str, level: Level) -> None:
    with captured(pair, _spec(mode, stack), backend) as pod:
        closed = pod.own_table()
        kept = []
        for family in _families(stack):
            kept.append(pod.call_in(family))
            assert (kept[-1].who, kept[-1].saw) == ("proxy", CLIENT[family])
        pod.open({Direction.INBOUND: Opening(level)})
        for family in _families(stack):
            kept.append(pod.call_in(family))
            assert (kept[-1].who, kept[-1].saw) == (REACHED[level], CLIENT[family])
        assert all(talk.echoes() for talk in kept)
        pod.open({})
        assert [pod.call_in(family).who for family in _families(stack)] == ["proxy"] * len(_families(stack))
        assert all(talk.echoes() for talk in kept), "open flows stay where they are"
        assert (pod.own_table(), pod.istio_rules()) == (closed, pod.rules)  # I4


@every_mode
@every_backend
@every_stack
@pytest.mark.parametrize("level", REACHED)
def test_outbound_is_switched_and_comes_back(pair: Pair, mode: str, backend: Backend, stack: str, level: Level) -> None:
    reached = "rescue" if level is Level.RESCUE else "outside"
    with captured(pair, _spec(mode, stack), backend) as pod:
        closed = pod.own_table()
        kept = [pod.call_out(family) for family in _families(stack)]
        pod.open({Direction.OUTBOUND: Opening(level)})
        kept += [pod.call_out(family) for family in _families(stack)]
        assert [talk.who for talk in kept] == ["proxy"] * len(_families(stack)) + [reached] * len(_families(stack))
        assert [pod.call_out(family, uid=1337).who for family in _families(stack)] == ["outside"] * len(
            _families(stack)
        )
        pod.open({})
        assert [pod.call_out(family).who for family in _families(stack)] == ["proxy"] * len(_families(stack))
        assert all(talk.echoes() for talk in kept)
        assert (pod.own_table(), pod.istio_rules()) == (closed, pod.rules)


@every_mode
@every_backend
def test_single_ports_are_exceptions(pair: Pair, mode: str, backend: Backend) -> None:
    with captured(pair, _spec(mode, "dual"), backend) as pod:
        pod.serve(APP + 1, "strict")
        for opening, reached in (
            (Opening(Level.DIRECT, {APP + 1: Level.HOLD}), ("app", "proxy")),
            (Opening(Level.HOLD, {APP + 1: Level.DIRECT}), ("proxy", "strict")),
            (Opening(Level.RESCUE, {APP + 1: Level.DIRECT}), ("rescue", "strict")),
        ):
            pod.open({Direction.INBOUND: opening})
            for family in ("v4", "v6"):
                assert (pod.call_in(family).who, pod.call_in(family, APP + 1).who) == reached


@every_mode
@pytest.mark.parametrize("level", REACHED)
def test_what_istio_leaves_alone_is_left_alone(pair: Pair, mode: str, level: Level) -> None:  # S4.3a
    spec = MODES[mode](inbound_exclude_ports=(15021, 9000), outbound_exclude_ports=(9101,))
    with captured(pair, spec, Backend.IPTABLES_NFT) as pod:
        pod.serve(9000, "excluded")
        pod.serve(9101, "free", netns=pair.client)
        pod.open({way: Opening(level) for way in Direction})
        for family in ("v4", "v6"):
            assert pod.call_in(family, 9000).who == "excluded"
            assert pod.call_out(family, 9101).who == "free"


@every_mode
def test_only_listed_ports_are_opened(pair: Pair, mode: str) -> None:
    with captured(pair, MODES[mode](inbound_ports=(APP,)), Backend.IPTABLES_NFT) as pod:
        pod.serve(APP + 1, "other")
        assert (pod.call_in("v4").who, pod.call_in("v4", APP + 1).who) == ("proxy", "other")
        pod.open({Direction.INBOUND: Opening(Level.RESCUE)})
        assert (pod.call_in("v4").who, pod.call_in("v4", APP + 1).who) == ("rescue", "other")


@every_mode
@pytest.mark.parametrize("shape", [shape for shape in Shape if shape is not Shape.FROM_1_25])
def test_rules_of_older_releases(pair: Pair, mode: str, shape: Shape) -> None:
    """A pod keeps the rules of the release that started it."""
    with captured(pair, _spec(mode, "dual"), Backend.IPTABLES_NFT, shape=shape) as pod:
        assert inspect(pair.pod, pod.spec).ip.state is State.CAPTURED
        for family in ("v4", "v6"):
            for level, reached in REACHED.items():
                pod.open({way: Opening(level) for way in Direction})
                outside = "outside" if level is Level.DIRECT else "rescue"
                assert (pod.call_in(family).who, pod.call_out(family).who) == (reached, outside)
            pod.open({})
            assert (pod.call_in(family).who, pod.call_out(family).who) == ("proxy", "proxy")
        assert pod.istio_rules() == pod.rules
