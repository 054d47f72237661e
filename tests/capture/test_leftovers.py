"""Whose rule is it? Any part of Istio's rules, among any rules of others, in any order (S4.3b, I4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.capture import older
from hotswitch.capture.iptables import BUILT_IN, Rule
from hotswitch.capture.leftovers import judge, marked, parse, restore_text, signs
from hotswitch.capture.older import Shape
from hotswitch.capture.spec import CaptureSpec, Interception
from tests.capture.leavings import HOOKS, odd_spec

pytestmark = pytest.mark.unit

PLACES = [
    *((table, hook) for table in ("nat", "mangle", "raw") for hook in ("PREROUTING", "OUTPUT")),  # where Istio writes
    *((table, hook) for table, hooks in HOOKS.items() for hook in (*hooks, "OTHERS", "NOT_ISTIO_")),
]
WORDS = (
    "-i eth7 -j RETURN", "-p tcp -j ACCEPT", "-j RETURN", "-p udp --dport 53 -j ACCEPT",
    "-p udp --dport 53 -j CT --zone 3",
    "-p udp --dport 53 -j REDIRECT --to-ports 5353", "-p tcp -m mark --mark 5 -j CONNMARK --save-mark",
    "-p tcp -m mark --mark 1337 -j ACCEPT", "-p tcp --dport 15006 -j OTHERS", "-j MARK --set-mark 1338",
    "-m owner --uid-owner 1337 -j RETURN", '-i eth8 -m comment --comment "ISTIO_OUTPUT" -j RETURN',
    "-m conntrack --ctstate INVALID -j LOG", "-p tcp -j NFLOG --nflog-group 7 --nflog-size 20", "-o lo -j RETURN",
    "-p udp --sport 53 -j CT --notrack", "-p tcp -m connmark --mark 9 -j CONNMARK --restore-mark",
)  # fmt: skip
OTHERS = st.lists(
    st.builds(lambda at, words: Rule(*at, words), st.sampled_from(PLACES), st.sampled_from(WORDS)), max_size=40
)
SPECS = st.builds(
    odd_spec, mode=st.sampled_from([Interception.REDIRECT, Interception.TPROXY]), redirect_dns=st.booleans()
)


def saved(of: Sequence[Rule]) -> str:
    blocks = []
    for table in sorted({rule.table for rule in of}):
        here = [rule for rule in of if rule.table == table]
        chains = [f":{chain} -" for chain in dict.fromkeys(rule.chain for rule in here)]
        blocks += [f"*{table}", *chains, *(f"-A {rule.chain} {rule.words}" for rule in here), "COMMIT"]
    return "\n".join(blocks)


@settings(deadline=None)
@given(st.randoms(use_true_random=False), SPECS, st.sampled_from(list(Shape)), OTHERS)
def test_part_of_istios_rules_among_those_of_others(
    chance: Random, spec: CaptureSpec, shape: Shape, others: list[Rule]
) -> None:
    """With the spec everything of Istio's is found; without it nothing of anybody else's is taken for it."""
    istios = older.rules(spec, 4, shape)
    part = chance.sample(istios, chance.randrange(len(istios) + 1))
    everything = parse(saved(chance.sample([*part, *others], len(part) + len(others))), "ip")
    told = judge(everything, signs([everything], spec))
    untold = judge(everything, signs([everything]))
    outside = Counter((rule.table, rule.chain, rule.words) for rule in part if not rule.chain.startswith("ISTIO_"))
    found = Counter((*line.at[1:], line.words) for line in told.lines)
    assert found == outside
    assert set(untold.lines) <= set(told.lines)
    assert {chain.chain for chain in untold.chains} == {rule.chain for rule in part if rule.chain not in BUILT_IN}


@settings(deadline=None)
@given(OTHERS)
def test_rules_of_others_alone_are_nobody_elses(others: list[Rule]) -> None:
    everything = parse(saved(others), "ip")
    left = judge(everything, signs([everything]))
    assert (left.chains, left.lines) == ((), ())
    assert restore_text(left) == ""


@pytest.mark.parametrize("shape", list(Shape), ids=str)
def test_everything_goes_in_one_step_or_in_two(shape: Shape) -> None:
    everything = parse(saved(older.rules(odd_spec(mode=Interception.TPROXY), 4, shape)), "ip")
    left = judge(everything, signs([everything]))
    first, then = marked(left)
    assert Counter(first.lines) + Counter(then.lines) == Counter(left.lines)
    assert {line.at.table for line in then.lines} == {"mangle"} and not then.chains
    text = restore_text(left)
    assert text.count("COMMIT") == 3 and text.index("*mangle") < text.index("*nat") < text.index("*raw")
