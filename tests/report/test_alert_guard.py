"""Receivers cannot make hotswitch a deputy: where a message may go, by URL, address, and what a name says now (A9)."""

import asyncio
import socket
from ipaddress import ip_address, ip_network

import pytest

from hotswitch.report.alerts import guard
from hotswitch.report.alerts.guard import Refused, Rules, inner_address
from hotswitch.report.alerts.receiver import Kind, Receiver, SecretRef, origin_problem
from tests.report.receiving import LOOPBACK, Server, dispatching, notice, receiver, until

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.1.1", "fe80::1",
        "fe80::1%lo", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "10.96.0.1", "172.20.0.1", "192.168.1.1",
        "100.64.0.1", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fc00::1", "fec0::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1",
        "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_address_of_the_machine_the_cluster_or_a_metadata_service(address: str) -> None:
    with pytest.raises(Refused):
        Rules().check_address(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_address_of_somebody_outside(address: str) -> None:
    Rules().check_address(ip_address(address))


def test_what_is_listed_is_allowed_and_nothing_beside_it() -> None:
    rules = Rules(allow_networks=(ip_network("10.96.7.0/24"), ip_network("127.0.0.1/32")))
    for allowed in ("10.96.7.9", "127.0.0.1", "::ffff:10.96.7.9"):
        rules.check_address(ip_address(allowed))
    for other in ("10.96.8.9", "127.0.0.2", "::1"):
        with pytest.raises(Refused, match="not in a network of allowNetworks"):
            rules.check_address(ip_address(other))


def test_metadata_is_not_listed_by_the_way() -> None:
    wide = Rules(allow_networks=(ip_network("169.254.0.0/16"), ip_network("::/0"), ip_network("0.0.0.0/0")))
    with pytest.raises(Refused, match="metadata"):
        wide.check_address(ip_address("169.254.169.254"))
    with pytest.raises(Refused, match="metadata"):
        wide.check_address(ip_address("::ffff:169.254.169.254"))
    Rules(allow_networks=(ip_network("169.254.169.254/32"),)).check_address(ip_address("169.254.169.254"))


def test_known_cluster_ranges_leave_other_private_networks_open() -> None:
    rules = Rules(cluster_networks=(ip_network("10.96.0.0/12"), ip_network("fd00:10::/64")))
    rules.check_address(ip_address("192.168.7.7"))
    for inside in ("10.96.0.10", "fd00:10::1"):
        with pytest.raises(Refused, match="cluster"):
            rules.check_address(ip_address(inside))


def test_wrapped_addresses_are_unwrapped_once() -> None:
    assert str(inner_address(ip_address("::ffff:1.2.3.4"))) == "1.2.3.4"
    assert str(inner_address(ip_address("::1"))) == "::1"
    assert str(inner_address(ip_address("fe80::1%eth0"))) == "fe80::1"


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "//hooks.example.com/x", "file:///etc/passwd", "ftp://hooks.example.com/",
        "gopher://hooks.example.com", "unix:///run/x.sock", "http+unix://%2Frun%2Fx.sock/", "https://",
        "https://user:pw@hooks.example.com/", "https://hooks.example.com:99999/", "http://hooks.example.com/",
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:169.254.169.254]/", "https://169.254.169.254/latest",
        "https://hooks.example.com/" + "x" * 3000,
    ],
)  # fmt: skip
def test_url_that_may_not_be_used(url: str) -> None:
    with pytest.raises(Refused) as refused:
        Rules().check_url(url)
    assert "pw@" not in str(refused.value), "a URL may hold a token"


def test_url_that_may() -> None:
    assert str(Rules().check_url(" https://hooks.example.com/T1/x?y=z\n")) == "https://hooks.example.com/T1/x?y=z"
    listed = Rules(allow_http=frozenset({"hooks.example.com"}))
    assert listed.check_url("http://HOOKS.example.com./").scheme == "http"


def answering(monkeypatch, *answers):
    """The name server's answers, one list of addresses for each look."""
    asked = []

    def look_up(host, port, family=0, **_):
        addresses = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(guard.socket, "getaddrinfo", look_up)
    return asked


def deliver_to(url, rules, wanted):
    """Send one notice there until `wanted` counts; returns the counts."""

    async def run():
        async with dispatching(receiver(url, rules=rules)) as dispatcher:
            dispatcher.tell(notice())
            await until(lambda: dispatcher.counts.results[("team", wanted)])
            return dispatcher.counts.results

    return asyncio.run(run())


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]"])
def test_loopback_by_other_names_is_not_connected_to(host: str) -> None:
    async def run():
        async with Server() as server:
            url = f"http://{host}:{server.port}/"
            rules = Rules(allow_http=frozenset({host.strip("[]"), "::ffff:7f00:1"}))
            async with dispatching(receiver(url, rules=rules)) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: dispatcher.counts.results["team", "failed"] >= 2)
            return server.connections

    assert asyncio.run(run()) == 0


