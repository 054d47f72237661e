"""Istio's iptables rules as releases before 1.25 wrote them: a pod keeps the rules of the release that started it.

What is the same in all of them is taken from `iptables`; here are the differences. Until 1.24 only TCP is led to
ISTIO_OUTPUT, excluded outbound ports let TCP out alone, and names asked by TCP and by UDP are redirected in two places:
those by UDP in the built-in chains themselves until 1.22, in ISTIO_OUTPUT of nat and raw in 1.23 and 1.24. Captured
DNS without any server still makes rules. Until 1.23 invalid packets are dropped in PREROUTING itself; until 1.22 a list
of networks ends with a RETURN.
Sources: Istio's tools/istio-iptables/pkg/capture/run.go and testdata at 1.20.0, 1.22.0, 1.23.0, 1.24.0, 1.25.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

from hotswitch.capture import iptables
from hotswitch.capture.iptables import DNS_PORT, NAT, RAW, Rule, dns_servers, owner_options
from hotswitch.capture.ruleset import Ruleset
from hotswitch.capture.spec import CaptureSpec


class Shape(StrEnum):
    """Named by the releases that write it. Istio's native nft rules have one shape."""

    UNTIL_1_22 = "1.22 or earlier"
    OF_1_23 = "1.23"
    OF_1_24 = "1.24"
    FROM_1_25 = "1.25 or later"


def shapes_of(ruleset: Ruleset) -> tuple[Shape, ...]:
    """Which shapes these rules (of one family) may have, by the jump that each of them has; the likeliest first."""
    jumps = {rule.text for chain, rules in ruleset.items() if chain[1:] == (NAT, "OUTPUT") for rule in rules}
    if "-p tcp -j ISTIO_OUTPUT" not in jumps:
        return (Shape.FROM_1_25,)
    if "-j ISTIO_OUTPUT" in jumps:
        return tuple(Shape)
    with_names = "-p udp -j ISTIO_OUTPUT" in jumps
    return (Shape.OF_1_24, Shape.OF_1_23) if with_names else (Shape.UNTIL_1_22, Shape.OF_1_24, Shape.OF_1_23)


def rules(spec: CaptureSpec, family: int, shape: Shape) -> list[Rule]:
    """All rules of one family (4 or 6) in the order of that release."""
    if shape is Shape.FROM_1_25:
        return iptables.rules(spec, family)
    anyway = replace(spec, dns_servers_v4=spec.dns_servers_v4 or ("192.0.2.1",))  # its own rules are dropped below
    written = iptables.rules(anyway if spec.redirect_dns else spec, family)
    return [
        *(older for rule in written for older in _older(rule, spec, family, shape)),
        *_end_of_networks(spec, family, shape),
        *_names_by_udp(spec, family, shape),
    ]


def _older(rule: Rule, spec: CaptureSpec, family: int, shape: Shape) -> Iterator[Rule]:
    drops_directly = shape in (Shape.UNTIL_1_22, Shape.OF_1_23)
    if rule.table == RAW or rule.chain == "ISTIO_OUTPUT_DNS" or (drops_directly and rule.chain == "ISTIO_DROP"):
        return
    if rule.words == "-j ISTIO_OUTPUT_DNS":
        return
    if rule.words == f"-d {_loopback(spec, family)} -j RETURN" and rule.chain == "ISTIO_OUTPUT":
        yield from _names_by_tcp(spec, family)
    if rule.words == "-j ISTIO_OUTPUT":
        yield rule._replace(words="-p tcp -j ISTIO_OUTPUT")
    elif drops_directly and rule.words.endswith("-j ISTIO_DROP"):
        yield rule._replace(words=rule.words.replace("ISTIO_DROP", "DROP"))
    elif not (rule.chain == "ISTIO_OUTPUT" and rule.words.startswith("-p udp")):
        yield rule


def _loopback(spec: CaptureSpec, family: int) -> str:
    return spec.loopback_cidr if family == 4 else "::1/128"


def _servers(spec: CaptureSpec, family: int, option: str) -> list[str]:
    return [f"{option} {server} " if server else "" for server in dns_servers(spec, family)]


def _names_by_tcp(spec: CaptureSpec, family: int) -> Iterator[Rule]:
    """Right before what goes to loopback is let out."""
    for server in _servers(spec, family, "-d") if spec.redirect_dns else ():
        yield Rule(NAT, "ISTIO_OUTPUT", f"-p tcp --dport 53 {server}-j REDIRECT --to-ports {DNS_PORT}")


def _end_of_networks(spec: CaptureSpec, family: int, shape: Shape) -> Iterator[Rule]:
    if shape is Shape.UNTIL_1_22 and spec.networks(family, spec.outbound_cidrs):
        yield Rule(NAT, "ISTIO_OUTPUT", "-j RETURN")


def _names_by_udp(spec: CaptureSpec, family: int, shape: Shape) -> Iterator[Rule]:
    if not spec.redirect_dns:
        return
    chain = "OUTPUT"
    if shape is not Shape.UNTIL_1_22:
        chain = "ISTIO_OUTPUT"
        yield Rule(NAT, "OUTPUT", "-p udp -j ISTIO_OUTPUT")
        yield Rule(RAW, "OUTPUT", "-p udp -j ISTIO_OUTPUT")
    for match in [f"-m owner {option} {number} " for option, number in owner_options(spec)] + _groups(spec):
        yield Rule(NAT, chain, f"-p udp --dport 53 {match}-j RETURN")
    for server in _servers(spec, family, "-d"):
        yield Rule(NAT, chain, f"-p udp --dport 53 {server}-j REDIRECT --to-port {DNS_PORT}")
    for option, number in owner_options(spec):
        yield Rule(RAW, chain, f"-p udp --dport 53 -m owner {option} {number} -j CT --zone 1")
        yield Rule(RAW, chain, f"-p udp --sport {DNS_PORT} -m owner {option} {number} -j CT --zone 2")
    for to, back in zip(_servers(spec, family, "-d"), _servers(spec, family, "-s"), strict=True):
        yield Rule(RAW, chain, f"-p udp --dport 53 {to}-j CT --zone 2")
        yield Rule(RAW, "PREROUTING", f"-p udp --sport 53 {back}-j CT --zone 1")


def _groups(spec: CaptureSpec) -> list[str]:
    """Whom the owner groups let ask their name server directly."""
    if spec.owner_groups == "*":
        return [f"-m owner --gid-owner {group} " for group in spec.owner_groups_exclude]
    return ["".join(f"-m owner ! --gid-owner {group} " for group in spec.owner_groups)]
