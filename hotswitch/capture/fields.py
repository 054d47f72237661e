"""How istio-iptables reads single values: ports, ids, networks, interfaces, groups, booleans.

Istio passes most of its values on to iptables as text and lets that fail; here a value is either understood or refused
with its field and text named, so that nothing which a rule could not hold ever reaches a rule (S4.3a).
Sources: Istio's tools/common/config (Split, SeparateV4V6, Validate), Go's netip.ParsePrefix and strconv.ParseBool.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, TypeAlias

from hotswitch.model import Port

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_UID = 2**32 - 2  # the kernel keeps -1 for "no id"
_NUMBER = re.compile(r"[0-9]{1,10}")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}")  # IFNAMSIZ is 16 with the final zero
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class SpecError(ValueError):
    """A capture setting that cannot be understood or that Istio itself would refuse. Names the field and the value."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(f"{field}: {value!r}: {why}")
        self.field, self.value, self.why = field, value, why


def split(text: str) -> tuple[str, ...]:
    """A comma list as Istio reads it: empty parts do not count."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def number(field: str, text: str, lowest: int, highest: int, what: str) -> int:
    if _NUMBER.fullmatch(text) and lowest <= int(text) <= highest:
        return int(text)
    raise SpecError(field, text, f"not {what} ({lowest} to {highest})")


def port(field: str, text: str) -> Port:
    """A port that something listens on."""
    return number(field, text, 1, 65535, "a port")


def ports(field: str, text: str) -> tuple[Port, ...]:
    """A list of ports as a rule matches them; port 0 is allowed there by Istio's validation."""
    return tuple(number(field, part, 0, 65535, "a port") for part in split(text))


def ports_or_all(field: str, text: str) -> Literal["*"] | tuple[Port, ...]:
    if text == "*":
        return "*"
    if text and not split(text):
        raise SpecError(field, text, "names no port")
    return ports(field, text)


def ids(field: str, text: str) -> tuple[int, ...]:
    """User or group ids; names would have to be looked up in the container's own files. Empty text: none given."""
    if text and not split(text):
        raise SpecError(field, text, "names no id")
    return tuple(number(field, part, 0, MAX_UID, "a numeric id") for part in split(text))


def mark(field: str, text: str) -> int:
    """A packet mark, decimal or 0x hexadecimal."""
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text):
        return int(text, 16)
    return number(field, text, 0, 2**32 - 1, "a packet mark")


def address(field: str, text: str) -> Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError as error:
        raise SpecError(field, text, "not an IP address") from error
    if "%" in text:
        raise SpecError(field, text, "an address with a zone cannot stand in a rule")
    return found


def address_text(found: Address) -> str:
    """As Go's netip writes it: compressed, and a mapped IPv4 address with dots."""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return f"::ffff:{mapped}" if mapped else str(found)


def cidr(field: str, text: str) -> str:
    """`address/bits` in Go's spelling. Host bits are kept: Istio writes them into its rules, the kernel drops them."""
    where, slash, bits = text.partition("/")
    if not slash:
        raise SpecError(field, text, "not a CIDR (address/bits)")
    found = address(field, where)
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits) or int(bits) > found.max_prefixlen:
        raise SpecError(field, text, f"not a CIDR (0 to {found.max_prefixlen} bits)")
    return f"{address_text(found)}/{bits}"


def cidrs(field: str, text: str) -> tuple[str, ...]:
    if "*" in text:
        raise SpecError(field, text, "a wildcard cannot be excluded")
    return tuple(cidr(field, part) for part in split(text))


def cidrs_or_all(field: str, text: str) -> Literal["*"] | tuple[str, ...]:
    return "*" if text == "*" else tuple(cidr(field, part) for part in split(text))


def interface(field: str, name: str) -> str:
    """One network interface. iptables' wildcard (eth+) is refused: nft and the gate would take it for a name."""
    if not _INTERFACE.fullmatch(name):
        raise SpecError(field, name, "not an interface name")
    return name


def interfaces(field: str, text: str) -> tuple[str, ...]:
    return tuple(interface(field, part) for part in split(text))


def group(field: str, name: str) -> str:
    if not _GROUP.fullmatch(name):
        raise SpecError(field, name, "not a group name or number")
    return name


def groups(field: str, text: str) -> tuple[str, ...]:
    return tuple(group(field, part) for part in split(text))


def boolean(text: str) -> bool | None:
    """Go's strconv.ParseBool; None where that fails."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None