def test_name_that_leads_to_loopback_among_others(monkeypatch) -> None:
    """Only the address that was judged is connected to, in whatever order the name server gives them."""

    async def run():
        async with Server() as server:
            answering(monkeypatch, ["127.0.0.2", "127.0.0.1"])
            rules = Rules(allow_networks=(ip_network("127.0.0.1/32"),), allow_http=frozenset({"hooks.example.com"}))
            async with dispatching(receiver(f"http://hooks.example.com:{server.port}/", rules=rules)) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)

    asyncio.run(run())


def test_name_changes_its_address_between_two_looks(monkeypatch) -> None:
    """Rebinding: a first look at a good address, then loopback. Each connection has one look, and it counts."""

    async def run():
        async with Server() as server:
            asked = answering(monkeypatch, ["127.0.0.1"], ["127.0.0.3"])
            server.answers = [b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n"]
            rules = Rules(allow_networks=(ip_network("127.0.0.1/32"),), allow_http=frozenset({"hooks.example.com"}))
            async with dispatching(receiver(f"http://hooks.example.com:{server.port}/", rules=rules)) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: dispatcher.counts.results["team", "failed"] >= 4)
            return len(asked), server.connections

    asked, connections = asyncio.run(run())
    assert asked >= 4 and connections == 1


def test_name_server_gives_good_and_bad_addresses(monkeypatch) -> None:
    """The bad ones are not even tried; only bad ones are a refusal that says so."""

    async def run():
        answering(monkeypatch, ["127.0.0.1", "169.254.169.254", "127.0.0.2"], ["169.254.169.254"])
        resolver = guard.GuardedResolver(Rules(allow_networks=(ip_network("127.0.0.1/32"),)))
        found = [each["host"] for each in await resolver.resolve("hooks.example.com", 80)]
        with pytest.raises(Refused, match="metadata"):
            await resolver.resolve("hooks.example.com", 80)
        await resolver.close()
        return found

    assert asyncio.run(run()) == ["127.0.0.1"]


def test_the_last_look_is_at_the_socket(monkeypatch) -> None:
    """Even where the resolver lets everything pass, no socket is made for what is refused."""
    monkeypatch.setattr(guard.GuardedResolver, "resolve", _lets_everything_pass)

    async def run():
        async with Server() as server:
            rules = Rules(allow_http=frozenset({"hooks.example.com"}))
            async with dispatching(receiver(f"http://hooks.example.com:{server.port}/", rules=rules)) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: dispatcher.counts.results["team", "failed"] >= 2)
            return server.connections

    assert asyncio.run(run()) == 0


async def _lets_everything_pass(self, host, port=0, family=0):
    return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]


def test_redirect_to_another_host_is_not_followed() -> None:
    async def run():
        async with Server() as elsewhere, Server() as server:
            moved = f"HTTP/1.1 307 x\r\nlocation: {elsewhere.url}\r\ncontent-length: 0\r\n\r\n"
            server.answers = [moved.encode()]
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(2)
            return elsewhere.connections

    assert asyncio.run(run()) == 0


def test_proxy_of_the_environment_is_not_asked(monkeypatch) -> None:
    async def run():
        async with Server() as proxy, Server() as server:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)
            return proxy.connections

    assert asyncio.run(run()) == 0


def test_rules_that_become_stricter_hold_from_then_on() -> None:
    async def run():
        async with Server() as server:
            async with dispatching(receiver(server, repeat_s=0.01)) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(2)
                await dispatcher.configure([receiver(server, repeat_s=0.01, rules=Rules())])
                before = server.connections
                await until(lambda: dispatcher.counts.results["team", "failed"] >= 2)
            return server.connections - before

    assert asyncio.run(run()) <= 1, "one may have been on its way"


REF = SecretRef("shop", "hooks", "url")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"namespace": "istio-system", "url": "https://x"}, ""),
        ({"namespace": "shop", "url": "https://x"}, "may not state a URL"),
        ({"namespace": "shop", "url": REF}, ""),
        ({"namespace": "shop", "url": SecretRef("istio-system", "hooks", "url")}, "is not of shop"),
        ({"namespace": "shop", "url": REF, "authorization": SecretRef("kube-system", "x", "y")}, "is not of shop"),
        (
            {"namespace": "istio-system", "url": "https://x", "ca": SecretRef("shop", "x", "y")},
            "is not of istio-system",
        ),
        ({"namespace": "istio-system", "url": REF}, "is not of istio-system"),
    ],
)
def test_namespace_names_a_receiver_that_is_not_its_own(fields, sentence) -> None:
    problem = origin_problem(Receiver(name="r", kind=Kind.SLACK, **fields), "istio-system")
    assert sentence in problem and bool(sentence) == bool(problem)


def test_loopback_rules_of_these_tests_allow_loopback_alone() -> None:
    with pytest.raises(Refused):
        LOOPBACK.check_address(ip_address("10.0.0.1"))
