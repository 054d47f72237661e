"""Taking Istio's capture out of a namespace: what `istio-clean-iptables` and `--cleanup-only` ought to do (S4.3b).

Those delete what their arguments would have made, ignore every error and exit with 0. This reads what is there, says
what it will run (I8), runs it, and looks again: it ends with nothing of Istio's left, or with an error. Rules of others
stay as they are, byte for byte (I4). Each family of iptables' rules goes by one restore text, each table of it in one
transaction; native tables go in one nft transaction (I5). Repeating it does nothing.

New connections go straight at once. Those through the proxy live on translation: the kernel gives it up with the last
rule that needs it, whoever made the base chains (tried with all three backends), and their packets go astray. So while
there are any, a table of ours holds translation; marks, policy routing (by which TPROXY's answers find the proxy) and
::6 (from where the proxy calls the app) go in a second step, with that table: when the last connection has ended, or
after `drain_s`, when the rest is cut. A client that is cut while it is idle just connects anew. DNS answers on their
way may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from select import poll
from time import monotonic

from hotswitch.capture import flows, leftovers, routing, unrouting
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.leftovers import AMBIENT_CHAIN, Leftovers, Signs
from hotswitch.capture.reading import HOLD, Place, Reading, read
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel.command import Command, CommandFailed, run
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket

_HOLD_SCRIPT = """table inet hotswitch-drain {
    chain hold {
        type nat hook input priority 100; policy accept;
        ct state new counter
    }
}
"""
ROUNDS = 3  # others may change rules between the look and the act: then everything is read again
LOCK_WAIT_S = 10


class CleanError(RuntimeError):
    """Something of Istio's is still there, or must not be cleaned: the sentence says what."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: `first` ends the capture of new flows, `then` takes what live flows still need. Empty on a
    namespace without anything of Istio's. `stays`: sentences on what is left alone, and why."""

    first: tuple[Command, ...] = ()
    then: tuple[Command, ...] = ()
    stays: tuple[str, ...] = ()

    @property
    def commands(self) -> tuple[Command, ...]:
        return (*self.first, *self.then)

    def __str__(self) -> str:
        return "\n".join(map(str, self.commands))


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was run, in order, and what stays. `cut`: connections through the proxy that did not end by themselves."""

    done: tuple[Command, ...]
    stays: tuple[str, ...]
    cut: int = 0

    @property
    def changed(self) -> bool:
        return bool(self.done)


def signs(reading: Reading, spec: CaptureSpec | None = None) -> Signs:
    """What everything that was read says of the Istio that was there."""
    seen = bool(reading.native) or reading.routing.sure
    return leftovers.signs(reading.saved.values(), spec, seen=seen)


def plan(
    reading: Reading,
    spec: CaptureSpec | None = None,
    netns: str | None = None,
    *,
    staged: bool | None = None,
    known: Signs | None = None,
) -> Plan:
    """What has to be run in the namespace at `netns`, given what was read there. With `spec`, rules that carry no mark
    of Istio's are also known by it. `staged`: in two steps; None: if there are connections through the proxy. `known`:
    signs that were there before a part was taken away. Raises CleanError for the ambient mode, whose own agent must do
    it, and for tables that iptables cannot change."""
    staged = reading.live > 0 if staged is None else staged
    found = signs(reading, spec) | known if known else signs(reading, spec)
    if any(chain.chain == AMBIENT_CHAIN for saved in reading.saved.values() for chain in saved.chains):
        raise CleanError("this pod is in the ambient mode: label it istio.io/dataplane-mode=none and let istio-cni act")
    judged = {place: leftovers.judge(saved, found) for place, saved in reading.saved.items()}
    if reading.unreadable:
        where = ", ".join(reading.unreadable)
        raise CleanError(f"iptables cannot change {where}: rules made by nft stand beside Istio's; remove those first")
    mine = reading.routing.of_istio(found.marks if found.sure else (), spec)
    mine = mine if found.sure else replace(mine, magic_v6=False)
    saved, native = _iptables(judged, netns, staged), _natively(reading, netns, staged)
    first = [*saved[0], *native[0]]
    hold = _nft(_HOLD_SCRIPT, netns) if staged and first else []
    let_go = _nft(f"delete table {' '.join(HOLD)}\n", netns) if hold or reading.held else []
    return Plan(
        first=(*hold, *first),
        then=(*saved[1], *native[1], *unrouting.removal(reading.routing, mine, netns), *let_go),
        stays=(
            *_doubts(judged, reading.routing.magic_v6 and not found.sure),
            *unrouting.kept(reading.routing, mine),
            *_emptied(reading, judged),
        ),
    )


def _iptables(
    judged: Mapping[Place, Leftovers], netns: str | None, staged: bool
) -> tuple[list[Command], list[Command]]:
    first: list[Command] = []
    then: list[Command] = []
    for place, some in judged.items():
        now, later = leftovers.marked(some) if staged else (some, Leftovers())
        first += _restore(place, now, netns)
        then += _restore(place, later, netns)
    return first, then


def _restore(place: Place, some: Leftovers, netns: str | None) -> Iterator[Command]:
    if text := leftovers.restore_text(some):
        lock = ("--wait", str(LOCK_WAIT_S)) if place.backend is Backend.IPTABLES_LEGACY else ()
        yield Command((place.tool("restore"), "--noflush", *lock), netns, text)


def _natively(reading: Reading, netns: str | None, staged: bool) -> tuple[list[Command], list[Command]]:
    """Staged: mangle's marks on what leaves stay for a while."""
    later = [table for table in reading.native if staged and table[1].endswith("-mangle")]
    first = "".join(f"delete table {family} {name}\n" for family, name in reading.native if (family, name) not in later)
    first += "".join(
        f"flush chain {family} {name} {chain}\n"
        for family, name in later
        for chain in reading.native[family, name]
        if chain != "output" and not chain.startswith("istio-")
    )
    then = "".join(f"delete table {family} {name}\n" for family, name in later)
    return _nft(first, netns), _nft(then, netns)


