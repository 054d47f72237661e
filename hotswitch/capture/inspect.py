"""The kernel's truth in one namespace, read without changing it (S4.3, I4).

nft tells all tables at once; iptables' own tools are asked only for tables that exist, because nft cannot show what
iptables' modules match. No probe rule is ever written, and the legacy tools run only in a namespace that already has
legacy tables: merely asking for one would make it, and change which iptables Istio chooses next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from hotswitch.capture import gate_legacy_table, iptables_save, leftovers, nft_list, routing
from hotswitch.capture.gaps import gaps
from hotswitch.capture.inspection import FAMILIES, FamilyView, Inspection, State, deviations, of_family, undelivered
from hotswitch.capture.iptables_save import NAT_TARGETS
from hotswitch.capture.nft_list import Listing
from hotswitch.capture.routing import Routing
from hotswitch.capture.ruleset import NATIVE_TABLE_PREFIX, ChainId, Known, Rule, Ruleset, of_istio
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel import nf_tables
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside

OWN_TABLE = ("inet", "hotswitch")
_TABLES = frozenset({"nat", "mangle", "raw", "filter", "security"})  # of iptables
_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
_DNS_TO_AGENT = ("-p udp", "--dport 53", "-j REDIRECT --to-ports 15053")  # in nat OUTPUT until Istio 1.22


@dataclass(frozen=True, slots=True)
class Look:
    """What was read. `nft`, `legacy`: the texts of iptables-save, by family (ip, ip6)."""

    listing: Listing
    nft: Mapping[str, str]
    legacy: Mapping[str, str] = field(default_factory=dict)
    legacy_tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def inspect(netns: str | None = None, spec: CaptureSpec | None = None) -> Inspection:
    """Look at the namespace at path `netns` (None: this one); about 10 ms and one command, plus one for each address
    family that has iptables' tables. With `spec`, a family counts as captured only if its rules are exactly those.

    Raises CommandFailed when nft or iptables-save fails, FileNotFoundError when either or the namespace is missing.
    """
    legacy, listing = legacy_tables(netns), _listing(netns)
    nft, old = _texts(nft_families(listing), "nft", netns), _texts(tuple(legacy), "legacy", netns)
    return judge(Look(listing, nft, old, legacy), spec, lambda found: routing.look(netns, found, spec))


def _unknown(found: Iterable[Ruleset]) -> None:
    return None


def judge(
    look: Look, spec: CaptureSpec | None = None, seen_of: Callable[[Iterable[Ruleset]], Routing | None] = _unknown
) -> Inspection:
    """What the texts of one look mean. `seen_of`: Istio's share of the routing, given its rules; None: not known, and
    taken for right. Raises ValueError for a text that is none."""
    legacy, listing, with_ours = look.legacy_tables, look.listing, look.legacy
    texts = {Backend.IPTABLES_NFT: look.nft}
    texts[Backend.IPTABLES_LEGACY] = {at: gate_legacy_table.without_ours(text) for at, text in with_ours.items()}
    saved = {backend: _parsed(of) for backend, of in texts.items()}
    native = listing.in_tables("inet", NATIVE_TABLE_PREFIX)
    known, doubtful = _unmarked(texts.values(), spec, bool(native))
    rulesets: dict[Backend, Ruleset] = {by: of_istio(found.ruleset, known) for by, found in saved.items()}
    rulesets[Backend.NFTABLES] = native
    rulesets = {backend: ruleset for backend, ruleset in rulesets.items() if ruleset}
    dormant = sorted(table for family, table in listing.dormant if table.startswith(NATIVE_TABLE_PREFIX))
    foreign = _foreign(listing, saved)
    openings = (*listing.timed.get(OWN_TABLE, ()), *_openings(with_ours))
    seen = seen_of(rulesets.values())
    ip, ip6 = (_view(family, rulesets, known, dormant, seen, foreign, openings, spec) for family in FAMILIES)
    return Inspection(
        ip=ip,
        ip6=ip6,
        foreign_nat=tuple(sentence for _, sentence in foreign),
        openings=openings,
        legacy_tables=tuple(f"{family} {table}" for family, tables in legacy.items() for table in tables),
        rulesets=rulesets,
        dormant=tuple(dormant),
        routing=seen or Routing(),
        doubtful=doubtful,
    )


def legacy_tables(netns: str | None) -> dict[str, tuple[str, ...]]:
    """Tables by family, from /proc of this thread while it is in the namespace; nothing is loaded by that."""
    found = {}
    with nullcontext() if netns is None else inside(netns):
        for family in FAMILIES:
            names = Path(f"/proc/thread-self/net/{family}_tables_names")
            tables = tuple(sorted(names.read_text().split())) if names.exists() else ()
            if tables:
                found[family] = tables
    return found


def _listing(netns: str | None) -> Listing:
    """Nothing where the kernel has no nf_tables: there nft would only fail."""
    if nf_tables.absent(netns):
        return Listing()
    return nft_list.parse(run(Command(("nft", "-j", "list", "ruleset"), netns), check=True).stdout)


def _openings(texts: Mapping[str, str]) -> Iterable[str]:
    """Of the gate by iptables-legacy."""
    for family, text in texts.items():
        for each in gate_legacy_table.openings_in(gate_legacy_table.parse(text), time.time()):
            yield f"{family} {each.direction} {each.port or 'all'} {each.level} {each.comment}"


def nft_families(listing: Listing) -> tuple[str, ...]:
    """The families in which nft has tables that iptables-nft knows."""
    return tuple(family for family in FAMILIES if any((family, table) in listing.tables for table in _TABLES))


def _texts(families: tuple[str, ...], kind: str, netns: str | None) -> dict[str, str]:
    tools = {family: Command((f"{_TOOLS[family]}-{kind}-save",), netns) for family in families}
    return {family: run(tool, check=True).stdout for family, tool in tools.items()}


def _parsed(texts: Mapping[str, str]) -> iptables_save.Saved:
    merged = iptables_save.Saved()
    for family, text in texts.items():
        saved = iptables_save.parse(text, family)
        merged.chains |= saved.chains
        merged.incompatible += saved.incompatible
    return merged


def _unmarked(
    texts: Iterable[Mapping[str, str]], spec: CaptureSpec | None, native: bool
) -> tuple[Known, tuple[str, ...]]:
    """Istio's rules in built-in chains that lead to none of its own; and sentences on those that only may be such."""
    saved = [leftovers.parse(text, family) for of in texts for family, text in of.items()]
    signs = leftovers.signs(saved, spec, seen=native)
    judged = [leftovers.judge(one, signs) for one in saved]
    mine = (line for one in judged for line in one.lines if not line.rule.to_istio)
    doubtful = tuple(f"{line.at}: {line.rule.text}" for one in judged for line in one.doubtful)
    return frozenset((line.at.table, line.at.chain, line.rule.text) for line in mine), doubtful


