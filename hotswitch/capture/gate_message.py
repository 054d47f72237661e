"""The gate's writes as netlink messages, built once for each way to open a gate and filled in when needed.

Building the elements anew costs Python some 80 us more than sending them, on a path that is cold whenever it is walked.
What differs from one write to the next are the fence, the timeout and the comment, all of fixed length: places in a
template, which one formatting of bytes fills in. Layouts: include/uapi/linux/netfilter/nf_tables.h; libnftnl's udata.h
for the comment.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from functools import cache, lru_cache

from hotswitch.capture.gate_elements import elements
from hotswitch.capture.gate_table import CHAIN_STAND_IN, STATUS_MAP, TABLE, GateScope, maps
from hotswitch.kernel.netlink import NLM_F_CREATE, NLM_F_REQUEST, acknowledged, attr, message, nest, text
from hotswitch.model import Direction, Generation, Level, Opening, Port

_NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWSETELEM, _DELSETELEM, _GETGEN = _NFTABLES | 12, _NFTABLES | 14, _NFTABLES | 16
_NFPROTO_INET = 1
_GOTO, _RETURN = -4, -5
_UDATA_COMMENT = 0  # libnftnl: NFTNL_UDATA_SET_ELEM_COMMENT
COMMENT_BYTES = 120  # the kernel stores up to 256 bytes of user data; a comment stays readable below this
_SHAPES_KEPT = 256  # about 1 kB each
_REASONS_KEPT = 256
_BLANK_TIMEOUT = b"\xf9" * 8  # 570 million years; and no other field of a write has such a byte
_BLANK_COMMENT = b"\xfa" * (COMMENT_BYTES + 1)
_TIMEOUT, _FENCE = struct.Struct(">Q"), struct.Struct(">I")

Shape = tuple[tuple[Direction, Level, tuple[tuple[Port, Level], ...]], ...]
Template = bytes
"""A whole batch, but for what `filled` puts in."""


def shape_of(openings: Mapping[Direction, Opening]) -> Shape:
    """What two openings of the gate must have in common to share a template."""
    return tuple([(way, each.level, tuple(sorted(each.ports.items()))) for way, each in openings.items()])


@lru_cache(maxsize=_SHAPES_KEPT)
def template(scope: GateScope, shape: Shape) -> Template:
    """Flush the maps, then add what shall be open."""
    openings = {way: Opening(level, dict(ports)) for way, level, ports in shape}
    flush = [_set_message(_DELSETELEM, name) for name in maps(scope)]
    return _template([*flush, *(_add(name, key, chain) for name, key, chain in elements(scope, openings))])


@cache
def diversion(port: Port | None) -> Template:
    """Lead new flows to `port` to the stand-in; None: no longer."""
    return _template([_FLUSH_STATUS] if port is None else [_FLUSH_STATUS, _add(STATUS_MAP, port, CHAIN_STAND_IN)])


def filled(of: Template, *, generation: int | None, expiry_s: float = 0.0, comment: bytes = b"") -> bytes:
    """The batch as it is sent. The kernel takes it only while the namespace's nft generation is `generation`."""
    begin = _BEGIN if generation is None else _BEGIN_FENCED % _FENCE.pack(generation)
    return of % {
        b"begin": begin,
        b"timeout": _TIMEOUT.pack(max(1, round(expiry_s * 1000))),
        b"comment": comment.ljust(COMMENT_BYTES + 1, b"\0"),
    }


def get_generation() -> bytes:
    return message(_GETGEN, NLM_F_REQUEST, _nfgen(0))


def comment_of(words: str) -> bytes:
    """As the kernel keeps it with an element, and `nft` shows it."""
    return words.encode("ascii", "replace")[:COMMENT_BYTES]


def reason_of(generation: Generation, reason: str) -> bytes:
    return (b"gen=%d %b" % (generation, _printable(reason)))[:COMMENT_BYTES]


@lru_cache(maxsize=_REASONS_KEPT)
def _printable(reason: str) -> bytes:
    return comment_of("".join(letter if letter.isprintable() and letter not in '"\\' else " " for letter in reason))


def _template(steps: list[bytes]) -> Template:
    """Only the last step asks for an acknowledgement: a step that fails says so unasked, and each answer costs as much
    as a step."""
    blank = b"".join([*steps[:-1], acknowledged(steps[-1]), _END]).replace(b"%", b"%%")
    return b"%(begin)b" + blank.replace(_BLANK_TIMEOUT, b"%(timeout)b").replace(_BLANK_COMMENT, b"%(comment)b")


def _nfgen(family: int, resource: int = 0) -> bytes:
    return struct.pack("=BBH", family, 0, socket.htons(resource))


def _set_message(kind: int, name: str, elements: bytes = b"") -> bytes:
    flags = NLM_F_REQUEST | (NLM_F_CREATE if elements else 0)
    return message(kind, flags, _nfgen(_NFPROTO_INET) + text(1, TABLE) + text(2, name) + elements)


_RESOURCE = 10  # nf_tables' subsystem number, again, as the batch's resource id
_FLUSH_STATUS = _set_message(_DELSETELEM, STATUS_MAP)
_BEGIN = message(_BATCH_BEGIN, NLM_F_REQUEST, _nfgen(0, _RESOURCE))
_BEGIN_FENCED = message(_BATCH_BEGIN, NLM_F_REQUEST, _nfgen(0, _RESOURCE) + attr(1, b"%b  ")).replace(b"%b  ", b"%b")
_END = message(_BATCH_END, NLM_F_REQUEST, _nfgen(0, _RESOURCE))
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_COMMENT = bytes([_UDATA_COMMENT, len(_BLANK_COMMENT)]) + _BLANK_COMMENT


def _add(name: str, key: Port | str, chain: str) -> bytes:
    tail = attr(4, _BLANK_TIMEOUT) + attr(6, _COMMENT)
    return _set_message(_NEWSETELEM, name, nest(3, nest(1, _key(key), _verdict(chain), tail)))


def _key(key: Port | str) -> bytes:
    return nest(1, attr(1, bytes([_PROTOCOLS[key]]) if isinstance(key, str) else struct.pack(">H", key)))


@cache
def _verdict(chain: str) -> bytes:
    if not chain:
        return nest(2, nest(2, attr(1, struct.pack(">i", _RETURN))))
    return nest(2, nest(2, attr(1, struct.pack(">i", _GOTO)), text(2, chain)))
