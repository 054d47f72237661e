"""Where a message may go at all: the rules for receivers' URLs and addresses (S4.6, A9).

A receiver's URL makes the controller send requests from inside the cluster, with the controller's standing in the
network. So the machine itself, link-local addresses with clouds' metadata services, and the cluster's own ranges are
refused unless the root namespace lists them. What counts is the address that is connected to: names are resolved here,
each answer is judged, and the socket for the very address judged is made only then. A name whose answer changes
between two looks gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

URL_LENGTH = 2048
PRIVATE: tuple[Network, ...] = tuple(
    ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""Taken as the cluster's ranges where nobody says what these are: on doubt, refuse."""

_METADATA: frozenset[Address] = frozenset(
    ip_address(each)
    for each in (
        "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    )
)  # fmt: skip
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ip_network("::/96")
_TUNNELS = (ip_network("2002::/16"), ip_network("2001::/32"))
_THIS_NETWORK = ip_network("0.0.0.0/8")


class Refused(PermissionError):
    """The rules forbid this; the message is a sentence that says what and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Given by the root namespace alone. `allow_networks`: what is allowed although it would be refused; a metadata
    service only by its own single address. `cluster_networks`: pods, Services, nodes. `allow_http`: host names or
    addresses that may be spoken to without TLS."""

    allow_networks: tuple[Network, ...] = ()
    cluster_networks: tuple[Network, ...] = field(default=PRIVATE)
    allow_http: frozenset[str] = frozenset()

    def check_url(self, text: str) -> URL:
        """The URL, if it may be used. Raises Refused; the URL itself is not in the message, it may hold a token."""
        try:
            url = URL(text.strip())
        except ValueError as failure:
            raise Refused("The receiver's URL cannot be read.") from failure
        if problem := self._url_problem(url, len(text)):
            raise Refused(problem)
        if (literal := parse_address(url.host or "")) is not None:
            self.check_address(literal)
        return url

    def _url_problem(self, url: URL, length: int) -> str:
        host = (url.host or "").rstrip(".").lower()
        if url.scheme not in ("http", "https") or not host or length > URL_LENGTH:
            return "The receiver's URL is not http:// or https:// with a host, or is too long."
        if url.user is not None or url.password is not None:
            return "The receiver's URL holds a user or password: use a Secret for the authorization header."
        if url.scheme == "http" and host not in self.allow_http:
            return f"The receiver's URL has no TLS, and {host} is not listed in allowHttp."
        return ""

    def check_address(self, address: Address) -> None:
        """Raises Refused."""
        inner = inner_address(address)
        if inner in _METADATA:
            if not any(net.num_addresses == 1 and inner in net for net in self.allow_networks):
                raise Refused(f"{inner} is a cloud's metadata service, and is not itself listed in allowNetworks.")
        elif (why := self._kind_of(inner)) and not any(inner in net for net in self.allow_networks):
            raise Refused(f"{inner} is {why}, and is not in a network of allowNetworks.")

    def _kind_of(self, address: Address) -> str:
        """What this address is, if that is a reason to refuse it."""
        if address.is_unspecified or address in _THIS_NETWORK:
            return "an unspecified address"
        if address.is_loopback:
            return "this machine itself"
        if address.is_link_local or (isinstance(address, IPv6Address) and address.is_site_local):
            return "link-local"
        if address.is_multicast:
            return "multicast"
        if any(address in net for net in _TUNNELS):
            return "a tunnel to another address"
        if any(address in net for net in self.cluster_networks):
            return "in the cluster's networks"
        return "reserved" if address.is_reserved else ""


def inner_address(address: Address) -> Address:
    """The address that is meant, where an IPv6 one only wraps an IPv4 one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    wraps = any(address in net for net in _NAT64) or (address in _COMPATIBLE and int(address) > 1)
    return IPv4Address(int(address) & 0xFFFFFFFF) if wraps else IPv6Address(int(address))  # without a scope


def parse_address(text: str) -> Address | None:
    """None when it is a name. A scope (`%eth0`) is dropped."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


class GuardedResolver(AbstractResolver):
    """Resolves in a thread of its own, for the default ones are shared by everybody, and a name server can be slow.
    All answers are judged; those that are refused are left out, and none left is Refused."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._thread = ThreadPoolExecutor(1, "hotswitch-alert-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._thread, _look_up, host, port, family)
        allowed, refusal = [], None
        for result in found:
            try:
                self._rules.check_address(ip_address(result["host"].partition("%")[0]))
                allowed.append(result)
            except Refused as refused:
                refusal = refused
        if refusal is not None and not allowed:
            raise refusal
        return allowed

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    numeric = int(socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    return [
        ResolveResult(hostname=host, host=str(where[0]), port=int(where[1]), family=kind, proto=proto, flags=numeric)
        for kind, _, proto, _, where in infos
    ]


def connector(rules: Rules, resolver: GuardedResolver, tls: ssl.SSLContext) -> aiohttp.TCPConnector:
    """Connections for one message; the last look is at the address of the socket that is about to connect."""

    def make_socket(info: tuple[Any, ...] | Sequence[Any]) -> socket.socket:
        family, kind, proto, _, where = info
        rules.check_address(ip_address(str(where[0]).partition("%")[0]))
        return socket.socket(family, kind, proto)

    return aiohttp.TCPConnector(
        resolver=resolver, ssl=tls, socket_factory=make_socket, use_dns_cache=False, force_close=True, limit=1
    )
