"""Rules in a form that can be compared: what Istio would write, and what the kernel lists.

The kernel's tools rewrite rules (other option order, hexadecimal marks, host bits dropped, implied matches left out).
So both sides are brought into one canonical text per rule, chain by chain, and only that is compared (I4). Counters,
handles and comments never take part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

_HOOKS = ("PREROUTING", "OUTPUT")  # the built-in chains that Istio writes to
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


Ruleset: TypeAlias = Mapping[ChainId, tuple[Rule, ...]]


def target_name(name: str) -> str:
    """istio-in-redirect and ISTIO_IN_REDIRECT are one thing under two backends."""
    return name.upper().replace("-", "_")


def of_istio(ruleset: Ruleset) -> dict[ChainId, tuple[Rule, ...]]:
    """Istio's chains, and the built-in chains of their tables that Istio writes to; empty if nothing is Istio's."""
    tables = {chain[:2] for chain, rules in ruleset.items() if chain.is_istio or any(rule.to_istio for rule in rules)}
    return {
        chain: rules
        for chain, rules in ruleset.items()
        if chain.is_istio or (chain[:2] in tables and chain.chain in _HOOKS)
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


def gaps(ruleset: Ruleset) -> list[str]:
    """Why these rules of Istio's, taken alone, cannot capture as any setting of Istio would have them. It knows no
    spec, so a missing exclusion or owner rule is not seen here."""
    by_name = {(_table(chain), target_name(chain.chain)): rules for chain, rules in ruleset.items()}
    found = [f"{chain} is missing" for chain in _ALWAYS if ("nat", chain) not in by_name]
    for chain, verdict in (("ISTIO_REDIRECT", "REDIRECT"), ("ISTIO_IN_REDIRECT", "REDIRECT")):
        if ("nat", chain) in by_name and not _leads(by_name, "nat", chain, verdict):
            found.append(f"nat {chain} redirects nowhere")
    if ("nat", "ISTIO_OUTPUT") in by_name and not by_name["nat", "ISTIO_OUTPUT"]:
        found.append("nat ISTIO_OUTPUT is empty")
    if not _leads(by_name, "nat", "OUTPUT", "ISTIO_OUTPUT"):
        found.append("nat OUTPUT does not lead to ISTIO_OUTPUT")
    for table in ("nat", "mangle"):
        captures = _leads(by_name, table, "ISTIO_INBOUND", "ISTIO_IN_REDIRECT", "ISTIO_TPROXY")
        if captures != _leads(by_name, table, "PREROUTING", "ISTIO_INBOUND"):
            without = "PREROUTING does not lead to ISTIO_INBOUND" if captures else "ISTIO_INBOUND captures nothing"
            found.append(f"{table} {without}")
        found += [f"{table} {text}" for hook in _HOOKS for text in _taken(by_name, table, hook)]
    return found


_ALWAYS = ("ISTIO_INBOUND", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT")
_ByName: TypeAlias = Mapping[tuple[str, str], tuple[Rule, ...]]


def _table(chain: ChainId) -> str:
    return chain.table.removeprefix(NATIVE_TABLE_PREFIX)


def _leads(by_name: _ByName, table: str, chain: str, *targets: str) -> bool:
    return any(rule.goes in targets for rule in by_name.get((table, chain), ()))


def _taken(by_name: _ByName, table: str, hook: str) -> list[str]:
    """A rule without conditions ahead of Istio's jump ends the chain for every packet."""
    rules = by_name.get((table, hook), ())
    jump = next((place for place, rule in enumerate(rules) if rule.to_istio), 0)
    ends = {"ACCEPT", "RETURN", "DROP"}
    return [f"{hook}: ahead of Istio's rules: {rule.text}" for rule in rules[:jump] if rule.bare and rule.goes in ends]
