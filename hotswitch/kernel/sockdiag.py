"""Sockets of a namespace, asked of the kernel: who listens, how long their accept queues are, and ending stuck flows.

Costs about 13 us per family; no connection is made and no packet sent, so a sick proxy cannot make it slow.
Layouts: include/uapi/linux/inet_diag.h; for LISTEN sockets `idiag_rqueue` is the number of connections waiting.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from hotswitch.kernel.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkSocket, attrs, message
from hotswitch.model import AcceptQueue, Port

SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
TCP_ESTABLISHED, TCP_SYN_RECV, TCP_LISTEN = 1, 3, 10
_SENDING = (TCP_ESTABLISHED, TCP_SYN_RECV, 4, 5, 8, 9, 11)  # FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING
FAMILIES = (socket.AF_INET, socket.AF_INET6)

_SOCKOPT, _TRANSPARENT = 22, 1 << 5  # INET_DIAG_SOCKOPT, since Linux 5.10: a byte of flags, IP_TRANSPARENT among them

_REQUEST = struct.Struct("=BBBBI")
_REPLY = struct.Struct("=BBBB 2s2s16s16sI8s IIIII")


@dataclass(frozen=True, slots=True)
class Flow:
    """One connected TCP socket, as its owner sees it. `key` names exactly this socket to the kernel. `transparent`:
    it was accepted, or made, by somebody who may use addresses that are not the host's: TPROXY's proxy."""

    local: IPv4Address | IPv6Address
    local_port: Port
    peer: IPv4Address | IPv6Address
    peer_port: Port
    uid: int
    family: int
    key: bytes
    transparent: bool = False


def _dump(sock: NetlinkSocket, family: int, states: int) -> list[tuple[tuple[int | bytes, ...], bytes]]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states) + bytes(48)
    return [
        (_REPLY.unpack_from(body), body[4:])
        for body in sock.dump(message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, request))
    ]


def accept_queues(sock: NetlinkSocket) -> tuple[AcceptQueue, ...]:
    """Every LISTEN socket of the namespace; `stuck_s` is left 0, it takes two looks to know."""
    found = []
    for family in FAMILIES:
        for fields, _ in _dump(sock, family, 1 << TCP_LISTEN):
            port, waiting, inode = fields[4], fields[11], fields[14]
            assert isinstance(port, bytes) and isinstance(waiting, int) and isinstance(inode, int)
            ipv6 = family == socket.AF_INET6
            found.append(AcceptQueue(port=int.from_bytes(port, "big"), inode=inode, waiting=waiting, ipv6=ipv6))
    return tuple(found)


def established(sock: NetlinkSocket) -> list[Flow]:
    """Every established TCP socket of the namespace. LISTEN sockets are never among them: destroying one of those
    leaves half a proxy (measured)."""
    return _flows(sock, 1 << TCP_ESTABLISHED)


def unfinished(sock: NetlinkSocket) -> list[Flow]:
    """Besides, those that one side has closed: what waits in them is still sent, and sent again, for minutes."""
    return _flows(sock, sum(1 << each for each in _SENDING))


def _flows(sock: NetlinkSocket, states: int) -> list[Flow]:
    return [_flow(fields, rest) for family in FAMILIES for fields, rest in _dump(sock, family, states)]


def _flow(fields: tuple[int | bytes, ...], rest: bytes) -> Flow:
    family, uid = fields[0], fields[13]
    sport, dport, src, dst = (field for field in fields[4:8] if isinstance(field, bytes))
    assert isinstance(family, int) and isinstance(uid, int)
    return Flow(
        local=_address(family, src),
        local_port=int.from_bytes(sport, "big"),
        peer=_address(family, dst),
        peer_port=int.from_bytes(dport, "big"),
        uid=uid,
        family=family,
        key=rest[:48],
        transparent=any(kind == _SOCKOPT and value[0] & _TRANSPARENT for kind, value in attrs(rest[_REPLY.size - 4 :])),
    )


def _address(family: int, raw: bytes) -> IPv4Address | IPv6Address:
    if family == socket.AF_INET:
        return IPv4Address(raw[:4])
    address = IPv6Address(raw)
    return address.ipv4_mapped or address


def destroy(sock: NetlinkSocket, flow: Flow) -> bool:
    """End one flow with a reset to its peer; False when it was gone already. Raises OSError without CAP_NET_ADMIN or
    a kernel built without INET_DIAG_DESTROY."""
    request = _REQUEST.pack(flow.family, socket.IPPROTO_TCP, 0, 0, 1 << TCP_ESTABLISHED) + flow.key
    try:
        sock.transact(message(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, request), acks=1)
    except FileNotFoundError:
        return False
    return True
