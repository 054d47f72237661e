"""The controller is reached in clusters of either family, and of both."""

from __future__ import annotations

import socket

import pytest

from hotswitch.controller.listening import listen, target

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_without_an_address_both_families_get_in(host: str) -> None:
    with listen("", 0) as server, socket.create_connection((host, server.getsockname()[1]), 10):
        pass


@pytest.mark.parametrize(("address", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_with_an_address_only_that_one_does(address: str, other: str) -> None:
    with listen(address, 0) as server:
        port = server.getsockname()[1]
        with socket.create_connection((address, port), 10):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, port), 10)


def test_an_address_that_is_taken() -> None:
    with listen("", 0) as server, pytest.raises(OSError):
        listen("", server.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "said"), [("", "[::]:18000"), ("::1", "[::1]:18000"), ("127.0.0.1", "127.0.0.1:18000")]
)
def test_the_same_for_grpc(address: str, said: str) -> None:
    assert target(address, 18000) == said
