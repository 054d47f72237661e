"""The gate's writes as netlink messages, built once for each way to open a gate and filled in when needed.

Building the elements anew costs Python some 80 us more than sending them, on a path that is cold whenever it is walked.
What differs from one write to the next are the timeout and the comment, both of fixed length, so two replacements of
bytes fill them in. Layouts: include/uapi/linux/netfilter/nf_tables.h; libnftnl's udata.h for the comment.
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
_BLANK_TIMEOUT = b"\xf9" * 8  # 570 million years; and no other field of a write has such a byte
_BLANK_COMMENT = b"\xfa" * (COMMENT_BYTES + 1)

_Shape = tuple[tuple[Direction, Level, tuple[tuple[Port, Level], ...]], ...]


def write(scope: GateScope, openings: Mapping[Direction, Opening], *, expiry_s: float, comment: bytes) -> bytes:
    """All of a batch but its beginning: flush the maps, then add what shall be open."""
    shape = tuple((way, each.level, tuple(sorted(each.ports.items()))) for way, each in openings.items())
    return _filled(_steps(scope, shape), expiry_s, comment)


def divert(port: Port, *, expiry_s: float, comment: bytes) -> bytes:
    return _filled(_batch([_FLUSH_STATUS, _add(STATUS_MAP, port, CHAIN_STAND_IN)]), expiry_s, comment)


def undivert() -> bytes:
    return _batch([_FLUSH_STATUS])


def begin(generation: int | None) -> bytes:
    """The beginning of a batch that the kernel takes only while the namespace's nft generation is this one."""
    fence = b"" if generation is None else attr(1, struct.pack(">I", generation))
    return message(_BATCH_BEGIN, NLM_F_REQUEST, _nfgen(0, _RESOURCE) + fence)


def get_generation() -> bytes:
    return message(_GETGEN, NLM_F_REQUEST, _nfgen(0))


def comment_of(words: str) -> bytes:
    """As the kernel keeps it with an element, and `nft` shows it."""
    return words.encode("ascii", "replace")[:COMMENT_BYTES]


def reason_of(generation: Generation, reason: str) -> bytes:
    clean = "".join(letter if letter.isprintable() and letter not in '"\\' else " " for letter in reason)
    return comment_of(f"gen={generation} {clean}")


def _filled(batch: bytes, expiry_s: float, comment: bytes) -> bytes:
    timeout = struct.pack(">Q", max(1, round(expiry_s * 1000)))
    return batch.replace(_BLANK_TIMEOUT, timeout).replace(_BLANK_COMMENT, comment.ljust(COMMENT_BYTES + 1, b"\0"))


@lru_cache(maxsize=_SHAPES_KEPT)
def _steps(scope: GateScope, shape: _Shape) -> bytes:
    openings = {way: Opening(level, dict(ports)) for way, level, ports in shape}
    flush = [_set_message(_DELSETELEM, name) for name in maps(scope)]
    return _batch([*flush, *(_add(name, key, chain) for name, key, chain in elements(scope, openings))])


def _batch(steps: list[bytes]) -> bytes:
    """Only the last step asks for an acknowledgement: a step that fails says so unasked, and each answer costs as much
    as a step."""
    return b"".join([*steps[:-1], acknowledged(steps[-1]), _END])


def _nfgen(family: int, resource: int = 0) -> bytes:
    return struct.pack("=BBH", family, 0, socket.htons(resource))


def _set_message(kind: int, name: str, elements: bytes = b"") -> bytes:
    flags = NLM_F_REQUEST | (NLM_F_CREATE if elements else 0)
    return message(kind, flags, _nfgen(_NFPROTO_INET) + text(1, TABLE) + text(2, name) + elements)


_RESOURCE = 10  # nf_tables' subsystem number, again, as the batch's resource id
_FLUSH_STATUS = _set_message(_DELSETELEM, STATUS_MAP)
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
