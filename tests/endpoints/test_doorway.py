"""The doorway to a port: shut but for a permit, which ends by itself, whoever is dead (I7, S0.5)."""

from __future__ import annotations

import math
import socket
import struct
import time
from collections.abc import Callable

import pytest

from hotswitch.endpoints.doorway import Doorway
from hotswitch.kernel.netlink import NETLINK_NETFILTER, NLM_F_DUMP, NLM_F_REQUEST, NetlinkSocket, message
from hotswitch.kernel.netns import inside
from hotswitch.kernel.nf_tables import NFTABLES
from tests.namespaces import CLIENT_V4, POD_V4, POD_V6, Pair

pytestmark = pytest.mark.netns
PORT, OTHER = 5432, 8080
GET_RULE = 7  # NFT_MSG_GETRULE
PATIENCE_S = 30.0


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def is_refused(pair: Pair, address: str = POD_V4, port: int = PORT) -> bool:
    try:
        return pair.call(address, port) == b""
    except ConnectionError:
        return True


def doorway(pair: Pair, *allowed: str) -> Doorway:
    made = Doorway(pair.pod, (PORT,), allowed)
    made.build()
    return made


@pytest.mark.parametrize("address", [POD_V4, POD_V6])
def test_shut_until_permitted_and_other_ports_are_not_touched(pair: Pair, address: str) -> None:
    door = doorway(pair)
    with pair.speaker(PORT, b"me"), pair.speaker(OTHER, b"other"):
        assert is_refused(pair, address) and pair.call(address, OTHER) == b"other"
        door.permit(time.time() + 60, 60.0)
        assert pair.call(address, PORT) == b"me" and door.is_permitted()
        door.shut()
        assert is_refused(pair, address)


def test_a_permit_ends_by_itself(pair: Pair) -> None:
    door = doorway(pair)
    with pair.speaker(PORT, b"me"):
        door.permit(time.time() + 60, 0.5)
        until(lambda: is_refused(pair))
        assert not door.is_permitted()


def test_a_permit_ends_at_its_instant_however_long_it_would_last(pair: Pair) -> None:
    door = doorway(pair)
    with pair.speaker(PORT, b"me"):
        door.permit(time.time() + 0.5, 60.0)
        until(lambda: is_refused(pair))
        assert door.is_permitted(), "by its timeout alone"


def test_the_instant_is_not_rounded(pair: Pair) -> None:
    """`nft` would give up the fraction of a second, and nobody would answer for so long."""
    door, until_unix_s = doorway(pair), math.floor(time.time()) + 60.75
    door.permit(until_unix_s, 60.0, 7)
    door.permit(until_unix_s, 60.0, 8)
    asks = NetlinkSocket(NETLINK_NETFILTER, pair.pod)
    try:
        rules = asks.dump(message(NFTABLES | GET_RULE, NLM_F_REQUEST | NLM_F_DUMP, struct.pack("=BBH", 1, 0, 0)))
    finally:
        asks.close()
    assert sum(struct.pack(">Q", round(until_unix_s * 1e9)) in each for each in rules) == 1
    assert door.generation == 8


def test_a_table_that_is_gone_is_said(pair: Pair) -> None:
    door = doorway(pair)
    door.remove()
    with pytest.raises(FileNotFoundError):
        door.permit(time.time() + 60, 60.0)
    with pytest.raises(FileNotFoundError):
        door.shut()


def test_a_permit_that_is_written_too_late_is_void_from_the_start(pair: Pair) -> None:
    """Its writer was stopped between the answer and the write."""
    door = doorway(pair)
    with pair.speaker(PORT, b"me"):
        door.permit(time.time() - 1, 60.0)
        assert is_refused(pair)


def test_a_flow_that_stands_is_cut(pair: Pair) -> None:
    door = doorway(pair)
    door.permit(time.time() + 60, 60.0)
    with pair.listen(PORT) as server:
        with inside(pair.client):
            client = socket.socket()
        client.settimeout(PATIENCE_S)
        with client:
            client.connect((POD_V4, PORT))
            kept, _ = server.accept()
            with kept:
                client.sendall(b"a")
                assert kept.recv(1) == b"a"
                assert door.shut() == 1
                with pytest.raises(ConnectionResetError):
                    client.recv(1)


def test_an_answer_of_before_does_not_get_out_afterwards(pair: Pair) -> None:
    """The permit ran out while the app thought: nobody cuts the flow then, and its answer must not arrive."""
    door = doorway(pair)
    door.permit(time.time() + 60, 0.4)
    with pair.listen(PORT) as server:
        with inside(pair.client):
            client = socket.socket()
        with client:
            client.settimeout(PATIENCE_S)
            client.connect((POD_V4, PORT))
            kept, _ = server.accept()
            with kept:
                client.sendall(b"a")
                assert kept.recv(1) == b"a"
                until(lambda: not door.is_permitted())
                kept.sendall(b"too late")
                client.settimeout(0.5)
                with pytest.raises((TimeoutError, ConnectionError)):
                    client.recv(1)


def test_who_is_allowed_passes_always(pair: Pair) -> None:  # the kubelet's probes, our own checks
    doorway(pair, f"{CLIENT_V4}/32")
    with pair.speaker(PORT, b"me"):
        assert pair.call(POD_V4, PORT) == b"me"
        assert is_refused(pair, POD_V6)


def test_built_anew_it_is_shut_and_removed_it_is_gone(pair: Pair) -> None:
    door = doorway(pair)
    door.permit(time.time() + 60, 60.0)
    door.build()
    assert not door.is_permitted()
    door.remove()
    assert not door.exists
    with pair.speaker(PORT, b"me"):
        assert pair.call(POD_V4, PORT) == b"me"