def _foreign(listing: Listing, saved: Mapping[Backend, iptables_save.Saved]) -> list[tuple[str, str]]:
    """(family, sentence); family inet stands for both."""
    found = [
        (chain.family, f"{chain}: {text}")
        for chain, text in listing.nat
        if not chain.is_istio and (chain.family, chain.table) != OWN_TABLE
    ]
    for some in saved.values():
        rules = ((chain, rule) for chain, rules in some.chains.items() for rule in rules)
        found += [(chain.family, f"{chain}: {rule.text}") for chain, rule in rules if _is_foreign(chain, rule)]
        found += [(name.split()[0], f"{name}: rules that iptables cannot show") for name in some.incompatible]
    return [item for item in found if item[0] in (*FAMILIES, "inet")]


def _is_foreign(chain: ChainId, rule: Rule) -> bool:
    """Whether a rule of iptables' translates addresses for somebody else."""
    of_old_istio = chain.chain == "OUTPUT" and all(part in rule.text for part in _DNS_TO_AGENT)
    return rule.goes in NAT_TARGETS and not chain.is_istio and not of_old_istio


def _view(
    family: str,
    rulesets: Mapping[Backend, Ruleset],
    known: Known,
    dormant: list[str],
    seen: Routing | None,
    foreign: list[tuple[str, str]],
    openings: tuple[str, ...],
    spec: CaptureSpec | None,
) -> FamilyView:
    here = {backend: of_family(family, ruleset) for backend, ruleset in rulesets.items()}
    here = {backend: ruleset for backend, ruleset in here.items() if ruleset}
    if not here:
        others = any(of in (family, "inet") for of, _ in foreign)
        return FamilyView(State.FOREIGN if others else State.ABSENT)
    problems = [text for ruleset in here.values() for text in gaps(ruleset, known)]
    if spec is not None:
        for backend, ruleset in here.items():
            problems = problems or deviations(family, spec, backend, ruleset)
    if seen is not None:
        problems += [text for ruleset in here.values() for text in undelivered(ruleset, seen, family)]
    if len(here) > 1:
        problems.append(f"Istio's rules are there more than once: {', '.join(here)}")
    problems += [f"{table} is dormant: its rules do nothing" for table in dormant]
    state = State.PARTIAL if problems else State.OPEN if openings else State.CAPTURED
    return FamilyView(state, tuple(here), tuple(problems))
