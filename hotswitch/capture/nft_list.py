"""What `nft -j list ruleset` prints, and what Istio's native mode writes, in the canonical form of `ruleset`.

A rule becomes phrases, one per condition or statement, in nft's own words; unknown expressions stay as JSON, so that
any rule can be compared and shown (I4). Conditions that nft leaves out because another one implies them are left out.
Source: libnftables-json(5).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hotswitch.capture import nftables
from hotswitch.capture.iptables_save import owner_id
from hotswitch.capture.ruleset import ChainId, Rule, Ruleset, target_name
from hotswitch.capture.spec import CaptureSpec, Interception

NAT_STATEMENTS = frozenset({"dnat", "snat", "redirect", "masquerade", "tproxy"})
_VERDICTS = ("accept", "drop", "continue", "return")
_ACTIONS = (*_VERDICTS, "jump", "goto", "redirect", "tproxy", "dnat", "snat", "masquerade")
_SETTERS = ("meta mark set", "ct mark set", "ct zone set")


@dataclass(slots=True)
class Listing:
    """`nat`: every rule that translates addresses. `timed`: elements with a timeout, by (family, table)."""

    tables: set[tuple[str, str]] = field(default_factory=set)
    dormant: set[tuple[str, str]] = field(default_factory=set)
    chains: dict[ChainId, list[Rule]] = field(default_factory=dict)
    nat: list[tuple[ChainId, str]] = field(default_factory=list)
    timed: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def in_tables(self, family: str, prefix: str) -> Ruleset:
        here = (chain for chain in self.chains if chain.family == family and chain.table.startswith(prefix))
        return {chain: tuple(self.chains[chain]) for chain in here}


def parse(text: str) -> Listing:
    """The JSON of the whole ruleset. Raises ValueError if it is not JSON."""
    listing = Listing()
    for item in json.loads(text)["nftables"]:
        for kind, value in item.items():
            if kind == "table":
                _add_table(listing, value)
            elif kind == "chain":
                listing.chains.setdefault(ChainId(value["family"], value["table"], value["name"]), [])
            elif kind == "rule":
                _add_rule(listing, value)
            elif kind in ("set", "map"):
                _add_elements(listing, value)
    return listing


def _add_table(listing: Listing, table: Mapping[str, Any]) -> None:
    """nft 1.0.6 prints the table's own name where the flag's should be."""
    key = (table["family"], table["name"])
    listing.tables.add(key)
    flags = table.get("flags", ())
    if "dormant" in flags or flags == table["name"]:
        listing.dormant.add(key)


def _add_rule(listing: Listing, rule: Mapping[str, Any]) -> None:
    chain = ChainId(rule["family"], rule["table"], rule["chain"])
    expressions = rule.get("expr", ())
    said = phrases(expressions)
    listing.chains.setdefault(chain, []).append(canonical(said))
    if any(name in NAT_STATEMENTS for expression in expressions for name in expression):
        listing.nat.append((chain, " ".join(said)))


def _add_elements(listing: Listing, holder: Mapping[str, Any]) -> None:
    into = listing.timed.setdefault((holder["family"], holder["table"]), [])
    for element in holder.get("elem", ()):
        key = element[0] if isinstance(element, list) else element
        what = key.get("elem") if isinstance(key, dict) else None
        if isinstance(what, dict) and "timeout" in what:
            into.append(f"{holder['name']} {_value(what.get('val'))}")


def expected(spec: CaptureSpec) -> Ruleset:
    """What the kernel has after Istio's transaction."""
    chains: dict[ChainId, list[Rule]] = {}
    for rule in () if spec.mode is Interception.NONE else nftables.rules(spec):
        chain = chains.setdefault(ChainId("inet", rule.table, rule.chain), [])
        place = len(chain) if rule.at is None else min(rule.at, len(chain))
        chain.insert(place, canonical(rule.phrases))
    return {chain: tuple(rules) for chain, rules in chains.items()}


