"""The gate's own table, as nft reads it: always loaded, closed unless its maps have elements (S4.3, I1, I4).

Istio's rules stay as they are. The table's nat chains stand at priority -110, ahead of Istio's at -100: the first chain
that binds an address translation to a flow wins, so a no-op DNAT (`direct`) or a redirect to the rescue Envoy keeps
Istio's redirect from ever seeing it. nat chains see only the first packet of a flow: established ones stay where they
are, and a closed gate costs nothing per packet. What Istio does not capture, the gate does not touch: the chains repeat
the pod's own exclusions. The maps' elements carry a kernel timeout, so an opening ends by itself (I1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hotswitch.capture.spec import CaptureSpec
from hotswitch.model import (
    MESH_ONLY_NETWORKS,
    NEVER_OPENED,
    RESCUE_INBOUND,
    RESCUE_OUTBOUND,
    RESCUE_UID,
    Direction,
    Port,
)

TABLE = "hotswitch"
SCOPE_CHAIN = "scope_"  # an empty chain whose name says which scope the table was made for
PRIORITY = -110  # Istio: iptables nat and nft istio-proxy-nat both at -100 (dstnat)
CHAIN_DIRECT = "direct"
CHAIN_RESCUE = {Direction.INBOUND: "rescue_in", Direction.OUTBOUND: "rescue_out"}


@dataclass(frozen=True, slots=True)
class GateScope:
    """What Istio captures in this pod, hence what the gate may ever open. None means all, an empty tuple nothing."""

    proxy_uids: tuple[int, ...] = (1337,)
    proxy_gids: tuple[int, ...] = (1337,)
    inbound_ports: tuple[Port, ...] | None = None
    inbound_exclude_ports: tuple[Port, ...] = ()
    outbound_networks: tuple[str, ...] | None = None
    outbound_exclude_networks: tuple[str, ...] = ()
    outbound_ports: tuple[Port, ...] = ()  # captured whatever their network
    outbound_exclude_ports: tuple[Port, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes whenever the table's text would: a table with another digest is replaced."""
        return hashlib.sha256("\n".join(_chains(self)).encode()).hexdigest()[:12]


def scope_of(spec: CaptureSpec) -> GateScope:
    """The scope of a pod whose capture is `spec`. What the gate cannot handle yet is said by `spec.unsupported()`."""
    return GateScope(
        proxy_uids=spec.proxy_uids,
        proxy_gids=spec.proxy_gids,
        inbound_ports=None if spec.inbound_ports == "*" else tuple(spec.inbound_ports),
        inbound_exclude_ports=spec.inbound_exclude_ports,
        outbound_networks=None if "*" in spec.outbound_cidrs else tuple(spec.outbound_cidrs),
        outbound_exclude_networks=spec.outbound_exclude_cidrs,
        outbound_ports=spec.outbound_ports,
        outbound_exclude_ports=spec.outbound_exclude_ports,
        exclude_interfaces=spec.exclude_interfaces,
    )


def map_of(direction: Direction) -> str:
    """Openings of single ports."""
    return str(direction)


def map_of_all(direction: Direction) -> str:
    """The opening of every port; single ports come first."""
    return f"{direction}_all"


def script(scope: GateScope) -> str:
    """One transaction that puts a closed table in place of whatever table of ours there was (I5)."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines.append('  comment "closed unless its maps have elements; safe to delete"')
    lines.append(f"  chain {SCOPE_CHAIN}{scope.digest} {{ }}")
    lines += [f"  {line}" for line in _chains(scope)]
    return "\n".join([*lines, "}", ""])


def _chains(scope: GateScope) -> list[str]:
    lines = []
    for direction in Direction:
        lines += _block(f"map {map_of(direction)}", ["type inet_service : verdict", "flags timeout"])
        lines += _block(f"map {map_of_all(direction)}", ["type inet_proto : verdict", "flags timeout"])
    lines += _block(f"chain {CHAIN_DIRECT}", ["dnat ip to ip daddr", "dnat ip6 to ip6 daddr"])
    lines += _block(f"chain {CHAIN_RESCUE[Direction.INBOUND]}", [f"meta l4proto tcp redirect to :{RESCUE_INBOUND}"])
    lines += _block(
        f"chain {CHAIN_RESCUE[Direction.OUTBOUND]}",
        [f"meta skuid {RESCUE_UID} goto {CHAIN_DIRECT}", f"meta l4proto tcp redirect to :{RESCUE_OUTBOUND}"],
    )
    for direction in Direction:
        look = [f"tcp dport vmap @{map_of(direction)}", f"meta l4proto vmap @{map_of_all(direction)}"]
        lines += _block(f"chain open_{direction}", look)
    lines += _block("chain prerouting", [_hook("prerouting"), *_inbound(scope)])
    lines += _block("chain output", [_hook("output"), *_outbound(scope)])
    return lines


def _block(head: str, body: Iterable[str]) -> list[str]:
    return [f"{head} {{", *(f"  {line}" for line in body), "}"]


def _hook(hook: str) -> str:
    return f"type nat hook {hook} priority {PRIORITY}; policy accept;"


def _inbound(scope: GateScope) -> Iterator[str]:
    if scope.inbound_ports == ():
        return
    yield "meta l4proto != tcp return"
    if scope.exclude_interfaces:
        yield f"iifname {_set(scope.exclude_interfaces)} return"
    yield "fib daddr type != local return"  # forwarded traffic (a VM behind the pod) is not the app's
    yield f"tcp dport {_set(sorted(NEVER_OPENED))} return"
    if scope.inbound_ports is None and scope.inbound_exclude_ports:
        yield f"tcp dport {_set(sorted(set(scope.inbound_exclude_ports)))} return"
    if scope.inbound_ports is not None:
        yield f"tcp dport != {_set(sorted(set(scope.inbound_ports)))} return"
    yield f"goto open_{Direction.INBOUND}"


def _outbound(scope: GateScope) -> Iterator[str]:
    if scope.outbound_networks == () and not scope.outbound_ports:
        return
    yield "meta l4proto != tcp return"
    yield 'oifname "lo" return'  # the proxy's own way to the app, and what Istio leaves alone
    if scope.exclude_interfaces:
        yield f"oifname {_set(scope.exclude_interfaces)} return"
    if scope.outbound_exclude_ports:
        yield f"tcp dport {_set(sorted(set(scope.outbound_exclude_ports)))} return"
    yield f"meta skuid {_set(scope.proxy_uids)} return"
    yield f"meta skgid {_set(scope.proxy_gids)} return"
    yield from _networks((*MESH_ONLY_NETWORKS, *scope.outbound_exclude_networks), "return")
    if scope.outbound_networks is None:
        yield f"goto open_{Direction.OUTBOUND}"
        return
    if scope.outbound_ports:
        yield f"tcp dport {_set(sorted(set(scope.outbound_ports)))} goto open_{Direction.OUTBOUND}"
    yield from _networks(scope.outbound_networks, f"goto open_{Direction.OUTBOUND}")


def _networks(networks: tuple[str, ...], verdict: str) -> Iterator[str]:
    v4 = [network for network in networks if ":" not in network]
    v6 = [network for network in networks if ":" in network]
    yield from (f"ip daddr {network} {verdict}" for network in v4)
    yield from (f"ip6 daddr {network} {verdict}" for network in v6)


def _set(values: Iterable[int | str]) -> str:
    return "{ " + ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + " }"
