"""Which of the rules that a namespace has are Istio's, by what stands there and by nothing that anybody says (S4.3b).

Three kinds. Chains called ISTIO_*, with all that is in them. Rules elsewhere that lead into one. And rules in built-in
chains that nothing marks: those are told by their canonical text, in every shape that Istio 1.16 to 1.31 wrote. Some of
these shapes nobody else writes (port 15053, mark 1338, NFLOG group 1337). Others anybody could have written; they count
as Istio's only beside something unmistakable, and with what Istio writes along with them. What stays in doubt is left
alone and named (I4): a spec settles it.
Source: the golden files of Istio's tools/istio-iptables at 1.16.0, 1.20.7, 1.22.0, 1.23.0, 1.24.0, 1.25.0, 1.31.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from hotswitch.capture import iptables_save
from hotswitch.capture.iptables import BUILT_IN, OUTBOUND_MARK
from hotswitch.capture.iptables_save import ALL_BITS, canonical
from hotswitch.capture.ruleset import ChainId, Rule
from hotswitch.capture.spec import PROXY_ID, CaptureSpec, Interception

DEFAULT_MARK = 1337
AMBIENT_CHAIN = "ISTIO_PRERT"  # only the ambient mode has it


class Line(NamedTuple):
    """A rule as it was saved. `words` follow `-A chain`, and after `-D chain` they delete it."""

    at: ChainId
    words: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Saved:
    """One family's tables under one backend, as iptables-save tells them."""

    chains: tuple[ChainId, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(slots=True)
class Signs:
    """What all rules of a namespace, taken together, say of the Istio that was there."""

    sure: bool = False  # something that nobody but Istio makes
    marks: set[int] = field(default_factory=lambda: {DEFAULT_MARK})
    owners: set[str] = field(default_factory=lambda: {str(PROXY_ID)})
    virtual: set[str] = field(default_factory=set)  # kube-virt interfaces
    names_redirected: bool = False  # DNS, in the built-in chain, as until 1.22
    texts: set[tuple[str, str, str]] = field(default_factory=set)  # of the spec: table, chain, canonical text

    def __or__(self, other: Signs) -> Signs:
        return Signs(
            self.sure or other.sure,
            self.marks | other.marks,
            self.owners | other.owners,
            self.virtual | other.virtual,
            self.names_redirected or other.names_redirected,
            self.texts | other.texts,
        )


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What is Istio's in one `Saved`: whole chains, and lines in chains of others. `doubtful`: may be, or may not."""

    chains: tuple[ChainId, ...] = ()
    lines: tuple[Line, ...] = ()
    doubtful: tuple[Line, ...] = ()


def parse(text: str, family: str) -> Saved:
    """The output of iptables-save without counters; `family` is ip or ip6."""
    chains: list[ChainId] = []
    lines: list[Line] = []
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chains.append(ChainId(family, table, line[1:].split()[0]))
        elif line.startswith("-A "):
            _, chain, words = f"{line} ".split(" ", 2)
            lines.append(Line(ChainId(family, table, chain), words.strip(), canonical(words)))
    return Saved(tuple(chains), tuple(lines))


def is_istio(chain: ChainId) -> bool:
    return chain.chain.startswith("ISTIO_")


_PORT_53 = "--dport 53 "
_MARK = r"mark:--mark (?P<mark>0x[0-9a-f]+)/0xffffffff "
_UNMISTAKABLE = {
    ("nat", "OUTPUT"): (rf"{_PORT_53}(-d \S+ )?-p udp -j REDIRECT --to-ports 15053",),
    ("raw", "OUTPUT"): (
        rf"{_PORT_53}(?:--[ug]id-owner (?P<owner>\S+) )?-p udp -j CT --zone 1",
        r"--gid-owner (?P<owner>\S+) --sport 15053 -p udp -j CT --zone 2",
        r"--sport 15053 --uid-owner (?P<owner>\S+) -p udp -j CT --zone 2",
        rf"{_PORT_53}(-d \S+ )?-p udp -j CT --zone 2",
    ),
    ("raw", "PREROUTING"): (r"--sport 53 (-d \S+ )?-p udp (-s \S+ )?-j CT --zone 1",),
    ("mangle", "OUTPUT"): (
        rf"! -d \S+ --[ug]id-owner (?P<owner>\S+) -o lo -p tcp -j MARK --set-xmark {OUTBOUND_MARK:#x}/{ALL_BITS:#x}",
    ),
}
_TRACE = r"(.+ )?-j NFLOG --nflog-group 1337 --nflog-prefix \S+ --nflog-size 20"
_MARKED = {
    ("mangle", "PREROUTING"): (rf"-p tcp {_MARK}-j CONNMARK --save-mark",),
    ("mangle", "OUTPUT"): (
        rf"-o lo -p tcp {_MARK}-j RETURN",
        rf"-p tcp conn{_MARK}-j CONNMARK --restore-mark",
    ),
}
_NAMES_OF_OWNERS = (  # nat OUTPUT, until 1.22: the proxy, or groups, ask their name server directly
    rf"{_PORT_53}--[ug]id-owner (?P<owner>\S+) -p udp -j RETURN",
    rf"(?:! --gid-owner (?P<owner>\S+) )+{_PORT_53}-p udp -j RETURN",
)
_INTERFACE = {"PREROUTING": r"-i (?P<name>\S+) -j RETURN", "OUTPUT": r"-o (?P<name>\S+) -j RETURN"}
_VIRTUAL = re.compile(r"(?:-d \S+ )?-i (?P<name>\S+) -j ISTIO_REDIRECT")
_INVALID = "--ctstate INVALID -j DROP"  # mangle PREROUTING, until 1.23
_GUARDRAILS = {(chain, f"-p {way} -j DROP") for chain in ("INPUT", "FORWARD", "OUTPUT") for way in ("tcp", "udp")}


def signs(saved: Iterable[Saved], spec: CaptureSpec | None = None, *, seen: bool = False) -> Signs:
    """`seen`: there is something of Istio's beside iptables' rules. A spec counts as such, too: Istio was asked for."""
    found = Signs(sure=seen)
    if spec is not None:
        _add_spec(found, spec)
    everything = list(saved)
    for one in everything:
        found.sure = found.sure or any(map(is_istio, one.chains))
        for line in one.lines:
            _add_line(found, line)
    if found.sure:
        found.marks |= _saved_and_restored(line for one in everything for line in one.lines)
    return found


def _add_spec(found: Signs, spec: CaptureSpec) -> None:
    found.sure = found.sure or spec.mode is not Interception.NONE
    found.marks.add(spec.tproxy_mark)
    found.owners |= {str(number) for number in (*spec.proxy_uids, *spec.proxy_gids)}
    found.virtual |= {*spec.kube_virt_interfaces}
    found.texts |= iptables_save.in_built_in_chains(spec)


def _add_line(found: Signs, line: Line) -> None:
    text = line.rule.text
    if line.rule.to_istio or _unmistakable(line):
        found.sure = True
    if virtual := _VIRTUAL.fullmatch(text):
        found.virtual.add(virtual["name"])
    if is_istio(line.at) or _unmistakable(line):
        found.owners |= {*re.findall(r"--[ug]id-owner (\S+)", text)}
    if is_istio(line.at) and line.at.table == "mangle":
        found.marks |= {int(mark, 0) for mark in re.findall(r"(?:-xmark|-mark|proxy-mark) (0x\w+)/", text)}
        found.marks.discard(OUTBOUND_MARK)
    if line.at[1:] == ("nat", "OUTPUT") and text.endswith("-j REDIRECT --to-ports 15053"):
        found.names_redirected = True


def _saved_and_restored(lines: Iterable[Line]) -> set[int]:
    """Marks that are saved to and restored from connections in exactly Istio's two shapes: another mark than 1337, of
    a set-up whose chains are gone."""
    by_chain: dict[str, set[int]] = {"PREROUTING": set(), "OUTPUT": set()}
    for line in lines:
        if line.rule.goes == "CONNMARK" and (mark := _mark(line)) is not None:
            by_chain[line.at.chain].add(mark)
    return by_chain["PREROUTING"] & by_chain["OUTPUT"]


def _match(line: Line, shapes: dict[tuple[str, str], tuple[str, ...]]) -> re.Match[str] | None:
    found = (re.fullmatch(shape, line.rule.text) for shape in shapes.get(line.at[1:], ()))
    return next((match for match in found if match), None)


def _mark(line: Line) -> int | None:
    match = _match(line, _MARKED)
    return int(match["mark"], 0) if match else None


def _unmistakable(line: Line) -> bool:
    """In a built-in chain, and of a shape that only Istio gives a rule."""
    if line.at.chain not in BUILT_IN or _commented(line):
        return False
    traced = line.rule.goes == "NFLOG" and re.fullmatch(_TRACE, line.rule.text)
    return bool(traced or _match(line, _UNMISTAKABLE) or _mark(line) == DEFAULT_MARK)


def _commented(line: Line) -> bool:
    """Istio writes no comments, and the canonical text leaves them out."""
    return "--comment" in line.words


def judge(saved: Saved, found: Signs) -> Leftovers:
    """What of `saved` is Istio's, given the signs of the whole namespace."""
    elsewhere = [line for line in saved.lines if not is_istio(line.at)]
    ours = [line for line in elsewhere if _belongs(line, found, elsewhere)]
    certain = set(ours)
    doubtful = [line for line in elsewhere if line not in certain and _could_be(line, elsewhere)]
    return Leftovers(tuple(filter(is_istio, saved.chains)), tuple(ours), tuple(doubtful))


def _belongs(line: Line, found: Signs, others: Sequence[Line]) -> bool:
    if line.rule.to_istio:
        return True
    if line.at.chain not in BUILT_IN or _commented(line):
        return False
    if _unmistakable(line) or (*line.at[1:], line.rule.text) in found.texts:
        return True
    return found.sure and _beside_signs(line, found, others)


def _beside_signs(line: Line, found: Signs, others: Sequence[Line]) -> bool:
    """Shapes that others may write, too: with something that only Istio leaves beside them, they are Istio's."""
    if (mark := _mark(line)) is not None:
        return mark in found.marks
    if names := _match(line, {("nat", "OUTPUT"): _NAMES_OF_OWNERS}):
        return found.names_redirected or names["owner"] in found.owners
    if line.at[1:] == ("mangle", "PREROUTING") and line.rule.text == _INVALID:
        return not any(other.rule.goes == "ISTIO_DROP" for other in others) and _older(others)
    if name := _interface(line):
        virtual = line.at[1:] == ("nat", "PREROUTING") and name in found.virtual
        return virtual or _excluded_both_ways(name, line.at.table, others)
    return False


def _older(others: Sequence[Line]) -> bool:
    """Jumps of the shape that 1.25 gave up, or direct rules for DNS: then invalid packets were dropped directly."""
    return any(
        (line.at[1:] == ("nat", "OUTPUT") and line.rule.text == "-p tcp -j ISTIO_OUTPUT")
        or (line.at.table == "raw" and line.rule.goes == "CT")
        for line in others
    )


def _interface(line: Line) -> str:
    shape = _INTERFACE.get(line.at.chain) if line.at.table in ("nat", "mangle") else None
    match = re.fullmatch(shape, line.rule.text) if shape else None
    return match["name"] if match else ""


def _excluded_both_ways(name: str, table: str, others: Iterable[Line]) -> bool:
    """Istio excludes an interface in PREROUTING and in OUTPUT, in nat always and in mangle under TPROXY."""
    there = {other.at[1:] for other in others if not _commented(other) and _interface(other) == name}
    return {(where, chain) for where in ("nat", table) for chain in _INTERFACE} <= there


def _could_be(line: Line, others: Sequence[Line]) -> bool:
    if line.at.chain not in BUILT_IN or _commented(line):
        return False
    invalid = line.at[1:] == ("mangle", "PREROUTING") and line.rule.text == _INVALID
    return bool(invalid or _interface(line) or _mark(line) is not None or _guardrail(line, others))


def _guardrail(line: Line, others: Iterable[Line]) -> bool:
    """What a killed `--reconcile` leaves: all TCP and UDP dropped. A quarantine looks the same, so it is only named."""
    drops = {(other.at.chain, other.rule.text) for other in others if other.at.table == "filter"}
    ours = line.at.table == "filter" and (line.at.chain, line.rule.text) in _GUARDRAILS
    return ours and drops >= _GUARDRAILS


def restore_text(leftovers: Leftovers, *, only: Iterable[str] = ("mangle", "nat", "raw", "filter", "security")) -> str:
    """For `iptables-restore --noflush`: each table in one transaction. First mangle, which redirects before nat does;
    raw last, so that answers on their way find the zone that they left from."""
    return "".join("\n".join([f"*{table}", *body, "COMMIT", ""]) for table in only if (body := _body(leftovers, table)))


def _body(leftovers: Leftovers, table: str) -> list[str]:
    chains = [chain.chain for chain in leftovers.chains if chain.table == table]
    return [
        *(f"-D {line.at.chain} {line.words}" for line in leftovers.lines if line.at.table == table),
        *(f"-F {chain}" for chain in chains),
        *(f"-X {chain}" for chain in chains),
    ]


def marked(leftovers: Leftovers) -> tuple[Leftovers, Leftovers]:
    """(all but these, these): the rules that carry TPROXY's live connections back to the proxy. Without the others
    they capture nothing."""
    kept = tuple(line for line in leftovers.lines if _carries(line))
    rest = tuple(line for line in leftovers.lines if not _carries(line))
    return replace(leftovers, lines=rest), Leftovers(lines=kept)


def _carries(line: Line) -> bool:
    return line.at.table == "mangle" and (_mark(line) is not None or line.rule.goes == "MARK")
