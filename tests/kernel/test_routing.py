"""Policy rules, routes and addresses as the kernel tells them; a table beyond 255 and a mask are not lost."""

import pytest

from hotswitch.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from hotswitch.kernel.routing import LocalRoute, local_routes, loopback_addresses, mark_rules
from tests.namespaces import ip

pytestmark = pytest.mark.netns


def test_rules_routes_and_addresses_of_both_families(netns: str) -> None:
    ip("rule", "add", "fwmark", "1337", "lookup", "133", netns=netns)
    ip("rule", "add", "fwmark", "1337", "lookup", "133", netns=netns)
    ip("-6", "rule", "add", "fwmark", "0x10/0xff", "lookup", "70000", "pref", "9", netns=netns)
    ip("rule", "add", "from", "10.0.0.0/8", "lookup", "133", netns=netns)
    ip("route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "133", netns=netns)
    ip("-6", "route", "add", "local", "fd00::/8", "dev", "lo", "table", "70000", netns=netns)
    ip("route", "add", "blackhole", "10.0.0.0/8", "table", "133", netns=netns)
    ip("-6", "addr", "add", "::6/128", "dev", "lo", netns=netns)
    sock = NetlinkSocket(NETLINK_ROUTE, netns)
    rules = [(rule.family, rule.mark, rule.mask, rule.table) for rule in mark_rules(sock)]
    assert rules == [*[("ip", 1337, 0xFFFFFFFF, 133)] * 2, ("ip6", 0x10, 0xFF, 70000)]
    assert mark_rules(sock)[-1].priority == 9
    assert local_routes(sock) == [LocalRoute("ip", "0.0.0.0/0", 133), LocalRoute("ip6", "fd00::/8", 70000)]
    assert {f"{address}/{bits}" for address, bits in loopback_addresses(sock)} == {"127.0.0.1/8", "::1/128", "::6/128"}
    sock.close()
