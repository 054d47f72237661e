"""Rules in a form that can be compared: what Istio would write, and what the kernel lists.

The kernel's tools rewrite rules (other option order, hexadecimal marks, host bits dropped, implied matches left out).
So both sides are brought into one canonical text per rule, chain by chain, and only that is compared (I4). Counters,
handles and comments never take part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

HOOKS = ("PREROUTING", "OUTPUT")  # the built-in chains that Istio writes to
NATIVE_TABLE_PREFIX = "istio-proxy-"


class ChainId(NamedTuple):
    family: str  # ip, ip6, inet
    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain}"

    @property
    def is_istio(self) -> bool:
        """The whole chain is Istio's; in a built-in chain only some rules may be."""
        return self.chain.startswith("ISTIO_") or self.table.startswith(NATIVE_TABLE_PREFIX)


class Rule(NamedTuple):
    text: str  # canonical: equal texts are equal rules
    goes: str  # upper case: the chain or the verdict that takes the packet
    bare: bool  # no condition, or none but "is TCP"

    @property
    def to_istio(self) -> bool:
        return self.goes.startswith("ISTIO_")


Known: TypeAlias = frozenset[tuple[str, str, str]]  # table, chain, canonical text
Ruleset: TypeAlias = Mapping[ChainId, tuple[Rule, ...]]


def target_name(name: str) -> str:
    """istio-in-redirect and ISTIO_IN_REDIRECT are one thing under two backends."""
    return name.upper().replace("-", "_")


# Rules of Istio's in built-in chains that lead to none of its chains: DNS until 1.22 and 1.24, TPROXY's marks
_UNMARKED = {
    ("nat", "OUTPUT"): re.compile(r"--dport 53 (-d \S+ )?-p udp -j REDIRECT --to-ports 15053"),
    ("raw", "OUTPUT"): re.compile(
        r"(--dport 53 (--[ug]id-owner \S+ |-d \S+ )?|--gid-owner \S+ --sport 15053 |--sport 15053 --uid-owner \S+ )"
        r"-p udp -j CT --zone [12]"
    ),
    ("raw", "PREROUTING"): re.compile(r"--sport 53 (-d \S+ )?-p udp (-s \S+ )?-j CT --zone 1"),
    ("mangle", "PREROUTING"): re.compile(r"-p tcp mark:--mark \S+ -j CONNMARK --save-mark"),
    ("mangle", "OUTPUT"): re.compile(
        r"-p tcp connmark:--mark \S+ -j CONNMARK --restore-mark|-o lo -p tcp mark:--mark \S+ -j RETURN"
        r"|! -d \S+ --[ug]id-owner \S+ -o lo -p tcp -j MARK --set-xmark 0x53a/0xffffffff"
    ),
}


def is_unmarked(chain: ChainId, rule: Rule, known: Known = frozenset()) -> bool:
    """Whether a rule in a built-in chain has a shape that Istio gives to such rules, and hardly anybody else."""
    if (chain.table, chain.chain, rule.text) in known:
        return True
    shape = _UNMARKED.get((chain.table, chain.chain))
    return shape is not None and shape.fullmatch(rule.text) is not None


def of_istio(ruleset: Ruleset, known: Known = frozenset()) -> dict[ChainId, tuple[Rule, ...]]:
    """Istio's chains, and the built-in chains of their tables that Istio writes to; empty if nothing is Istio's.
    `known`: rules in built-in chains that a spec says are Istio's, though anybody could have written them."""
    tables = {
        chain[:2]
        for chain, rules in ruleset.items()
        if chain.is_istio or any(rule.to_istio or is_unmarked(chain, rule, known) for rule in rules)
    }
    tables |= {(family, "mangle") for family, _ in tables if _drops_invalid(ruleset, family)}
    return {
        chain: rules
        for chain, rules in ruleset.items()
        if chain.is_istio or (chain[:2] in tables and chain.chain in HOOKS)
    }


def _drops_invalid(ruleset: Ruleset, family: str) -> bool:
    """As Istio did in the built-in chain until 1.23; others may do so, too, so it counts only beside Istio's rules."""
    rules = ruleset.get(ChainId(family, "mangle", "PREROUTING"), ())
    return any(rule.text == "--ctstate INVALID -j DROP" for rule in rules)


def differences(expected: Ruleset, actual: Ruleset) -> list[str]:
    """Sentences on what is missing, left over or out of order. In built-in chains others may have rules too."""
    found = []
    for chain in sorted({*expected, *of_istio(actual)}):
        if chain not in expected:
            found += _left_over(chain, actual[chain])
        elif chain not in actual:
            found.append(f"{chain}: the chain is missing")
        elif chain.is_istio:
            found += _same(chain, expected[chain], actual[chain])
        else:
            found += _contained(chain, expected[chain], actual[chain])
    return found


def _left_over(chain: ChainId, rules: Iterable[Rule]) -> list[str]:
    if chain.is_istio:
        return [f"{chain}: the chain is left over"]
    return [f"{chain}: left over: {rule.text}" for rule in rules if rule.to_istio]


def _same(chain: ChainId, expected: tuple[Rule, ...], actual: tuple[Rule, ...]) -> list[str]:
    wanted, there = Counter(rule.text for rule in expected), Counter(rule.text for rule in actual)
    found = [f"{chain}: missing: {text}" for text in (wanted - there).elements()]
    found += [f"{chain}: not Istio's: {text}" for text in (there - wanted).elements()]
    if not found and [rule.text for rule in expected] != [rule.text for rule in actual]:
        found.append(f"{chain}: the rules are in another order")
    return found


def _contained(chain: ChainId, expected: tuple[Rule, ...], actual: tuple[Rule, ...]) -> list[str]:
    wanted, there = Counter(rule.text for rule in expected), Counter(rule.text for rule in actual)
    found = [f"{chain}: missing: {text}" for text in (wanted - there).elements()]
    strange = Counter(rule.text for rule in actual if rule.to_istio) - wanted
    found += [f"{chain}: left over: {text}" for text in strange.elements()]
    ours = [rule.text for rule in actual if rule.text in wanted]
    if not found and ours != [rule.text for rule in expected]:
        found.append(f"{chain}: the rules are in another order")
    return found
