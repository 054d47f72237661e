"""Namespaces: entering, coming back, knowing one again (I6)."""

import os
import socket
from pathlib import Path

import pytest

from hotswitch.kernel.netns import PinnedNamespace, as_user, cookie_of, inside
from tests.namespaces import ip, namespace

pytestmark = pytest.mark.netns


def test_a_socket_belongs_to_the_namespace_it_was_made_in(netns: str) -> None:
    with inside(netns):
        there = socket.create_server(("127.0.0.1", 8080))
    with there, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 8080), timeout=1)


def test_the_way_back_is_taken_when_the_body_fails(netns: str) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(ZeroDivisionError), inside(netns):
        _ = 1 / 0
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_a_missing_namespace_is_said_by_name() -> None:
    with pytest.raises(FileNotFoundError, match="no-such"), inside("/run/netns/no-such"):
        pass


def test_namespaces_have_different_cookies(netns: str) -> None:  # I6
    assert cookie_of(netns) == cookie_of(netns) != cookie_of("/proc/self/ns/net")


def test_a_socket_can_belong_to_the_proxys_user() -> None:
    with as_user(1337), socket.socket() as sock:
        assert os.fstat(sock.fileno()).st_uid == 1337
    with socket.socket() as sock:
        assert os.fstat(sock.fileno()).st_uid == os.geteuid()


def test_a_name_that_came_to_mean_another_namespace_is_noticed(netns: str) -> None:  # I6, sandbox restart
    pinned = PinnedNamespace(netns)
    assert pinned.still_named()
    name = Path(netns).name
    ip("netns", "del", name)
    assert not pinned.still_named()
    ip("netns", "add", name)
    assert not pinned.still_named()
    assert cookie_of(pinned.path) == pinned.cookie != cookie_of(netns)
    pinned.close()


def test_two_namespaces_live_side_by_side() -> None:
    with namespace() as one, namespace() as two:
        assert cookie_of(one) != cookie_of(two)
