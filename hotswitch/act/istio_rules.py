"""What Istio's rules in a pod are, read by exec: the truth that actuator `exec` reads back (S4.3b, I4).

Istio's clean-up exits with 0 whatever it leaves, and its set-up may find rules "equal" that are not in effect. So
neither's exit code is believed: the saved rules are read as `capture inspect` reads them on the node.
"""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.act.order import Truth
from hotswitch.capture import nft_list
from hotswitch.capture.inspect import Look, judge
from hotswitch.capture.inspection import Inspection, State
from hotswitch.capture.nft_list import Listing
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.model import Direction, Level

NFT = ("nft", "-j", "list", "ruleset")
_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
_HOOKS = {Direction.INBOUND: "PREROUTING", Direction.OUTBOUND: "OUTPUT"}


def commands(spec: CaptureSpec) -> dict[str, tuple[str, ...]]:
    """What has to be run, by what it tells: "nft", or an address family."""
    if spec.native_nftables:
        return {"nft": NFT}
    kind = "legacy" if spec.backend is Backend.IPTABLES_LEGACY else "nft"
    return {family: (f"{_TOOLS[family]}-{kind}-save",) for family in (("ip", "ip6") if spec.ipv6 else ("ip",))}


def read(outputs: Mapping[str, str], spec: CaptureSpec) -> Inspection:
    """From what `commands` printed. Raises ValueError for what is no such text."""
    listing = nft_list.parse(outputs["nft"]) if "nft" in outputs else Listing()
    texts = {family: text for family, text in outputs.items() if family != "nft"}
    legacy = spec.backend is Backend.IPTABLES_LEGACY
    look = Look(listing, {} if legacy else texts, texts if legacy else {})
    return judge(look, None if _servers_unknown(spec) else spec)


def _servers_unknown(spec: CaptureSpec) -> bool:
    """Which name servers are captured only the pod's resolv.conf knows: the rules are judged without the settings."""
    return spec.redirect_dns and not spec.capture_all_dns and not (spec.dns_servers_v4 or spec.dns_servers_v6)


def truth(seen: Inspection) -> Truth:
    """A direction is captured as long as anything at its hook leads to Istio's chains."""
    levels = {way: Level.CAPTURE if _captured(seen, hook) else Level.DIRECT for way, hook in _HOOKS.items()}
    views = [view for view in (seen.ip, seen.ip6) if view.state not in (State.ABSENT, State.FOREIGN)]
    complete = bool(views) and all(view.state in (State.CAPTURED, State.OPEN) for view in views)
    return Truth(levels=levels, istio_rules=seen.digest, istio_complete=complete)


def _captured(seen: Inspection, hook: str) -> bool:
    chains = ((chain, rules) for of in seen.rulesets.values() for chain, rules in of.items())
    return any(chain.chain.upper() == hook and any(rule.to_istio for rule in rules) for chain, rules in chains)
