"""Socket diagnosis: accept queues and flows of a namespace; ending exactly one flow."""

import socket

import pytest

from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.netns import inside
from hotswitch.kernel.sockdiag import accept_queues, destroy, established

pytestmark = pytest.mark.netns


def connected(netns: str, address: str, family: socket.AddressFamily) -> tuple[socket.socket, ...]:
    with inside(netns):
        server = socket.socket(family)
        client = socket.socket(family)
    server.bind((address, 0))
    server.listen(8)
    client.connect(server.getsockname()[:2])
    return server, client, server.accept()[0]


def test_waiting_connections_are_counted(netns: str) -> None:
    with inside(netns):
        server = socket.create_server(("127.0.0.1", 8080))
        callers = [socket.socket() for _ in range(3)]
    diag = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
    for caller in callers:
        caller.connect(("127.0.0.1", 8080))
    assert [(queue.port, queue.waiting) for queue in accept_queues(diag)] == [(8080, 3)]
    server.accept()[0].close()
    assert [queue.waiting for queue in accept_queues(diag)] == [2]
    for sock in (*callers, server, diag):
        sock.close()


def test_families_are_told_apart(netns: str) -> None:
    with inside(netns):
        servers = [
            socket.create_server(("127.0.0.1", 8080)),
            socket.create_server(("::1", 8080), family=socket.AF_INET6),
        ]
        caller = socket.socket(socket.AF_INET6)
    diag = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
    caller.connect(("::1", 8080))
    assert [(queue.ipv6, queue.waiting) for queue in accept_queues(diag)] == [(False, 0), (True, 1)]
    for sock in (*servers, caller, diag):
        sock.close()


@pytest.mark.parametrize(("address", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_one_flow_is_ended_and_no_other(netns: str, address: str, family: socket.AddressFamily) -> None:
    diag = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
    first, other = connected(netns, address, family), connected(netns, address, family)
    port = first[0].getsockname()[1]
    [flow] = [flow for flow in established(diag) if flow.local_port == port]
    assert str(flow.local) == str(flow.peer) == address
    assert destroy(diag, flow)
    assert not destroy(diag, flow), "gone is not an error: an act may be repeated (I6)"
    with pytest.raises(ConnectionResetError):
        first[1].recv(1)
    other[1].sendall(b"x")
    assert other[2].recv(1) == b"x"
    assert port in {queue.port for queue in accept_queues(diag)}, "the listening socket is never touched"
    for sock in (*first, *other, diag):
        sock.close()


def test_an_error_answer_leaves_nothing_unread(netns: str) -> None:
    from hotswitch.kernel.netlink import NLM_F_ACK, NLM_F_REQUEST, message

    diag = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
    with pytest.raises(OSError):
        diag.transact(message(21, NLM_F_REQUEST | NLM_F_ACK, bytes(8)), acks=1)
    assert accept_queues(diag) == ()
    diag.close()
