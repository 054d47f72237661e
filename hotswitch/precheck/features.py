"""What the kernel has to be able to do: for each feature a command or a call that works only if it can, and a sentence.

The nf_tables ones are the parts of the gate's table, the iptables ones those of Istio's capture (S4.3a), the calls
those of observing and of ending stuck flows.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.kernel.command import Command
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.netns import as_user, cookie_of, inside
from hotswitch.kernel.sockdiag import destroy, established
from hotswitch.model import RESCUE_INBOUND

PROXY_UID = 1337


@dataclass(frozen=True, slots=True)
class Try:
    """A command that works in a fresh namespace if the kernel has the feature, and the sentence if it does not."""

    name: str
    command: Command
    problem: str


def _nft(name: str, body: str, problem: str) -> Try:
    script = f"table inet hp {{\n{body}\n}}\ndelete table inet hp\n"
    return Try(name, Command(("nft", "-f", "-"), stdin=script), f"The kernel {problem}")


def _xtables(family: str, name: str, rule: str, problem: str) -> Try:
    restore = Command((f"{family}-nft-restore", "--noflush"), stdin=f"*nat\n{rule}\nCOMMIT\n")
    return Try(f"{name} ({family})", restore, f"The kernel {problem}")


_PRE, _OUT = "type nat hook prerouting priority -110;", "type nat hook output priority -110;"
TRIES = (
    _nft(
        "nf_tables inet",
        "chain c { }",
        "has no nf_tables of family inet: CONFIG_NF_TABLES_INET is needed (Linux 5.2 or newer).",
    ),
    _nft(
        "nf_tables timeouts",
        "map m { type inet_service : verdict; flags timeout; elements = { 1 timeout 1s : return }; }",
        "has no nf_tables maps with timeouts (nf_tables_set): without them an opening would not end by itself.",
    ),
    _nft(
        "nf_tables nat hooks",
        f"chain p {{ {_PRE} }}\nchain o {{ {_OUT} }}",
        "has no nat hooks for nf_tables of family inet: CONFIG_NFT_NAT is needed (Linux 5.2 or newer).",
    ),
    _nft(
        "nf_tables dnat",
        f"chain p {{ {_PRE}\ndnat ip to ip daddr\ndnat ip6 to ip6 daddr\n}}",
        "cannot translate addresses by nf_tables: CONFIG_NFT_NAT with IPv4 and IPv6 is needed.",
    ),
    _nft(
        "nf_tables redirect",
        f"chain p {{ {_PRE}\nmeta l4proto tcp redirect to :{RESCUE_INBOUND}\n}}",
        "cannot redirect by nf_tables: CONFIG_NFT_REDIR is needed.",
    ),
    _nft(
        "nf_tables fib",
        f"chain p {{ {_PRE}\nfib daddr type local return\n}}",
        "cannot look up addresses by nf_tables: CONFIG_NFT_FIB_INET is needed.",
    ),
    _nft(
        "nf_tables marks",
        "chain p { type filter hook prerouting priority -160;\n"
        "ct state new ct status & confirmed != 0 ct mark set 0 meta mark set 1\n}",
        "cannot mark packets and flows by nf_tables: CONFIG_NFT_CT is needed (where Istio captures by TPROXY).",
    ),
    *(
        attempt
        for family in ("iptables", "ip6tables")
        for attempt in (
            _xtables(
                family,
                "REDIRECT",
                "-A PREROUTING -p tcp -j REDIRECT --to-ports 15006",
                "has no REDIRECT target: CONFIG_NETFILTER_XT_TARGET_REDIRECT is needed (Istio's capture needs it too).",
            ),
            _xtables(
                family,
                "owner",
                f"-A OUTPUT -m owner --uid-owner {PROXY_UID} -j RETURN",
                "has no owner match: CONFIG_NETFILTER_XT_MATCH_OWNER is needed, outside of a user namespace.",
            ),
        )
    ),
    Try("conntrack", Command(("conntrack", "-L")), "The kernel does not list flows: CONFIG_NF_CT_NETLINK is needed."),
    Try("bridge", Command(("ip", "link", "add", "type", "bridge")), "The kernel has no bridges: CONFIG_BRIDGE."),
    Try("veth", Command(("ip", "link", "add", "type", "veth")), "The kernel has no veth pairs: CONFIG_VETH is needed."),
)


def _own_socket_as_proxy(netns: str) -> None:
    with inside(netns), as_user(PROXY_UID):
        socket.socket().close()


def _listen_on_v6(netns: str) -> None:
    with inside(netns), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))


def _end_a_flow(netns: str) -> None:
    with inside(netns):
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname(), timeout=1)
    with server, client:
        diag = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
        try:
            for flow in established(diag):  # nobody else lives in this namespace
                destroy(diag, flow)
        finally:
            diag.close()
        _expect_reset(client)


def _expect_reset(client: socket.socket) -> None:
    try:
        client.recv(1)
    except (ConnectionAbortedError, ConnectionResetError):
        return
    raise OSError("the flow was said to be ended and was not")


CALLS: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    (
        "namespace cookies",
        "The kernel does not tell namespaces apart for good: SO_NETNS_COOKIE is needed (Linux 5.14 or newer).",
        cookie_of,
    ),
    (
        "other users' sockets",
        f"User {PROXY_UID} is not known here: run as root of the machine, not in a rootless container.",
        _own_socket_as_proxy,
    ),
    ("IPv6", "IPv6 is switched off here: boot without ipv6.disable=1.", _listen_on_v6),
    (
        "ending stuck flows",
        "The kernel cannot end a flow from outside: CONFIG_INET_DIAG_DESTROY is needed.",
        _end_a_flow,
    ),
)
