"""The gate's way past TPROXY, without a rule of ours in Istio's chains (S4.3, I4).

TPROXY gives a new inbound flow to Envoy's socket in mangle at -150, before any translation. But Istio's first rule
there lets pass what carries its own mark (1337: Envoy's calls to the app). So a chain at -160 decides, once for each
flow and by maps that mirror the inbound ones, and puts that mark on the packet; Istio's rules let it pass and copy the
mark to the flow; a chain at -140 takes both back, before anything is routed by them, and leaves a mark of ours instead.
At -110 the inbound gate sees only what carries that: to the app or to the rescue. A flow whose first packet slipped
between two writes is dropped there, and comes again: never does one reach the app because a map was a moment late (I2).

Only packets whose flow conntrack has not confirmed yet are looked at, as nat itself does it: established flows, and
those that wait at a hung Envoy, stay where they are. Istio's rules send the later packets of every flow, captured or
not, through its DIVERT, which only says that they are for this host. A mark that a packet has brought along is lost, as
TPROXY loses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hotswitch.capture.spec import PASSED_MARK

PASSED = PASSED_MARK
"""The mark of a packet that TPROXY has let pass, from priority -140 until its flow is settled at -110."""
OPEN, OPEN_ALL = "past", "past_all"
MAPS = (OPEN, OPEN_ALL)
CHAIN_PASS = "passes"
UNMARK = (f"meta mark {PASSED:#x} meta mark set 0",)
_BEFORE, _AFTER = -160, -140  # Istio's mangle: -150


def chains(mark: int, inbound: Iterable[str]) -> Iterator[str]:
    """`inbound`: the rules that leave alone what Istio does not capture, and go to the chain OPEN."""
    yield from (f"map {OPEN} {{", "  type inet_service : verdict", "  flags timeout", "}")
    yield from (f"map {OPEN_ALL} {{", "  type inet_proto : verdict", "  flags timeout", "}")
    yield from (f"chain {CHAIN_PASS} {{", f"  meta mark set {mark}", "}")
    yield from (f"chain {OPEN} {{", f"  tcp dport vmap @{OPEN}", f"  meta l4proto vmap @{OPEN_ALL}", "}")
    yield "chain before_tproxy {"
    yield f"  type filter hook prerouting priority {_BEFORE}; policy accept;"
    yield "  ct state != new return"
    yield "  ct status & confirmed != 0 return"
    yield '  iifname "lo" return'  # the proxy's own calls, and what Istio leaves alone
    yield f"  meta mark {mark} return"  # TPROXY lets it pass by itself
    yield "  ct mark != 0 return"  # somebody else's: it could not be put back
    yield from (f"  {line}" for line in inbound)
    yield "}"
    yield "chain after_tproxy {"
    yield f"  type filter hook prerouting priority {_AFTER}; policy accept;"
    ours = f'iifname != "lo" ct state new ct mark {mark} meta mark {mark}'
    yield f"  {ours} ct mark set 0 meta mark set {PASSED:#x}"
    yield "}"


def nat(open_inbound: str) -> Iterator[str]:
    yield f"meta mark != {PASSED:#x} return"
    yield f"jump {open_inbound}"
    yield "drop"
