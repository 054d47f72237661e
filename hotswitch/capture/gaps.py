"""Why Istio's rules, taken alone, cannot be what any setting of any release would have written (S4.3, S4.3b).

This knows no spec, so an exclusion or an owner's rule that is missing is not seen here. What it finds is named: what is
missing, what stands twice, what belongs to another release, and, where the rules are not whole, all that is left.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from hotswitch.capture.ruleset import (
    HOOKS,
    NATIVE_TABLE_PREFIX,
    ChainId,
    Known,
    Rule,
    Ruleset,
    is_unmarked,
    target_name,
)

_ALWAYS = ("ISTIO_INBOUND", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT")
_MAY_STAND_ALONE = {("nat", chain) for chain in _ALWAYS[:3]} | {("mangle", "ISTIO_INBOUND")}  # nothing inbound captured
_ONCE = re.compile(r"-j CONNMARK ")
_ZONE = re.compile(r"CT --zone|ct zone set")
_NAMES = re.compile(r"dport 53\b|dports 53,")
_REDIRECTED = re.compile(r"--to-ports 15053$|redirect to :15053$")
_DIRECT = re.compile(r"-p udp -j (CT --zone|REDIRECT --to-ports 15053)")
_ByName: TypeAlias = Mapping[tuple[str, str], tuple[Rule, ...]]


def gaps(ruleset: Ruleset, known: Known = frozenset()) -> list[str]:
    """Sentences; empty for rules that are whole. `ruleset`: one family's, under one backend; `known`: see of_istio."""
    by_name = {(_table(chain), target_name(chain.chain)): rules for chain, rules in ruleset.items()}
    missing = [*_missing(by_name), *_astray(by_name)]
    found = [*missing, *_ahead(by_name), *_twice(by_name), *_two_releases(by_name)]
    return [*found, *_left(ruleset, known)] if missing else found


def _table(chain: ChainId) -> str:
    return chain.table.removeprefix(NATIVE_TABLE_PREFIX)


def _leads(by_name: _ByName, table: str, chain: str, *targets: str) -> bool:
    return any(rule.goes in targets for rule in by_name.get((table, chain), ()))


def _missing(by_name: _ByName) -> Iterator[str]:
    yield from (f"{chain} is missing" for chain in _ALWAYS if ("nat", chain) not in by_name)
    for chain in ("ISTIO_REDIRECT", "ISTIO_IN_REDIRECT"):
        if ("nat", chain) in by_name and not _leads(by_name, "nat", chain, "REDIRECT"):
            yield f"nat {chain} redirects nowhere"
    if ("nat", "ISTIO_OUTPUT") in by_name and not by_name["nat", "ISTIO_OUTPUT"]:
        yield "nat ISTIO_OUTPUT is empty"
    if not _leads(by_name, "nat", "OUTPUT", "ISTIO_OUTPUT"):
        yield "nat OUTPUT does not lead to ISTIO_OUTPUT"
    for table in ("nat", "mangle"):
        captures = _leads(by_name, table, "ISTIO_INBOUND", "ISTIO_IN_REDIRECT", "ISTIO_TPROXY")
        if captures != _leads(by_name, table, "PREROUTING", "ISTIO_INBOUND"):
            without = "PREROUTING does not lead to ISTIO_INBOUND" if captures else "ISTIO_INBOUND captures nothing"
            yield f"{table} {without}"


def _astray(by_name: _ByName) -> Iterator[str]:
    """Chains that nobody leads to, and rules of TPROXY's or DNS' without the rest."""
    led_to = {(table, rule.goes) for (table, _), rules in by_name.items() for rule in rules}
    for table, chain in by_name:
        alone = (table, chain) not in led_to | _MAY_STAND_ALONE
        if chain.startswith("ISTIO_") and alone and (table, chain) != ("nat", "ISTIO_OUTPUT"):
            yield f"{table} {chain}: nothing leads there"
    restored = any(_restores_mark(rule) for rule in by_name.get(("mangle", "OUTPUT"), ()))
    if restored != (("mangle", "ISTIO_INBOUND") in by_name):
        yield "mangle OUTPUT: marks of TPROXY without its chain" if restored else "mangle OUTPUT restores no marks"
    zones = any(_ZONE.search(rule.text) for rules in _of_table(by_name, "raw") for rule in rules)
    nat = [rule.text for rules in _of_table(by_name, "nat") for rule in rules]
    if zones and not any(map(_NAMES.search, nat)):
        yield "raw: zones for DNS, which nat does not capture"
    if not zones and any(map(_REDIRECTED.search, nat)):
        yield "nat captures DNS, but raw has no zones for it"


def _restores_mark(rule: Rule) -> bool:
    return rule.text.endswith(("-j CONNMARK --restore-mark", "meta mark set ct mark"))


def _of_table(by_name: _ByName, table: str) -> Iterator[tuple[Rule, ...]]:
    return (rules for (of, _), rules in by_name.items() if of == table)


def _ahead(by_name: _ByName) -> Iterator[str]:
    """A rule without conditions ahead of Istio's jump ends the chain for every packet."""
    for (table, hook), rules in by_name.items():
        jump = next((place for place, rule in enumerate(rules) if rule.to_istio), 0)
        if hook in HOOKS and table != "raw":
            for rule in rules[:jump]:
                if rule.bare and rule.goes in ("ACCEPT", "RETURN", "DROP"):
                    yield f"{table} {hook}: ahead of Istio's rules: {rule.text}"


def _twice(by_name: _ByName) -> Iterator[str]:
    """Only rules that no setting can ask for twice: a port or an id may be given two times."""
    for (table, chain), rules in by_name.items():
        own = [rule for rule in rules if chain not in HOOKS or rule.to_istio or _ONCE.search(rule.text)]
        counted = Counter(rule.text for rule in own if (rule.bare and rule.goes != "RETURN") or _ONCE.search(rule.text))
        yield from (f"{table} {chain}: {count} times: {text}" for text, count in counted.items() if count > 1)


def _two_releases(by_name: _ByName) -> Iterator[str]:
    jumps = {rule.text for rule in by_name.get(("nat", "OUTPUT"), ()) if rule.goes == "ISTIO_OUTPUT"}
    if {"-j ISTIO_OUTPUT", "-p tcp -j ISTIO_OUTPUT"} <= jumps:
        yield "rules of two releases: nat OUTPUT leads to ISTIO_OUTPUT as until 1.24 and as since 1.25"
    chained = ("nat", "ISTIO_OUTPUT_DNS") in by_name or ("raw", "ISTIO_OUTPUT") in by_name
    if chained and any(
        _DIRECT.search(rule.text) for hook in ("nat", "raw") for rule in by_name.get((hook, "OUTPUT"), ())
    ):
        yield "rules of two releases: DNS is captured in the built-in chains, as until 1.22, and in Istio's"


def _left(ruleset: Ruleset, known: Known) -> Iterator[str]:
    """All that is there of Istio's, for whoever has to finish the cleaning."""
    for chain, rules in sorted(ruleset.items()):
        if chain.is_istio and chain.chain not in ("prerouting", "output"):
            yield f"still there: {chain}, {len(rules)} rules" if rules else f"still there: {chain}, empty"
        for rule in rules:
            if (rule.to_istio and not chain.chain.startswith("ISTIO_")) or is_unmarked(chain, rule, known):
                yield f"still there: {chain}: {rule.text}"
