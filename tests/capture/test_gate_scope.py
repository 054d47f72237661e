"""What Istio leaves alone by its rarer settings, the gate leaves alone; what it captures by them, the gate opens.

Each setting on every backend: closed the proxy answers whom Istio captures, open somebody else does, and those whom
Istio leaves alone are served in both (S4.3a).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel.command import Command, run
from hotswitch.model import Direction, Generation, Level, Opening
from tests.capture.captured import ELSEWHERE, OUT_DIRECT, OUT_RESCUE, Captured, captured, serving, tproxy, usual
from tests.namespaces import CLIENT_V4, POD_V4, Pair, ip, namespace

pytestmark = pytest.mark.netns

every_backend = pytest.mark.parametrize("backend", Backend)
every_mode = pytest.mark.parametrize("made", [usual, tproxy], ids=["REDIRECT", "TPROXY"])
OPEN = {way: Opening(Level.RESCUE) for way in Direction}
CAPTURED, FREE = ["proxy", "rescue", "proxy"], ["outside"] * 3


def _as(pod: Captured, uid: int, gid: int) -> list[str]:
    """Who answers a process of that user: closed, open, closed again."""
    found = []
    for openings in ({}, OPEN, {}):
        pod.open(openings)
        found.append(pod.call_out("v4", uid=uid, gid=gid).who)
        assert pod.call_out("v6", uid=uid, gid=gid).who == found[-1]
    return found


@every_backend
@pytest.mark.parametrize(
    ("settings", "free"),
    [
        ({"owner_groups": ("202", "203")}, {204: True, 202: False, 203: False}),
        ({"owner_groups_exclude": ("202", "0")}, {204: False, 202: True, 0: True}),
    ],
    ids=["include", "exclude"],
)
def test_owner_groups(pair: Pair, backend: Backend, settings: dict[str, Any], free: dict[int, bool]) -> None:
    with captured(pair, usual(**settings), backend) as pod:
        for gid, is_free in free.items():
            assert _as(pod, 1000, gid) == (FREE if is_free else CAPTURED), gid


@every_mode
@every_backend
def test_the_proxy_has_ids_of_its_own(pair: Pair, made: Any, backend: Backend) -> None:
    """OpenShift: a range for each namespace. 1337 is nobody then."""
    with captured(pair, made(proxy_uids=(1000650001,), proxy_gids=(1000650002,)), backend) as pod:
        assert _as(pod, 1000650001, 1) == FREE
        assert _as(pod, 1, 1000650002) == FREE
        assert _as(pod, 1337, 1337) == CAPTURED


@every_mode
@every_backend
def test_invalid_packets_are_dropped(pair: Pair, made: Any, backend: Backend) -> None:
    """INVALID_DROP stands ahead of everything else in mangle, and neither sees nor hinders a switch."""
    with captured(pair, made(drop_invalid=True), backend) as pod:
        kept = [pod.call_in("v4"), pod.call_in("v6")]
        for level, reached in ((Level.RESCUE, "rescue"), (Level.DIRECT, "app")):
            pod.open({Direction.INBOUND: Opening(level)})
            kept += [pod.call_in("v4"), pod.call_in("v6")]
            assert [talk.who for talk in kept[-2:]] == [reached] * 2
        pod.open({})
        assert all(talk.echoes() for talk in kept)
        assert pod.istio_rules() == pod.rules


@every_backend
def test_loopback_is_captured_too(pair: Pair, backend: Backend) -> None:
    """An included network on loopback: Istio takes the app's local calls to it, all but those to its own loopback."""
    spec = usual(outbound_cidrs=("127.0.0.0/8",), loopback_cidr="127.0.0.1/32")
    with captured(pair, spec, backend) as pod:
        pod.serve(9200, "local")
        for openings, who in (({}, "proxy"), (OUT_RESCUE, "rescue"), (OUT_DIRECT, "local"), ({}, "proxy")):
            pod.open(openings)
            assert pod.call_within("127.1.2.3", 9200).who == who
            assert pod.call_within("127.0.0.1", 9200).who == "local"
            assert pod.call_within("127.1.2.3", 9200, source="127.0.0.6").who == "local", "Envoy's way to the app"
            assert pod.call_out("v4").who == "outside"


@every_mode
@every_backend
def test_an_excluded_interface(pair: Pair, made: Any, backend: Backend) -> None:
    with captured(pair, made(exclude_interfaces=("eth0",)), backend) as pod:
        for openings in ({}, OPEN):
            pod.open(openings)
            assert (pod.call_in("v4").who, pod.call_out("v4").who) == ("app", "outside")


