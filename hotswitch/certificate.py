"""X.509 certificates: the few fields that an agent reads of them. Pure; whom to believe is for TLS to say.

A library that can read all of a certificate takes 8 MB of memory in every agent. Here it is asked when one begins and
ends, and which URIs it names (X.509-SVID), and nothing more. The bytes come from strangers: what is not as it should be
is Malformed. Sources: RFC 5280 4.1 and 4.2.1.6, X.690; compared with the library in the tests.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_OCTETS, _OBJECT_ID, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE = 0x04, 0x06, 0x17, 0x18, 0x30
_VERSION, _EXTENSIONS, _URI = 0xA0, 0xA3, 0x86
_SUBJECT_ALT_NAME = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17
_LONG_TAG, _LONG_LENGTH = 0x1F, 0x80
_LENGTH_BYTES_AT_MOST = 3
_DIGITS = {_UTC_TIME: 12, _GENERALIZED_TIME: 14}
_LAST_OF_THIS_CENTURY = 49  # RFC 5280 4.1.2.5.1
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
Fields = Iterator[tuple[int, bytes]]  # tag, content


class Malformed(ValueError):
    """No certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """`uris`: of its subject alternative names; None: it has no such names at all."""

    begins_unix_s: float
    ends_unix_s: float
    uris: tuple[str, ...] | None


def read_pem(text: bytes) -> list[Certificate]:
    """At least one. Raises Malformed."""
    found = [read_der(_from_base64(body)) for body in _PEM.findall(text)]
    if not found:
        raise Malformed("no PEM certificate")
    return found


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as failure:
        raise Malformed(f"not base64: {failure}") from None


def read_der(der: bytes) -> Certificate:
    """Raises Malformed."""
    signed = _fields(_only(der))
    fields = _fields(_sequence(signed))
    tag, _ = _take(fields)
    if tag == _VERSION:
        _take(fields)  # the serial number; else that was it
    _skip(fields, 2)  # signature algorithm, issuer
    validity = _fields(_sequence(fields))
    begins_s, ends_s = _instant(*_take(validity)), _instant(*_take(validity))
    _skip(fields, 2)  # subject, public key
    extensions = [content for tag, content in fields if tag == _EXTENSIONS]
    return Certificate(begins_s, ends_s, _uris(extensions[0]) if extensions else None)


def _uris(extensions: bytes) -> tuple[str, ...] | None:
    named = [content for content in map(_alternative_names, _sequences(_only(extensions))) if content is not None]
    if len(named) > 1:
        raise Malformed("two lists of alternative names")
    try:
        return tuple(text.decode("ascii") for tag, text in _fields(_only(named[0])) if tag == _URI) if named else None
    except UnicodeDecodeError:
        raise Malformed("a URI that is not ASCII") from None


def _alternative_names(extension: bytes) -> bytes | None:
    """What the extension holds, if it is that one."""
    fields = list(_fields(extension))
    if not fields or fields[0][0] != _OBJECT_ID or fields[-1][0] != _OCTETS:
        raise Malformed("an extension without a name or a value")
    return fields[-1][1] if fields[0][1] == _SUBJECT_ALT_NAME else None


def _instant(tag: int, content: bytes) -> float:
    """Always UTC, to the second."""
    digits = content[:-1]
    if len(digits) != _DIGITS.get(tag) or not digits.isdigit() or content[-1:] != b"Z":
        raise Malformed(f"{content!r} is no time")
    if tag == _UTC_TIME:
        digits = (b"20" if int(digits[:2]) <= _LAST_OF_THIS_CENTURY else b"19") + digits
    try:
        month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
        return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        raise Malformed(f"{content!r} is no time") from None


# ---- DER ----


def _fields(content: bytes) -> Fields:
    """Of a constructed value, one after the other. Raises Malformed."""
    at = 0
    while at < len(content):
        tag, (size, at) = content[at], _length(content, at + 1)
        if tag & _LONG_TAG == _LONG_TAG or at + size > len(content):
            raise Malformed("a field that is longer than what it is in, or of a long tag")
        yield tag, content[at : at + size]
        at += size


def _length(content: bytes, at: int) -> tuple[int, int]:
    """A field's length, and where it begins."""
    first = content[at] if at < len(content) else _LONG_LENGTH
    if first < _LONG_LENGTH:
        return first, at + 1
    count = first - _LONG_LENGTH
    written = content[at + 1 : at + 1 + count]
    if not 0 < len(written) == count <= _LENGTH_BYTES_AT_MOST:
        raise Malformed("a field without a length, or of a length that no certificate has")
    return int.from_bytes(written, "big"), at + 1 + count


def _take(fields: Fields) -> tuple[int, bytes]:
    found = next(fields, None)
    if found is None:
        raise Malformed("it ends too soon")
    return found


def _skip(fields: Fields, count: int) -> None:
    for _ in range(count):
        _take(fields)


def _sequence(fields: Fields) -> bytes:
    tag, content = _take(fields)
    if tag != _SEQUENCE:
        raise Malformed(f"tag {tag:#x} where a sequence should be")
    return content


def _sequences(content: bytes) -> Iterator[bytes]:
    for tag, each in _fields(content):
        if tag != _SEQUENCE:
            raise Malformed(f"tag {tag:#x} where a sequence should be")
        yield each


def _only(content: bytes) -> bytes:
    """Of the sequence that is all there is."""
    found = list(_sequences(content))
    if len(found) != 1:
        raise Malformed(f"{len(found)} sequences where one should be")
    return found[0]
