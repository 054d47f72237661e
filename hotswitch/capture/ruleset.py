"""Rules in a form that can be compared: what Istio would write, and what the kernel lists.

The kernel's tools rewrite rules (other option order, hexadecimal marks, host bits dropped, implied matches left out).
So both sides are brought into one canonical text per rule, chain by chain, and only that is compared (I4). Counters,
handles and comments never take part.
"""

from __future__ import annotations

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


def is_unmarked(chain: ChainId, rule: Rule, known: Known) -> bool:
    return (chain.table, chain.chain, rule.text) in known


def of_istio(ruleset: Ruleset, known: Known = frozenset()) -> dict[ChainId, tuple[Rule, ...]]:
    """Istio's chains, and the built-in chains of their tables that Istio writes to; empty if nothing is Istio's.
    `known`: Istio's rules in built-in chains that lead to none of its own (leftovers)."""
    tables = {
        chain[:2]
        for chain, rules in ruleset.items()
        if chain.is_istio or any(rule.to_istio or is_unmarked(chain, rule, known) for rule in rules)
    }
    return {
        chain: rules
        for chain, rules in ruleset.items()
        if chain.is_istio or (chain[:2] in tables and chain.chain in HOOKS)
    }


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
