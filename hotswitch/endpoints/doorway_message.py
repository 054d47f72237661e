"""The doorway's writes as netlink messages: what `nft` would send, with an instant that is exact.

nft's own language says instants in whole seconds, and the kernel compares nanoseconds: by `nft` each permit would end
up to a second early, and nobody would answer for that second. Besides, a permit is renewed for as long as a pod is
active, and starting `nft` costs milliseconds of a CPU each time. Layouts: include/uapi/linux/netfilter/nf_tables.h;
libnftnl's udata.h for the comment.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from hotswitch.kernel.netlink import NLM_F_CREATE, NLM_F_REQUEST, acknowledged, attr, message, nest, text
from hotswitch.kernel.nf_tables import NFTABLES
from hotswitch.model import Port

TABLE, PERMITTED, IN_TIME = "hotswitch_role", "permitted", "in_time"
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWRULE, _DELRULE, _NEWSETELEM, _DELSETELEM = NFTABLES | 6, NFTABLES | 8, NFTABLES | 12, NFTABLES | 14
_NLM_F_APPEND = 0x800
_NFPROTO_INET, _RESOURCE = 1, 10
_VERDICT, _REGISTER = 0, 1  # NFT_REG_VERDICT, NFT_REG_1
_META_TIME_NS, _HTON, _LT, _ACCEPT = 30, 1, 2, 1


def permit(ports: Iterable[Port], until_unix_ns: int, for_ms: int, generation: int) -> bytes:
    """In place of any permit that stands."""
    return _batch(*_shut(), _rule(until_unix_ns, generation), _elements(ports, for_ms))


def shut() -> bytes:
    return _batch(*_shut())


def _batch(*steps: bytes) -> bytes:
    """One transaction. Only the last step asks for an acknowledgement: one that fails says so unasked."""
    mark = struct.pack("=BBH", 0, 0, socket.htons(_RESOURCE))
    begin, end = (message(kind, NLM_F_REQUEST, mark) for kind in (_BATCH_BEGIN, _BATCH_END))
    return b"".join((begin, *steps[:-1], acknowledged(steps[-1]), end))


def _step(kind: int, name: str, flags: int = 0, *more: bytes) -> bytes:
    """On the set, or the chain, of that name."""
    head = struct.pack("=BBH", _NFPROTO_INET, 0, 0)
    return message(kind, NLM_F_REQUEST | flags, b"".join((head, text(1, TABLE), text(2, name), *more)))


def _shut() -> tuple[bytes, bytes]:
    return _step(_DELSETELEM, PERMITTED), _step(_DELRULE, IN_TIME)


def _elements(ports: Iterable[Port], for_ms: int) -> bytes:
    timeout = attr(4, struct.pack(">Q", for_ms))
    each = (nest(1, timeout, nest(1, attr(1, struct.pack(">H", port)))) for port in ports)
    return _step(_NEWSETELEM, PERMITTED, NLM_F_CREATE, nest(3, *each))


def _rule(until_unix_ns: int, generation: int) -> bytes:
    """meta time < until accept comment "generation"."""
    word = str(generation).encode() + b"\0"
    expressions = nest(
        4,
        _expression("meta", _number(2, _META_TIME_NS), _number(1, _REGISTER)),
        _expression(
            "byteorder", *(_number(*each) for each in ((1, _REGISTER), (2, _REGISTER), (3, _HTON), (4, 8), (5, 8)))
        ),
        _expression("cmp", _number(1, _REGISTER), _number(2, _LT), nest(3, attr(1, struct.pack(">Q", until_unix_ns)))),
        _expression("immediate", _number(1, _VERDICT), nest(2, nest(2, _number(1, _ACCEPT)))),
    )
    comment = attr(7, bytes((0, len(word))) + word)
    return _step(_NEWRULE, IN_TIME, NLM_F_CREATE | _NLM_F_APPEND, expressions, comment)


def _expression(name: str, *data: bytes) -> bytes:
    return nest(1, text(1, name), nest(2, *data))


def _number(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">I", value))
