"""The gate's chains where the kernel has iptables-legacy and no nf_tables, as text for iptables-restore (S4.3, I1, I4).

    PREROUTING, OUTPUT       one jump of ours each, at the top: all that ever stands in a built-in chain
    HOTSWITCH_IN, _OUT       what Istio captures, put there by `install`: all else returns
    HOTSWITCH_IN_OPEN, ...   the openings; empty when closed
    HOTSWITCH_PROBES         the stand-in for the app's probes; empty when it is not needed

Istio's rules stand in the same table, behind ours: ACCEPT ends the table, so its redirect never sees the flow
(`direct`); a REDIRECT leads to the rescue. Each rule of an opening carries its expiry (xt_time, whole seconds of the
wall clock, UTC) and, as a comment, its generation and reason. An expired rule stays, matches nothing, and goes with the
next write. A chain of openings is replaced as a whole, in one transaction for each family (I5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.iptables_save import canonical
from hotswitch.model import (
    MESH_ONLY_NETWORKS,
    NEVER_OPENED,
    OPEN_LEVELS,
    RESCUE_INBOUND,
    RESCUE_OUTBOUND,
    RESCUE_UID,
    STAND_IN,
    Direction,
    Generation,
    Level,
    Opening,
    Port,
)

PREFIX = "HOTSWITCH_"
JUMPS = {"PREROUTING": "HOTSWITCH_IN", "OUTPUT": "HOTSWITCH_OUT"}
OPEN = {Direction.INBOUND: "HOTSWITCH_IN_OPEN", Direction.OUTBOUND: "HOTSWITCH_OUT_OPEN"}
PROBES = "HOTSWITCH_PROBES"
WRITTEN = (*OPEN.values(), PROBES)  # after installation, only these change
COMMENT_BYTES = 120
FAMILIES = ("ip", "ip6")
_DATE = "%Y-%m-%dT%H:%M:%S"
_UNSAFE = re.compile(r"[^A-Za-z0-9 .,:;=/_()+-]")


def unsupported(scope: GateScope) -> str:
    """A sentence on what this gate cannot open; empty when it can."""
    lacks = {
        "interception mode TPROXY": scope.tproxy_mark is not None,
        "captured DNS": scope.dns_servers != (),
        "kube-virt interfaces": bool(scope.kube_virt_interfaces),
        "owner groups": scope.owner_groups is not None or bool(scope.owner_groups_exclude),
    }
    found = next((name for name, there in lacks.items() if there), "")
    return f"the kernel has no nf_tables, and the gate by iptables-legacy does not do {found}" if found else ""


def families(scope: GateScope) -> tuple[str, ...]:
    """IPv6 tables are not made for a pod where Istio captures none."""
    return FAMILIES if scope.inbound_ipv6 or scope.outbound_ipv6 else FAMILIES[:1]


# ---- reading ----


class Saved(NamedTuple):
    """Table nat of one family, as iptables-save tells it: the words after `-A CHAIN`, by chain."""

    chains: dict[str, list[str]]

    def ours(self) -> list[str]:
        return [chain for chain in self.chains if chain.startswith(PREFIX)]

    def jumps(self, chain: str) -> list[str]:
        return [words for words in self.chains.get(chain, ()) if _goes_to_ours(words)]


def parse(text: str) -> Saved:
    chains: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table == "nat" and line.startswith(":"):
            chains[line[1:].split()[0]] = []
        elif table == "nat" and line.startswith("-A "):
            _, chain, words = line.split(" ", 2)
            chains[chain].append(words)
    return Saved(chains)


def without_ours(text: str) -> str:
    """iptables-save's output as it would be if we had never been there."""
    return "".join(f"{line}\n" for line in text.splitlines() if not _is_ours(line))


def fixed(text: str) -> str:
    """What only others change in iptables-save's output: all but counters, dates, and the rules of an opening."""
    written = tuple(f"-A {chain} " for chain in WRITTEN)
    lines = (re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith(("#", *written)))


def _goes_to_ours(words: str) -> bool:
    return words.split("-j ")[-1].startswith(PREFIX)


def _is_ours(line: str) -> bool:
    if line.startswith((f":{PREFIX}", f"-A {PREFIX}")):
        return True
    return line.startswith("-A ") and _goes_to_ours(line)