def canonical(said: Iterable[str]) -> Rule:
    texts = [_evened(phrase) for phrase in said if phrase != "counter"]
    actions = [text for text in texts if text.startswith(_SETTERS) or text.split()[0] in _ACTIONS]
    conditions = sorted(text for text in texts if text not in actions)
    conditions = [text for text in conditions if not _implied(text, conditions)]
    last = actions[-1].split() if actions else [""]
    goes = last[1] if last[0] in ("jump", "goto") else last[0]
    return Rule(" ".join([*conditions, *actions]), target_name(goes), set(conditions) <= {"meta l4proto tcp"})


def _implied(text: str, conditions: Iterable[str]) -> bool:
    words = text.split()
    if words[:2] == ["meta", "l4proto"]:
        return any(other.startswith(f"{words[-1]} ") for other in conditions)
    if words[:2] == ["meta", "nfproto"]:
        return any(other.startswith("ip " if words[-1] == "ipv4" else "ip6 ") for other in conditions)
    return False


def _evened(phrase: str) -> str:
    """One phrase as Istio writes it, in the words that the listing below uses."""
    words = phrase.split()
    if words[0] == "meta" and words[1] in ("skuid", "skgid"):
        words = words[1:]
    if words[0] in ("skuid", "skgid"):
        words[-1] = owner_id(words[-1], of_group=words[0] == "skgid")
    if words[0] in ("ip", "ip6") and "/" in words[-1]:
        words[-1] = _network(words[-1])
    if words[:2] == ["ct", "state"]:
        words[-1] = ",".join(sorted(words[-1].split(",")))
    if words[:3] == ["ct", "mark", "set"] and words[3] == "mark":
        words.insert(3, "meta")
    return " ".join(words)


def _network(text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def phrases(expressions: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(_phrase(name, value) for expression in expressions for name, value in expression.items())


def _phrase(name: str, value: Any) -> str:
    if name == "match":
        operator = "" if value["op"] in ("==", "in") else f"{value['op']} "
        return f"{_value(value['left'])} {operator}{_value(value['right'])}"
    if name == "counter" or value is None:
        return name
    if name in ("jump", "goto"):
        return f"{name} {value['target']}"
    if name == "mangle":
        key = _value(value["key"])
        return f"{'meta mark' if key == 'mark' else key} set {_value(value['value'], written=True)}"
    if name in NAT_STATEMENTS:
        return _nat(name, value)
    return f"{name} {_json(value)}"


def _nat(name: str, value: Mapping[str, Any]) -> str:
    address = _value(value["addr"]) if "addr" in value else ""
    port = f":{_value(value['port'])}" if "port" in value else ""
    to = f" to {address}{port}" if address or port else ""
    return f"{name}{' ' + value['family'] if 'family' in value else ''}{to}"


def _value(value: Any, *, written: bool = False) -> str:
    """`written`: on the right of `set`, where nft wants `meta mark` in full."""
    match value:
        case {"meta": {"key": str(key)}}:
            return key if key in ("iifname", "oifname", "skuid", "skgid", "mark") and not written else f"meta {key}"
        case {"payload": {"protocol": str(protocol), "field": str(name)}}:
            return f"{protocol} {name}"
        case {"ct": {"key": str(key), **rest}} if not rest:
            return f"ct {key}"
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return _network(f"{address}/{length}")
        case {"set": list(items)}:
            return "{ " + ", ".join(sorted((_value(item) for item in items), key=_numeric)) + " }"
        case {"range": [low, high]}:
            return f"{_value(low)}-{_value(high)}"
        case {"concat": list(items)}:
            return " . ".join(_value(item) for item in items)
        case list(items):
            return ",".join(sorted(_value(item) for item in items))
        case str() | int():
            return _address(str(value))
    return _json(value)


def _address(text: str) -> str:
    """nft writes some IPv6 addresses with dots."""
    try:
        return str(ipaddress.ip_address(text)) if ":" in text else text
    except ValueError:
        return text


def _numeric(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (1 << 32, text)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
