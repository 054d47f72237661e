"""From a CaptureSpec to the exact rules, and to the commands that load them in a namespace as Istio would (S4.3).

Istio's init container loads each family's block in one transaction, and makes ::6 on `lo` where the pod has IPv6: that
is where Envoy's inbound connections to the app come from (IPv4 has all of 127.0.0.0/8 there already). TPROXY also needs
marked packets to be delivered locally, by a policy rule and a route.
"""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.capture import iptables, nftables
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command

_RESTORE = {
    Backend.IPTABLES_NFT: ("iptables-nft-restore", "ip6tables-nft-restore"),
    Backend.IPTABLES_LEGACY: ("iptables-legacy-restore", "ip6tables-legacy-restore"),
}


def render(spec: CaptureSpec, backend: Backend | None = None) -> tuple[str, ...]:
    """The rules as text: for iptables the restore text of IPv4 and, with IPv6, of IPv6; for nft one transaction.
    Default backend: what the spec asks for."""
    return nftables.render(spec) if _backend(spec, backend) is Backend.NFTABLES else iptables.render(spec)


def commands(spec: CaptureSpec, backend: Backend | None = None, netns: str | None = None) -> list[Command]:
    """What to run, in order, to have these rules in the namespace at `netns`. For iptables Istio's chains must not be
    there yet; the nft transaction and the address may be repeated. Empty for mode NONE."""
    chosen = _backend(spec, backend)
    texts = render(spec, chosen)
    if chosen is Backend.NFTABLES:
        load = [Command(("nft", "-f", "-"), netns, text) for text in texts]
    else:
        tools = zip(_RESTORE[chosen], texts, strict=False)
        load = [Command((tool, "--noflush"), netns, text) for tool, text in tools]
    return [*load, *(Command(argv, netns) for argv in _routing(spec))]


def _backend(spec: CaptureSpec, backend: Backend | None) -> Backend:
    return spec.backend if backend is None else backend


def _routing(spec: CaptureSpec) -> Iterator[tuple[str, ...]]:
    if spec.mode is Interception.NONE:
        return
    if spec.ipv6:  # `replace` makes it if it is not there and leaves it alone if it is
        yield ("ip", "-6", "addr", "replace", "::6/128", "dev", "lo")
    if spec.tproxy and spec.inbound_ports:
        mark, table = str(spec.tproxy_mark), str(spec.tproxy_route_table)
        for family, everywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0")) if spec.ipv6 else (("-4", "0.0.0.0/0"),):
            yield ("ip", family, "rule", "add", "fwmark", mark, "lookup", table)
            yield ("ip", family, "route", "replace", "local", everywhere, "dev", "lo", "table", table)
