"""Policy rules, routes and addresses of a namespace, asked of the kernel; nothing is changed (S4.3b).

Costs some 10 us per question and family. Layouts: include/uapi/linux/rtnetlink.h, fib_rules.h, if_addr.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from hotswitch.kernel.netlink import NLM_F_DUMP, NLM_F_REQUEST, NetlinkSocket, attrs, message

RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE = 22, 26, 34
FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
TABLE_LOCAL, TABLE_MAIN, TABLE_DEFAULT = 255, 254, 253
ALL_BITS = 0xFFFFFFFF
LOOPBACK_INDEX = 1  # `lo` is the first link of every namespace
_RTN_LOCAL = 2
_FRA_PRIORITY, _FRA_MARK, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_MASK, _FRA_PROTOCOL = 6, 10, 14, 15, 16, 21
_OF_ANY_RULE = {_FRA_PRIORITY, _FRA_MARK, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_MASK, _FRA_PROTOCOL}
_FR_ACT_TO_TBL, _FIB_RULE_PERMANENT = 1, 1
_RTA_DST, _RTA_OIF, _RTA_TABLE = 1, 4, 15
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol (rule: res1), scope, type, flags
_IFADDR = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True, order=True)
class MarkRule:
    """`ip rule fwmark MARK/MASK lookup TABLE`; the same may be there several times. `family`: ip or ip6."""

    family: str
    mark: int
    mask: int
    table: int
    priority: int
    alone: bool = True  # it asks for nothing but the mark


@dataclass(frozen=True, slots=True, order=True)
class LocalRoute:
    """`ip route local TO dev lo table TABLE`."""

    family: str
    to: str  # 0.0.0.0/0
    table: int


def mark_rules(sock: NetlinkSocket) -> list[MarkRule]:
    """Every policy rule that looks at the packet's mark. `sock`: NETLINK_ROUTE, made in the namespace."""
    found = []
    for family, header, attributes in _dump(sock, RTM_GETRULE):
        if _FRA_MARK in attributes:
            mask = _number(attributes, _FRA_MASK, ALL_BITS)
            table = _number(attributes, _FRA_TABLE, header[4])
            mark, priority = _number(attributes, _FRA_MARK, 0), _number(attributes, _FRA_PRIORITY, 0)
            found.append(MarkRule(family, mark, mask, table, priority, _alone(header, attributes)))
    return found


def _alone(header: tuple[int, ...], attributes: dict[int, bytes]) -> bool:
    _, dst_bits, src_bits, tos, _, _, _, action, flags = header
    no_prefix_limit = _number(attributes, _FRA_SUPPRESS_PREFIXLEN, ALL_BITS) == ALL_BITS
    return (dst_bits, src_bits, tos, action, flags & ~_FIB_RULE_PERMANENT) == (0, 0, 0, _FR_ACT_TO_TBL, 0) and (
        no_prefix_limit and set(attributes) <= _OF_ANY_RULE
    )


def lookups_without_mark(sock: NetlinkSocket) -> set[tuple[str, int]]:
    """(family, table) of every policy rule that does not look at the mark."""
    return {
        (family, _number(attributes, _FRA_TABLE, header[4]))
        for family, header, attributes in _dump(sock, RTM_GETRULE)
        if _FRA_MARK not in attributes
    }


def local_routes(sock: NetlinkSocket) -> list[LocalRoute]:
    """Routes that deliver locally by `lo` whatever the address, outside the tables that every namespace has."""
    found = []
    for family, header, attributes in _dump(sock, RTM_GETROUTE):
        table = _number(attributes, _RTA_TABLE, header[4])
        usual = table in (TABLE_LOCAL, TABLE_MAIN, TABLE_DEFAULT)
        if header[7] == _RTN_LOCAL and not usual and _number(attributes, _RTA_OIF, 0) == LOOPBACK_INDEX:
            everywhere = "0.0.0.0" if family == "ip" else "::"
            to = str(ip_address(attributes[_RTA_DST])) if _RTA_DST in attributes else everywhere
            found.append(LocalRoute(family, f"{to}/{header[1]}", table))
    return found


def loopback_addresses(sock: NetlinkSocket) -> list[tuple[IPv4Address | IPv6Address, int]]:
    """(address, prefix length) of each address of `lo`."""
    return [(address, bits) for index, address, bits in _addresses(sock) if index == LOOPBACK_INDEX]


def own_addresses(sock: NetlinkSocket) -> frozenset[IPv4Address | IPv6Address]:
    """Those by which others reach the namespace: all but loopback's."""
    return frozenset(address for index, address, _ in _addresses(sock) if index != LOOPBACK_INDEX)


def _addresses(sock: NetlinkSocket) -> Iterator[tuple[int, IPv4Address | IPv6Address, int]]:
    for family in FAMILIES.values():
        request = message(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, _IFADDR.pack(family, 0, 0, 0, 0))
        for body in _bodies(sock, request):
            of, bits, _, _, index = _IFADDR.unpack_from(body)
            attributes = dict(attrs(body[_IFADDR.size :]))
            raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
            if of == family and raw is not None:
                yield index, ip_address(raw), bits


def _dump(sock: NetlinkSocket, kind: int) -> Iterator[tuple[str, tuple[int, ...], dict[int, bytes]]]:
    for name, family in FAMILIES.items():
        request = message(kind, NLM_F_REQUEST | NLM_F_DUMP, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        for body in _bodies(sock, request):
            header = _RTMSG.unpack_from(body)
            if header[0] == family:  # a kernel without IPv6 answers for every family it has
                yield name, header, dict(attrs(body[_RTMSG.size :]))


def _bodies(sock: NetlinkSocket, request: bytes) -> list[bytes]:
    """A kernel without IPv6, or without policy routing, says that it does not know the question."""
    try:
        return sock.dump(request)
    except OSError as failure:
        if failure.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return []
        raise


def _number(attributes: dict[int, bytes], kind: int, default: int) -> int:
    return int(_U32.unpack_from(attributes[kind])[0]) if kind in attributes else default