class Found(NamedTuple):
    """One rule of an opening, with what it says. `ends_unix_s`: from then on it matches nothing."""

    direction: Direction
    port: Port | None
    level: Level
    comment: str
    ends_unix_s: float


def openings_in(saved: Saved, now_unix_s: float) -> Iterator[Found]:
    """The rules of openings that still match."""
    for direction, chain in OPEN.items():
        for words in saved.chains.get(chain, ()):
            found = _found(direction, shlex.split(words))
            if found is not None and found.ends_unix_s > now_unix_s:
                yield found


_LEVELS = {"ACCEPT": Level.DIRECT, "REDIRECT": Level.RESCUE, "RETURN": Level.HOLD}


def _found(direction: Direction, tokens: list[str]) -> Found | None:
    says = dict(pairwise(tokens))
    if "--uid-owner" in tokens or not {"--datestop", "--comment"} <= says.keys() or says.get("-j") not in _LEVELS:
        return None
    ends = datetime.strptime(says["--datestop"], _DATE).replace(tzinfo=UTC).timestamp() + 1
    port = int(says["--dport"]) if "--dport" in says else None
    return Found(direction, port, _LEVELS[says["-j"]], says["--comment"], ends)


# ---- what is there for good ----


def is_installed(saved: Saved, scope: GateScope, family: str) -> bool:
    """Our chains are there as `install` leaves them, led to once, and before anything else."""
    first = all(
        saved.jumps(chain) == saved.chains.get(chain, [])[:1] and len(saved.jumps(chain)) == 1 for chain in JUMPS
    )
    return first and not is_other(saved, scope, family)


def is_other(saved: Saved, scope: GateScope, family: str) -> bool:
    """Chains of ours are missing, or made for another scope."""
    rules = {chain: [canonical(words).text for words in saved.chains.get(chain, ())] for chain in JUMPS.values()}
    wanted = {chain: [canonical(words).text for words in found] for chain, found in _scope(scope, family).items()}
    return rules != wanted or not {*JUMPS.values(), *WRITTEN} <= saved.chains.keys()


def install_script(saved: Saved, scope: GateScope, family: str) -> str:
    """What makes `is_installed` true; an opening stays if it was made for the same scope."""
    flushed = (*JUMPS.values(), *WRITTEN) if is_other(saved, scope, family) else ()
    lines = [f":{chain} - [0:0]" for chain in flushed]
    lines += _no_jumps(saved)
    lines += [f"-I {chain} 1 -j {ours}" for chain, ours in JUMPS.items()]
    if flushed:
        lines += [f"-A {chain} {words}" for chain, rules in _scope(scope, family).items() for words in rules]
    return _table(lines)


def remove_script(saved: Saved) -> str:
    """Empty when nothing of ours is there."""
    lines = [*_no_jumps(saved), *(f"-{do} {chain}" for do in "FX" for chain in saved.ours())]
    return _table(lines) if lines else ""


def _no_jumps(saved: Saved) -> list[str]:
    return [f"-D {chain} {words}" for chain in saved.chains for words in saved.jumps(chain) if chain in JUMPS]


def _table(lines: Iterable[str]) -> str:
    return "\n".join(["*nat", *lines, "COMMIT", ""])


def _scope(scope: GateScope, family: str) -> dict[str, list[str]]:
    is_ours = partial(_of_family, family)
    return {
        JUMPS["PREROUTING"]: [_TO_PROBES, *_inbound(scope, family)],
        JUMPS["OUTPUT"]: list(_outbound(scope, family, is_ours)),
    }


_TO_PROBES = f"-p tcp -m addrtype --dst-type LOCAL -j {PROBES}"


def _of_family(family: str, network: str) -> bool:
    return (":" in network) is (family == "ip6")


def _inbound(scope: GateScope, family: str) -> Iterator[str]:
    if scope.inbound_ports == () or (family == "ip6" and not scope.inbound_ipv6):
        return
    yield from (f"-i {name} -j RETURN" for name in scope.exclude_interfaces)
    yield "-m addrtype ! --dst-type LOCAL -j RETURN"
    excluded = {*NEVER_OPENED, *(scope.inbound_exclude_ports if scope.inbound_ports is None else ())}
    yield from _ports(excluded, "-j RETURN")
    open_chain = f"-g {OPEN[Direction.INBOUND]}"
    yield from [f"-p tcp {open_chain}"] if scope.inbound_ports is None else _ports(scope.inbound_ports, open_chain)


