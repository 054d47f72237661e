"""The `ip` commands that make Istio's routing, each thing once, and that take it away, every copy of it (S4.3b)."""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.capture.routing import EVERYWHERE, MAGIC_V6, Routing, Surroundings
from hotswitch.capture.spec import CaptureSpec, Interception
from hotswitch.kernel.command import Command

_OPTIONS = {"ip": "-4", "ip6": "-6"}
_ADDRESS = f"{MAGIC_V6[0]}/{MAGIC_V6[1]}"


def missing(there: Surroundings, spec: CaptureSpec, netns: str | None) -> Iterator[Command]:
    """What this spec needs beside its rules and has not got. First what marked packets will need."""
    if spec.mode is Interception.NONE:
        return
    if spec.ipv6 and not there.magic_v6:
        yield Command(("ip", "-6", "addr", "add", _ADDRESS, "dev", "lo"), netns)
    if not (spec.tproxy and spec.inbound_ports):
        return
    mark, table = spec.tproxy_mark, spec.tproxy_route_table
    for family in ("ip", "ip6") if spec.ipv6 else ("ip",):
        tool = ("ip", _OPTIONS[family])
        if not any((route.family, route.table) == (family, table) for route in there.routes):
            to = ("local", EVERYWHERE[family], "dev", "lo", "table", str(table))
            yield Command((*tool, "route", "add", *to), netns)
        if not any((rule.family, rule.mark, rule.table) == (family, mark, table) for rule in there.rules if rule.alone):
            yield Command((*tool, "rule", "add", "fwmark", str(mark), "lookup", str(table)), netns)


def removal(there: Surroundings, mine: Routing, netns: str | None) -> Iterator[Command]:
    """One process per family; rules first, so that no mark leads into an empty table."""
    for family, option in _OPTIONS.items():
        lines = [
            f"rule del pref {rule.priority} fwmark {rule.mark} lookup {rule.table}"
            for rule in mine.rules
            if rule.family == family
        ]
        lines += [
            f"route del local {route.to} dev lo table {route.table}"
            for route in mine.routes
            if route.family == family and not there.needed_by_others(route, mine)
        ]
        if mine.magic_v6 and family == "ip6":
            lines.append(f"addr del {_ADDRESS} dev lo")
        if lines:
            yield Command(("ip", option, "-batch", "-"), netns, "".join(f"{line}\n" for line in lines))


def kept(there: Surroundings, mine: Routing) -> Iterator[str]:
    """Sentences on what stays because others need it."""
    for route in mine.routes:
        if there.needed_by_others(route, mine):
            yield f"{route.family} table {route.table}: its local route stays: a rule that is not Istio's looks there"