def _nft(script: str, netns: str | None) -> list[Command]:
    return [Command(("nft", "-f", "-"), netns, script)] if script else []


def _doubts(judged: Mapping[Place, Leftovers], magic: bool) -> Iterator[str]:
    if magic:
        yield "::6/128 on lo may be Istio's, but nothing else of it is here; --spec tells"
    for place, some in judged.items():
        for line in some.doubtful:
            yield f"{place.backend} {line.at}: {line.words}: may be Istio's or not; --spec tells"


def _emptied(reading: Reading, judged: Mapping[Place, Leftovers]) -> Iterator[str]:
    """Tables in which nothing will be left: iptables keeps them."""
    for place, saved in reading.saved.items():
        gone, chains = set(judged[place].lines), set(judged[place].chains)
        for table in sorted({at.table for at in (*chains, *(line.at for line in gone))}):
            left = [line for line in saved.lines if line.at.table == table and line not in gone]
            if not any(line.at not in chains for line in left):
                yield f"{place.backend} {place.family} {table}: the table stays, empty"


def clean(netns: str | None = None, spec: CaptureSpec | None = None, *, drain_s: float = 0.0) -> Cleaned:
    """Carry the plan out in the namespace at `netns` (None: this one) and look again. `drain_s`: how long to wait for
    connections through the proxy to end before the rest is cut; the wait ends when the last one does.

    Raises CleanError if something of Istio's is still there after three rounds, and as `plan` does; FileNotFoundError
    when a tool or the namespace is missing.
    """
    before = read(netns)
    known = signs(before, spec)
    todo = first = plan(before, spec, netns)
    if not first.commands:
        return Cleaned((), first.stays)
    done: list[Command] = []
    cut, failure = 0, ""
    for _ in range(ROUNDS):
        try:
            _run_all(todo.first, done)
            if before.live and todo.then:
                cut += _drain(netns, before, drain_s)
            _run_all(todo.then, done)
        except CommandFailed as failed:
            failure = str(failed)
        todo = plan(read(netns), spec, netns, known=known)
        if not todo.commands:
            return Cleaned((*done, *_forget(netns, before)), first.stays, cut)
    raise CleanError(f"not clean after {ROUNDS} rounds: {failure or todo.commands[0]}")


def _run_all(commands: Iterable[Command], done: list[Command]) -> None:
    for command in commands:
        run(command, check=True)
        done.append(command)


def _drain(netns: str | None, before: Reading, drain_s: float) -> int:
    """Wait until no connection passes the proxy any more, and cut those that still do; how many."""
    until = monotonic() + drain_s
    ends = NetlinkSocket(NETLINK_SOCK_DIAG, netns, groups=flows.ENDED_FLOWS)
    asks = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
    waiter = poll()
    waiter.register(ends.fileno())
    try:
        while flows.through_proxy(asks, before.proxy_ports):
            left = until - monotonic()
            if left <= 0 or not waiter.poll(left * 1000):
                return flows.cut_stuck(asks, _scope(before), before.proxy_ports)
            ends.events()
        return 0
    finally:
        ends.close()
        asks.close()


def _scope(before: Reading) -> GateScope:
    return GateScope(dns_servers=None if before.dns else (), tproxy_mark=routing.MARK if before.tproxy else None)


def _forget(netns: str | None, before: Reading) -> list[Command]:
    """Flows that a dead proxy reset keep their redirect for 10 s, and so do questions for names as long as they are
    asked from one socket: used again, they would be refused."""
    if not flows.tracked(netns):
        return []
    commands = flows.forget_commands(netns, _scope(before), before.proxy_ports, ended=True)
    commands += flows.forget_names_commands(netns, _scope(before), opened=True)
    try:
        for command in commands:
            run(command)
    except FileNotFoundError:  # conntrack is not installed: they are forgotten in seconds
        return []
    return commands