def _outbound(scope: GateScope, family: str, is_ours: Callable[[str], bool]) -> Iterator[str]:
    nothing = scope.outbound_networks == () and not scope.outbound_ports
    if nothing or (family == "ip6" and not scope.outbound_ipv6):
        return
    yield from (f"-o {name} -j RETURN" for name in scope.exclude_interfaces)
    yield from _ports(scope.outbound_exclude_ports, "-j RETURN")
    yield from (f"-m owner --uid-owner {number} -j RETURN" for number in scope.proxy_uids)
    yield from (f"-m owner --gid-owner {number} -j RETURN" for number in scope.proxy_gids)
    free = (*MESH_ONLY_NETWORKS, *scope.outbound_exclude_networks)
    if scope.loopback_network:
        yield f"-s {'::6/128' if family == 'ip6' else '127.0.0.6/32'} -o lo -j RETURN"
        free = (scope.loopback_network, "::1/128", *free)
    else:
        yield "-o lo -j RETURN"
    yield from (f"-d {network} -j RETURN" for network in filter(is_ours, free))
    open_chain = f"-g {OPEN[Direction.OUTBOUND]}"
    if scope.outbound_networks is None:
        yield f"-p tcp {open_chain}"
        return
    yield from _ports(scope.outbound_ports, open_chain)
    yield from (f"-d {network} -p tcp {open_chain}" for network in filter(is_ours, scope.outbound_networks))


def _ports(ports: Iterable[Port], then: str) -> Iterator[str]:
    yield from (f"-p tcp --dport {port} {then}" for port in sorted(set(ports)))


# ---- what a write states ----


def write_script(
    openings: Mapping[Direction, Opening], *, ends_unix_s: float, generation: Generation, reason: str
) -> str:
    """The same for both families. `-F` fails where a chain is missing, and with it the whole transaction."""
    when = _when(ends_unix_s, f"gen={generation} {reason}")
    lines = [f"-F {chain}" for chain in OPEN.values()]
    for direction, opening in openings.items():
        for port, level in sorted(opening.ports.items()):
            lines += _led(direction, f"-p tcp --dport {port} {when}", level)
        if opening.level in OPEN_LEVELS:
            lines += _led(direction, f"-p tcp {when}", opening.level)
    return _table(lines)


def divert_script(port: Port | None, ends_unix_s: float = 0.0) -> str:
    """`port`: pilot-agent's, led to the stand-in; None: no longer."""
    rule = f"-A {PROBES} -p tcp --dport {port} {_when(ends_unix_s, 'the probes of the app')}"
    return _table([f"-F {PROBES}", *([] if port is None else [f"{rule} -j REDIRECT --to-ports {STAND_IN}"])])


def undo_script(saved: Saved) -> str:
    """What a write may have changed, as it was when `saved` was read."""
    lines = [f"-F {chain}" for chain in WRITTEN]
    return _table([*lines, *(f"-A {chain} {words}" for chain in WRITTEN for words in saved.chains.get(chain, ()))])


def _led(direction: Direction, match: str, level: Level) -> Iterator[str]:
    start = f"-A {OPEN[direction]} {match}"
    if level not in OPEN_LEVELS:
        yield f"{start} -j RETURN"
    elif level is Level.DIRECT:
        yield f"{start} -j ACCEPT"
    elif direction is Direction.INBOUND:
        yield f"{start} -j REDIRECT --to-ports {RESCUE_INBOUND}"
    else:
        yield f"{start} -m owner --uid-owner {RESCUE_UID} -j ACCEPT"
        yield f"{start} -j REDIRECT --to-ports {RESCUE_OUTBOUND}"


def _when(ends_unix_s: float, words: str) -> str:
    """xt_time matches until the last second is over: not before the expiry, and at most 1 s after it."""
    stop = datetime.fromtimestamp(int(ends_unix_s), UTC).strftime(_DATE)
    comment = _UNSAFE.sub(" ", words)[:COMMENT_BYTES].strip()
    return f'-m time --datestop {stop} -m comment --comment "{comment}"'