GUEST, GATEWAY = "10.96.7.2", "10.96.7.1"


@contextmanager
def _guest(pair: Pair) -> Iterator[str]:
    """A virtual machine behind the pod: its namespace, with a link `vm0` in the pod, routed and not translated."""
    with namespace() as guest:
        name = guest.rpartition("/")[2]
        ip("link", "add", "vm0", "type", "veth", "peer", "name", "eth0", "netns", name, netns=pair.pod)
        for where, link, address in ((pair.pod, "vm0", GATEWAY), (guest, "eth0", GUEST)):
            ip("addr", "add", f"{address}/24", "dev", link, netns=where)
            ip("link", "set", link, "up", netns=where)
        ip("route", "add", "default", "via", GATEWAY, netns=guest)
        ip("route", "add", f"{GUEST}/32", "via", POD_V4, netns=pair.client)
        run(Command(("sysctl", "-qw", "net.ipv4.ip_forward=1"), pair.pod), check=True)
        yield guest


@every_backend
@pytest.mark.parametrize("networks", ["*", ("10.97.0.0/16",)], ids=["all", "some"])
def test_a_guests_traffic_is_outbound_traffic(pair: Pair, backend: Backend, networks: Any) -> None:
    """kube-virt interfaces: seen in prerouting, led to 15001; no port is excluded there, and none is inbound."""
    spec = usual(kube_virt_interfaces=("vm0",), outbound_cidrs=networks, outbound_exclude_ports=(ELSEWHERE,))
    with _guest(pair) as guest, captured(pair, spec, backend) as pod:
        for openings, who in (
            ({}, "proxy"),
            ({Direction.INBOUND: Opening(Level.DIRECT)}, "proxy"),
            (OUT_RESCUE, "rescue"),
            (OUT_DIRECT, "outside"),
            ({}, "proxy"),
        ):
            pod.open(openings)
            assert pod.call_from(guest, CLIENT_V4, ELSEWHERE).who == who
        with serving(pair.client, ELSEWHERE + 1, "outside"):
            pod.open({Direction.OUTBOUND: Opening(Level.HOLD, {ELSEWHERE + 1: Level.DIRECT})})
            assert pod.call_from(guest, CLIENT_V4, ELSEWHERE + 1).who == "outside"


@every_mode
@every_backend
def test_ipv6_that_istio_does_not_know_of(pair: Pair, made: Any, backend: Backend) -> None:
    """The pod's first address was IPv4, and dual stack is off: iptables has no rules for IPv6. nft's hold for both,
    where they name no address; those of TPROXY do."""
    native = backend is Backend.NFTABLES
    spec = made(ipv6=False, native_nftables=native)
    inbound = native and not spec.tproxy
    with captured(pair, spec, backend) as pod:
        for openings, who in (({}, "proxy"), (OPEN, "rescue"), ({}, "proxy")):
            pod.open(openings)
            assert (pod.call_in("v4").who, pod.call_out("v4").who) == (who, who)
            assert pod.call_in("v6").who == (who if inbound else "app")
            assert pod.call_out("v6").who == (who if native else "outside")


def test_ipv6_networks_that_istio_leaves_out(pair: Pair) -> None:
    """Found by drawn settings: nft's rules hold for IPv6, but its networks are not among them."""
    spec = usual(ipv6=False, native_nftables=True, outbound_cidrs=("10.97.0.0/24", "fd97::/64"))
    with captured(pair, spec, Backend.NFTABLES) as pod:
        pod.open(OPEN)
        assert (pod.call_out("v4").who, pod.call_out("v6").who) == ("rescue", "outside")


def test_mesh_only_addresses_stay_with_the_proxy(pair: Pair) -> None:
    """Opened, a quick refusal would become a long wait."""
    with captured(pair, usual(), Backend.IPTABLES_NFT) as pod:
        ip("route", "add", "240.240.0.0/16", "via", CLIENT_V4, netns=pair.pod)
        pod.gate.trust()
        pod.gate.write(OUT_DIRECT, expiry_s=60, generation=Generation(1), reason="test")
        assert pod.call_within("240.240.0.9", 80).who == "proxy"


def test_owner_groups_by_name_are_refused() -> None:
    (sentence,) = CaptureSpec(owner_groups_exclude=("ftp",)).unsupported()
    assert sentence == (
        "owner group 'ftp' is a name, whose number only the image of istio-init knows: write the number"
    )
