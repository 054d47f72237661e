"""What `iptables-save` prints, and what Istio writes, in the canonical form of `ruleset`.

Only what iptables itself rewrites is evened out: order of options, implied `-m`, masks, marks, names of owners. An
option that is not known here keeps its words, so that an unknown rule can still be compared and shown (I4).
"""

from __future__ import annotations

import grp
import ipaddress
import pwd
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from hotswitch.capture import iptables, older
from hotswitch.capture.older import Shape
from hotswitch.capture.ruleset import ChainId, Known, Rule, Ruleset
from hotswitch.capture.spec import CaptureSpec, Interception

NAT_TARGETS = frozenset({"DNAT", "SNAT", "REDIRECT", "MASQUERADE", "NETMAP", "TPROXY", "SAME", "MIRROR"})
ALL_BITS = 0xFFFFFFFF
_LONG = {
    "--jump": "-j",
    "--goto": "-g",
    "--match": "-m",
    "--protocol": "-p",
    "--source": "-s",
    "--destination": "-d",
    "--in-interface": "-i",
    "--out-interface": "-o",
    "--to-port": "--to-ports",
    "--set-mark": "--set-xmark",
}


@dataclass(slots=True)
class Saved:
    """`incompatible`: tables that hold rules iptables cannot show."""

    chains: dict[ChainId, list[Rule]] = field(default_factory=dict)
    incompatible: list[str] = field(default_factory=list)

    @property
    def ruleset(self) -> Ruleset:
        return {chain: tuple(rules) for chain, rules in self.chains.items()}


def parse(text: str, family: str) -> Saved:
    """The output of iptables-save or ip6tables-save; `family` is ip or ip6."""
    saved, table = Saved(), ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            saved.chains.setdefault(ChainId(family, table, line[1:].split()[0]), [])
        elif line.startswith("-A "):
            _, chain, words = f"{line} ".split(" ", 2)
            saved.chains.setdefault(ChainId(family, table, chain), []).append(canonical(words))
        elif line.startswith("# Table `") and "incompatible" in line:
            saved.incompatible.append(f"{family} {line[9:].partition(chr(39))[0]}")
    return saved


def expected(spec: CaptureSpec, family: str, shape: Shape = Shape.FROM_1_25) -> Ruleset:
    """What the kernel has after Istio's rules of that shape were loaded into empty tables."""
    chains: dict[ChainId, list[Rule]] = {}
    if spec.mode is Interception.NONE or (family == "ip6" and not spec.ipv6):
        return {}
    for rule in older.rules(spec, 6 if family == "ip6" else 4, shape):
        chain = chains.setdefault(ChainId(family, rule.table, rule.chain), [])
        chain.insert(len(chain) if rule.at is None else rule.at - 1, canonical(rule.words))
    return {chain: tuple(rules) for chain, rules in chains.items()}


@lru_cache(maxsize=64)
def in_built_in_chains(spec: CaptureSpec) -> Known:
    """What Istio's releases write there for `spec`, beside jumps to its own chains."""
    shapes = (Shape.FROM_1_25, Shape.UNTIL_1_22)  # the others are mixtures of these there
    rules = (rule for shape in shapes for family in (4, 6) for rule in older.rules(spec, family, shape))
    mine = (rule for rule in rules if rule.chain in iptables.BUILT_IN and "-j ISTIO_" not in rule.words)
    return frozenset((rule.table, rule.chain, canonical(rule.words).text) for rule in mine)


@lru_cache(maxsize=4096)
def canonical(words: str) -> Rule:
    """The words after `-A CHAIN`."""
    conditions: list[str] = []
    action: list[str] = []
    goes, module = "", ""
    for negated, option, values in _options(words):
        if option == "-m":
            module = values[0] if values else ""
            continue
        text = _text(negated, option, values, module)
        if option in ("-j", "-g"):
            goes = values[0] if values else ""
        if text:
            (action if goes else conditions).append(text)
    return Rule(" ".join(sorted(conditions) + action[:1] + sorted(action[1:])), goes, set(conditions) <= {"-p tcp"})


def _options(words: str) -> Iterator[tuple[bool, str, list[str]]]:
    """(negated, option, its values) in order."""
    try:
        tokens = shlex.split(words)
    except ValueError:
        tokens = words.split()
    negated = False
    while tokens:
        token = tokens.pop(0)
        if token == "!":
            negated = True
            continue
        values = []
        while tokens and tokens[0] != "!" and not tokens[0].startswith("-"):
            values.append(tokens.pop(0))
        yield negated, _LONG.get(token, token), values
        negated = False


def _text(negated: bool, option: str, values: list[str], module: str) -> str:
    """Empty where it says nothing: a comment, or what is meant anyway."""
    write = _WRITTEN.get(option, " ".join)
    value = write(values)
    if value is None:
        return ""
    name = f"{module}:{option}" if option == "--mark" else option
    return f"{'! ' if negated else ''}{name} {value}".rstrip()


def _network(values: list[str]) -> str:
    try:
        return str(ipaddress.ip_network(values[0], strict=False))
    except (ValueError, IndexError):
        return " ".join(values)


def _mark(values: list[str]) -> str:
    try:
        value, _, mask = values[0].partition("/")
        return f"{int(value, 0):#x}/{int(mask or str(ALL_BITS), 0):#x}"
    except (ValueError, IndexError):
        return " ".join(values)


def _partial_mask(values: list[str]) -> str | None:
    return None if _mark(values).startswith(f"{ALL_BITS:#x}/") else " ".join(values)


def _chosen_address(values: list[str]) -> str | None:
    return None if values in (["0.0.0.0"], ["::"]) else " ".join(values)


def _states(values: list[str]) -> str:
    return ",".join(sorted(",".join(values).split(",")))


def owner_id(name: str, *, of_group: bool) -> str:
    """The number behind a name of this machine, as iptables looks it up; a name that is not known stays."""
    try:
        return str(grp.getgrnam(name).gr_gid if of_group else pwd.getpwnam(name).pw_uid)
    except KeyError:
        return name


_WRITTEN: dict[str, Callable[[list[str]], str | None]] = {
    "-s": _network,
    "-d": _network,
    "--mark": _mark,
    "--set-xmark": _mark,
    "--tproxy-mark": _mark,
    "--nfmask": _partial_mask,
    "--ctmask": _partial_mask,
    "--on-ip": _chosen_address,
    "--ctstate": _states,
    "--comment": lambda _values: None,
    "--uid-owner": lambda values: owner_id(" ".join(values), of_group=False),
    "--gid-owner": lambda values: owner_id(" ".join(values), of_group=True),
}
