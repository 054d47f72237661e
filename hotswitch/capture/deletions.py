"""What Istio's own clean-up commands delete, release by release, and what that leaves of given rules (S4.3b).

Both ignore every error and look at nothing: `istio-clean-iptables` (until 1.24) deletes a fixed list, and
`istio-iptables --cleanup-only` (since 1.24) what its arguments of now would have written. So what stays can be told
beforehand, by doing the same to the rules as values.
Sources: Istio's tools/istio-clean-iptables/pkg/cmd/cleanup.go at 1.17 to 1.24, tools/istio-iptables/pkg/builder/
helper.go UndoRules and iptables_builder_impl.go buildCleanupRules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hotswitch.capture import older
from hotswitch.capture.iptables import BUILT_IN, MANGLE, NAT, RAW, Rule
from hotswitch.capture.iptables_save import canonical
from hotswitch.capture.older import Shape
from hotswitch.capture.ruleset import ChainId, Ruleset
from hotswitch.capture.spec import CaptureSpec
from hotswitch.capture.version import IstioVersion


class Deletion(NamedTuple):
    """One call of iptables. `words`: of the rule to delete; None: flush the chain and delete it."""

    table: str
    chain: str
    words: str | None = None

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        """What follows `iptables`."""
        if self.words is not None:
            return (("-t", self.table, "-D", self.chain, *self.words.split()),)
        return (("-t", self.table, "-F", self.chain), ("-t", self.table, "-X", self.chain))


def shape_of(version: IstioVersion) -> Shape:
    if version.at_least(1, 25):
        return Shape.FROM_1_25
    if version.at_least(1, 23):
        return Shape.OF_1_24 if version.at_least(1, 24) else Shape.OF_1_23
    return Shape.UNTIL_1_22


def by_arguments(spec: CaptureSpec, family: int, version: IstioVersion) -> list[Deletion]:
    """`istio-iptables --cleanup-only` with the arguments of `spec`: backwards, each rule that stands in a built-in
    chain or leads to a chain of Istio's; then each of these chains that the arguments would have made."""
    written = older.rules(spec, family, shape_of(version))[::-1]
    undone = [rule for rule in written if rule.chain in BUILT_IN or " -j ISTIO_" in f" {rule.words}"]
    chains = dict.fromkeys((rule.table, rule.chain) for rule in written if rule.chain not in BUILT_IN)
    return [*(Deletion(*rule[:3]) for rule in undone), *(Deletion(table, chain) for table, chain in chains)]


def fixed_list(spec: CaptureSpec, family: int, version: IstioVersion) -> list[Deletion]:
    """`istio-clean-iptables` with what it can be told of `spec`: proxy ids, DNS, the mode in its environment."""
    names = list(_names(spec, family, version)) if spec.redirect_dns else []
    first_names = [] if version.at_least(1, 22) else names
    jump_of_udp = Deletion(NAT, "OUTPUT", "-p udp -j ISTIO_OUTPUT"), Deletion(RAW, "OUTPUT", "-p udp -j ISTIO_OUTPUT")
    again = [Deletion(NAT, "ISTIO_OUTPUT")] if version.at_least(1, 23, 1) else []
    last = [Deletion(RAW, "ISTIO_OUTPUT"), *again] if again and family == 4 else []  # IPv6 was forgotten
    return [
        Deletion(NAT, "PREROUTING", "-p tcp -j ISTIO_INBOUND"),
        Deletion(MANGLE, "PREROUTING", "-p tcp -j ISTIO_INBOUND"),
        Deletion(NAT, "OUTPUT", "-p tcp -j ISTIO_OUTPUT"),
        *first_names,
        *(Deletion(NAT, chain) for chain in ("ISTIO_OUTPUT", "ISTIO_INBOUND")),
        *(Deletion(MANGLE, chain) for chain in ("ISTIO_INBOUND", "ISTIO_DIVERT", "ISTIO_TPROXY")),
        *_connection_marks(spec, version),
        *(Deletion(NAT, chain) for chain in ("ISTIO_REDIRECT", "ISTIO_IN_REDIRECT")),
        *again,
        *(jump_of_udp if version.at_least(1, 23) else ()),
        *(names if version.at_least(1, 22) else ()),
        *last,
    ]


def _connection_marks(spec: CaptureSpec, version: IstioVersion) -> Iterator[Deletion]:
    if spec.tproxy and version.at_least(1, 17):
        yield Deletion(MANGLE, "PREROUTING", f"-p tcp -m mark --mark {spec.tproxy_mark} -j CONNMARK --save-mark")
        yield Deletion(MANGLE, "OUTPUT", f"-p tcp -m connmark --mark {spec.tproxy_mark} -j CONNMARK --restore-mark")


def _names(spec: CaptureSpec, family: int, version: IstioVersion) -> Iterator[Deletion]:
    """The rules for names asked by UDP, which it takes from the same function as the set-up. All of DNS (not only that
    to the known servers) could not be told before 1.21."""
    for rule in older.rules(spec, family, shape_of(version)):
        if rule.words.startswith("-p udp") and not rule.words.endswith("-j ISTIO_OUTPUT"):
            known = version.at_least(1, 21) or not spec.capture_all_dns or "owner" in rule.words
            if known and rule.chain in ("OUTPUT", "PREROUTING", "ISTIO_OUTPUT"):
                yield Deletion(*rule[:3])


def left_of(rules: Iterable[Rule], family: str, deletions: Iterable[Deletion]) -> Ruleset:
    """What stays of `rules` in namespace that had nothing else: by chain, built-in ones only where something stays."""
    chains: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        there = chains.setdefault((rule.table, rule.chain), [])
        there.insert(len(there) if rule.at is None else rule.at - 1, rule.words)
    for deletion in deletions:
        _delete(chains, deletion)
    return {
        ChainId(family, table, chain): tuple(map(canonical, words))
        for (table, chain), words in chains.items()
        if words or chain not in BUILT_IN
    }


def _delete(chains: dict[tuple[str, str], list[str]], deletion: Deletion) -> None:
    where = deletion.table, deletion.chain
    if where not in chains:
        return
    if deletion.words is not None:
        sought = canonical(deletion.words).text
        at = next((at for at, words in enumerate(chains[where]) if canonical(words).text == sought), None)
        if at is not None:
            del chains[where][at]
        return
    chains[where].clear()
    jump = f"-j {deletion.chain}"  # a chain that something leads to cannot be deleted
    if not any(words.endswith(jump) for (table, _), of in chains.items() if table == deletion.table for words in of):
        del chains[where]
