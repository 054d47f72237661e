"""What Istio was told to capture in one pod: every setting of `istio-iptables`, typed and checked.

A CaptureSpec is the one source of the rules (render), of the comparison with the kernel (inspect) and of the gate's
scope. It can hold settings that the gate cannot handle yet; `unsupported` says so in sentences, so that nothing is
silently wrong (S4.3a). Field names follow Istio's options where these are clear. Defaults are those of the command
itself, not of an injected pod: see facts in Istio's tools/common/config DefaultConfig.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from hotswitch.capture import fields
from hotswitch.capture.fields import SpecError
from hotswitch.model import ENVOY_INBOUND, ENVOY_OUTBOUND, TUNNEL, Port

__all__ = ["MAX_OWNER_GROUPS", "Backend", "CaptureSpec", "Cidrs", "Interception", "Ports", "SpecError"]

PROXY_ID = 1337  # uid and gid of istio-proxy in Istio's images
PASSED_MARK = 0x5A0000  # hotswitch's own: see gate_tproxy
MAX_OWNER_GROUPS = 64  # Istio: all included groups stand in one iptables rule
Ports: TypeAlias = Literal["*"] | tuple[Port, ...]
Cidrs: TypeAlias = Literal["*"] | tuple[str, ...]


class Interception(StrEnum):
    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"  # inbound only: keeps the client's address; needs mangle rules and policy routing
    NONE = "NONE"  # the pod has a proxy, but nothing is captured


class Backend(StrEnum):
    """Who wrote, or is to write, the rules."""

    IPTABLES_NFT = "iptables-nft"
    NFTABLES = "nftables"  # Istio's native nftables mode
    IPTABLES_LEGACY = "iptables-legacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSpec:
    """One pod's capture. "*" means all, an empty tuple none. Raises SpecError for what Istio or a rule would refuse.

    `ipv6` and `dns_servers_*` are not options: Istio finds them out in the namespace when it writes the rules.
    `run_options` say how the command ran and change no rule; they are kept so that it can be repeated with the same.
    """

    mode: Interception = Interception.REDIRECT
    proxy_port: Port = ENVOY_OUTBOUND
    inbound_port: Port = ENVOY_INBOUND
    tunnel_port: Port = TUNNEL
    proxy_uids: tuple[int, ...] = (PROXY_ID,)
    proxy_gids: tuple[int, ...] = ()  # empty: the same numbers as proxy_uids
    inbound_ports: Ports = ()
    inbound_exclude_ports: tuple[Port, ...] = ()  # Istio uses them only with inbound_ports "*"
    outbound_cidrs: Cidrs = ()
    outbound_exclude_cidrs: tuple[str, ...] = ()
    outbound_ports: tuple[Port, ...] = ()  # captured whatever their address
    outbound_exclude_ports: tuple[Port, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()
    kube_virt_interfaces: tuple[str, ...] = ()
    owner_groups: Literal["*"] | tuple[str, ...] = "*"
    owner_groups_exclude: tuple[str, ...] = ()  # only with owner_groups "*"
    loopback_cidr: str = "127.0.0.1/32"
    redirect_dns: bool = False
    capture_all_dns: bool = False
    dns_servers_v4: tuple[str, ...] = ()
    dns_servers_v6: tuple[str, ...] = ()
    drop_invalid: bool = False
    dual_stack: bool = False
    ipv6: bool = False
    tproxy_mark: int = 1337
    tproxy_route_table: int = 133
    native_nftables: bool = False
    force_iptables_binary: Literal["", "legacy", "nft"] = ""
    run_options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.proxy_uids:
            raise SpecError("proxy_uids", self.proxy_uids, "names no id")
        if not self.proxy_gids:
            object.__setattr__(self, "proxy_gids", self.proxy_uids)
        _check_numbers(self)
        _check_names(self)
        _check_networks(self)

    @property
    def backend(self) -> Backend:
        """The backend that the settings ask for; which iptables binary a pod really used shows only in the kernel."""
        if self.native_nftables:
            return Backend.NFTABLES
        return Backend.IPTABLES_LEGACY if self.force_iptables_binary == "legacy" else Backend.IPTABLES_NFT

    @property
    def tproxy(self) -> bool:
        return self.mode is Interception.TPROXY

    @property
    def dns_captured(self) -> bool:
        """Asked for, and there is something to capture: Istio turns it off when resolv.conf names no server."""
        return self.redirect_dns and bool(self.capture_all_dns or self.dns_servers_v4 or self.dns_servers_v6)

    @property
    def loopback_included(self) -> bool:
        """An included network is a loopback one; then Istio leaves out its rules that let local calls pass."""
        return any(_is_loopback(cidr) for cidr in self.outbound_cidrs if cidr != "*")

    def networks(self, family: int, which: Cidrs) -> tuple[str, ...]:
        """The CIDRs of `which` that belong to `family` (4 or 6)."""
        return tuple(cidr for cidr in which if cidr != "*" and (6 if ":" in cidr else 4) == family)

    @staticmethod
    def group_numbers(groups: tuple[str, ...]) -> tuple[int, ...]:
        """Of those that are numbers; a name means what it means in the image of istio-init, which nobody else knows."""
        return tuple(int(group) for group in groups if group.isdecimal())

    def unsupported(self) -> tuple[str, ...]:
        """Sentences on what hotswitch cannot open for this pod; empty when it can do all."""
        named = [group for group in self._groups if not group.isdecimal()]
        sentences = {
            "interception mode NONE captures nothing, so there is nothing to open": self.mode is Interception.NONE,
            f"owner group {named[0] if named else ''!r} is a name, whose number only the image of istio-init knows: "
            "write the number": bool(named),
            "kube-virt interfaces with interception mode TPROXY: Istio takes a guest's traffic for inbound": (
                self.tproxy and bool(self.kube_virt_interfaces)
            ),
            f"TPROXY mark {self.tproxy_mark:#x} cannot be told from no mark, or from hotswitch's own": (
                self.tproxy and self.tproxy_mark in (0, PASSED_MARK)
            ),
        }
        return tuple(sentence for sentence, applies in sentences.items() if applies)

    @property
    def _groups(self) -> tuple[str, ...]:
        return (*(() if self.owner_groups == "*" else self.owner_groups), *self.owner_groups_exclude)


def _check_numbers(spec: CaptureSpec) -> None:
    for name in ("proxy_port", "inbound_port", "tunnel_port"):
        fields.number(name, str(getattr(spec, name)), 1, 65535, "a port")
    for name in ("inbound_ports", "inbound_exclude_ports", "outbound_ports", "outbound_exclude_ports"):
        for port in () if getattr(spec, name) == "*" else getattr(spec, name):
            fields.number(name, str(port), 0, 65535, "a port")
    for name in ("proxy_uids", "proxy_gids"):
        for number in getattr(spec, name):
            fields.number(name, str(number), 0, fields.MAX_UID, "a numeric id")
    for name in ("tproxy_mark", "tproxy_route_table"):
        fields.number(name, str(getattr(spec, name)), 0, 2**32 - 1, "a 32 bit number")


def _check_names(spec: CaptureSpec) -> None:
    for name in (*spec.exclude_interfaces, *spec.kube_virt_interfaces):
        fields.interface("interfaces", name)
    included = () if spec.owner_groups == "*" else spec.owner_groups
    for name in (*included, *spec.owner_groups_exclude):
        fields.group("owner_groups", name)
    if len(included) > MAX_OWNER_GROUPS:
        raise SpecError("owner_groups", ",".join(included), f"more than {MAX_OWNER_GROUPS} groups")
    if spec.force_iptables_binary not in ("", "legacy", "nft"):
        raise SpecError("force_iptables_binary", spec.force_iptables_binary, "neither legacy nor nft")


def _check_networks(spec: CaptureSpec) -> None:
    for name in ("outbound_cidrs", "outbound_exclude_cidrs"):
        for cidr in () if name == "outbound_cidrs" and spec.outbound_cidrs == "*" else getattr(spec, name):
            fields.cidr(name, cidr)
    for version, servers in ((4, spec.dns_servers_v4), (6, spec.dns_servers_v6)):
        for server in servers:
            if fields.address("dns_servers", server).version != version:
                raise SpecError(f"dns_servers_v{version}", server, f"not an IPv{version} address")
    fields.cidr("loopback_cidr", spec.loopback_cidr)
    where, _, bits = spec.loopback_cidr.partition("/")
    if not where.startswith("127.") or int(bits) < 8:
        raise SpecError("loopback_cidr", spec.loopback_cidr, "not an IPv4 loopback network (127.0.0.0/8 or smaller)")


def _is_loopback(cidr: str) -> bool:
    address = ipaddress.ip_address(cidr.partition("/")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
