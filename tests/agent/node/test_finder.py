"""From a pod's uid and address to its namespace and its proxy, in real namespaces and cgroups (S4.2, I6)."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotswitch.agent.node.finder import Finder, Found, NotFound, Wanted
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import as_user, cookie_of, inside
from hotswitch.model import PodUid
from hotswitch.sandbox.estate import Estate
from tests.namespaces import POD_V4, Pair, ip, namespace

pytestmark = pytest.mark.netns

UID, OTHER = PodUid("11111111-2222-4333-8444-555555555555"), PodUid("99999999-2222-4333-8444-555555555555")
APP, PROXY = "a" * 64, "b" * 64
PROXY_UID, SHIFT = 1337, 200_000
STRANGER = Path(__file__).with_name("stranger.py")


@pytest.fixture
def estate() -> Iterator[Estate]:
    made = Estate(secrets.token_hex(2), "hf-")
    made.claim()
    yield made
    made.remove()


@contextmanager
def running(
    estate: Estate, uid: PodUid, container: str, *, netns: str | None = None, user: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """A process in that container's cgroup. `netns` None: in one of its own, with a user namespace of its own."""
    words = [sys.executable, "-S", str(STRANGER), str(user), *(["own"] if netns is None else [])]
    with contextlib.nullcontext() if netns is None else inside(netns):
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin and child.stdout
    try:
        for cgroup in estate.make_cgroups("kubepods", "burstable", f"pod{uid}", container):
            (cgroup / "cgroup.procs").write_text(str(child.pid))
        if netns is None:
            assert child.stdout.readline() == "unmapped\n"
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{kind}").write_text(f"0 {SHIFT} 65536\n")
            child.stdin.write("\n")
            child.stdin.flush()
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


def wanted(address: str = POD_V4, container: str = "", uid: PodUid = UID) -> Wanted:
    return Wanted(uid, (address,), PROXY_UID, container)


def found(each: Found | NotFound) -> Found:
    assert isinstance(each, Found), each
    os.close(each.namespace)
    return each


def refused(each: Found | NotFound) -> str:
    assert isinstance(each, NotFound)
    return str(each)


def test_the_namespace_is_the_one_that_has_the_address(estate: Estate, pair: Pair) -> None:  # S4.2
    with (
        running(estate, UID, APP, netns=pair.pod),
        running(estate, UID, PROXY, netns=pair.pod, user=PROXY_UID) as proxy,
    ):
        seen = found(Finder().find([wanted()])[UID])
    assert seen.cookie == cookie_of(pair.pod)
    assert seen.proxy.pids == (proxy.pid,)
    assert seen.proxy.container == PROXY
    assert seen.proxy.cgroups and all(each.name == PROXY for each in seen.proxy.cgroups)
    assert (seen.proxy.user, seen.proxy.mapped) == (PROXY_UID, False)


def test_the_containers_id_counts_more_than_its_user(estate: Estate, pair: Pair) -> None:  # a proxy that runs as root
    with (
        running(estate, UID, PROXY, netns=pair.pod) as proxy,
        running(estate, UID, APP, netns=pair.pod, user=PROXY_UID),
    ):
        assert found(Finder().find([wanted(container=PROXY)])[UID]).proxy.pids == (proxy.pid,)


def test_an_address_in_a_strangers_namespace_is_not_enough(estate: Estate, pair: Pair) -> None:  # I6
    with running(estate, OTHER, APP, netns=pair.pod):
        assert "no process of it" in refused(Finder().find([wanted()])[UID])


def test_a_forged_cgroup_name_is_not_enough(estate: Estate, pair: Pair) -> None:  # I6
    with namespace() as elsewhere, running(estate, UID, APP, netns=elsewhere):
        assert f"has {POD_V4}" in refused(Finder().find([wanted()])[UID])


def test_our_own_namespace_is_never_a_pods(estate: Estate) -> None:  # a pod that shares the node's network
    with running(estate, UID, APP, netns="/proc/self/ns/net"):
        assert refused(Finder().find([wanted("127.0.0.1")])[UID])


def test_after_a_sandbox_restart_the_new_namespace_is_the_pods(estate: Estate, pair: Pair) -> None:  # I6, A7
    with namespace() as old, running(estate, UID, APP, netns=old), running(estate, UID, PROXY, netns=pair.pod):
        assert found(Finder().find([wanted()])[UID]).cookie == cookie_of(pair.pod)


def test_two_namespaces_with_the_address_are_refused(estate: Estate, pair: Pair) -> None:  # I6
    ip("link", "add", "eth1", "type", "veth", "peer", "name", "far", netns=pair.client)
    ip("addr", "add", f"{POD_V4}/32", "dev", "eth1", netns=pair.client)
    with running(estate, UID, APP, netns=pair.pod), running(estate, UID, PROXY, netns=pair.client):
        assert "2 namespaces have its address" in refused(Finder().find([wanted()])[UID])


def test_a_pod_with_a_user_namespace_of_its_own(estate: Estate) -> None:  # S4.2
    with running(estate, UID, PROXY, user=PROXY_UID) as proxy:
        netns = f"/proc/{proxy.pid}/ns/net"
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "far", netns=netns)
        ip("addr", "add", "10.98.0.2/24", "dev", "eth0", netns=netns)
        seen = found(Finder().find([wanted("10.98.0.2")])[UID])
        assert seen.cookie == cookie_of(netns)
        assert (seen.proxy.user, seen.proxy.mapped) == (SHIFT + PROXY_UID, True)
        assert seen.proxy.pids == (proxy.pid,)


def test_rules_in_a_user_namespace_know_the_proxys_user_by_its_inner_number(estate: Estate) -> None:
    """So what we send as the proxy has to be sent as the user that 1337 is outside."""
    rules = "table ip t {\n chain o {\n type filter hook output priority 0\n meta skuid 1337 counter\n }\n}\n"
    with running(estate, UID, PROXY, user=PROXY_UID) as proxy:
        netns = f"/proc/{proxy.pid}/ns/net"
        ip("link", "set", "lo", "up", netns=netns)
        run(Command(("nft", "-f", "-"), netns=netns, stdin=rules), check=True)
        _send(netns, PROXY_UID)
        assert "packets 0" in run(Command(("nft", "list", "ruleset"), netns=netns), check=True).stdout
        _send(netns, SHIFT + PROXY_UID)
        assert "packets 1" in run(Command(("nft", "list", "ruleset"), netns=netns), check=True).stdout


def _send(netns: str, uid: int) -> None:
    with inside(netns), as_user(uid), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))
