"""What may stand in a namespace beside Istio's rules of today: rules of others, older shapes; and how to compare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hotswitch.capture.inspect import legacy_tables
from hotswitch.capture.iptables import Rule, restore_text
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel.command import Command, run
from tests.namespaces import CLIENT_V4, CLIENT_V6

TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
KINDS = {Backend.IPTABLES_NFT: "nft", Backend.IPTABLES_LEGACY: "legacy"}
HOOKS = {
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


def do(netns: str, line: str, stdin: str | None = None) -> str:
    return run(Command(tuple(line.split()), netns, stdin), check=True).stdout


def load(netns: str, spec: CaptureSpec, backend: Backend) -> None:
    for command in commands(spec, backend, netns):
        run(command, check=True)


def load_rules(netns: str, backend: Backend, family: str, of: Iterable[Rule]) -> None:
    do(netns, f"{TOOLS[family]}-{KINDS[backend]}-restore --noflush", restore_text(of))


def foreign(netns: str, backend: Backend, mark: str) -> None:
    """Rules of others in every built-in chain, chains of their own, and much that resembles Istio's."""
    kind = KINDS.get(backend, "nft")
    for tool in TOOLS.values():
        text = "".join(
            "\n".join([f"*{table}", f"-N {mark}_{table.upper()}", *_of_others(table, hooks, mark), "COMMIT", ""])
            for table, hooks in HOOKS.items()
        )
        do(netns, f"{tool}-{kind}-restore --noflush", text)
    do(netns, "nft -f -", f"table inet {mark} {{\nchain istio-output {{\ncounter\n}}\n}}\n")
    for family in ("-4", "-6"):
        do(netns, f"ip {family} rule add pref {100 + len(mark)} fwmark 7 lookup 99")
        do(netns, f"ip {family} route replace local default dev lo table 99")


def _of_others(table: str, hooks: tuple[str, ...], mark: str) -> Iterator[str]:
    mine = f"{mark}_{table.upper()}"
    yield f'-A {mine} -p tcp --dport 15006 -m comment --comment "{mark}: ISTIO_INBOUND\'s port" -j RETURN'
    yield f"-A {mine} -p udp --dport 15053"
    for hook in hooks:
        yield f"-A {hook} -p tcp --dport 7777 -j {mine}"
        yield f"-A {hook} -p udp --dport 53 -j ACCEPT"
        yield f'-A {hook} -m mark --mark 1337 -m comment --comment "{mark} -j ISTIO_REDIRECT" -j {mine}'
    if "PREROUTING" in hooks:
        yield "-A PREROUTING -i eth9 -j RETURN"
        yield "-A PREROUTING -i eth8 -m comment --comment mine -j RETURN"
    if table in ("nat", "mangle"):
        yield "-A OUTPUT -o eth8 -m comment --comment mine -j RETURN"
    if table == "raw":
        yield "-A OUTPUT -p udp --dport 53 -j CT --zone 7"
        yield "-A PREROUTING -p tcp --sport 53 -j CT --zone 1"
    if table == "mangle":
        yield "-A OUTPUT -p tcp -m mark --mark 7 -j CONNMARK --save-mark"
        yield "-A OUTPUT -o lo -m owner --uid-owner 1337 -j MARK --set-mark 1339"


def picture(netns: str) -> dict[str, list[str]]:
    """All that Istio could have touched, without counters, and without tables of iptables' in which nothing is."""
    found: dict[str, list[str]] = {}
    legacy = legacy_tables(netns)
    for kind in ("nft", "legacy"):
        for family, tool in TOOLS.items():
            if kind == "nft" or family in legacy:
                found |= _tables(f"{tool}-{kind}", do(netns, f"{tool}-{kind}-save"))
    native = re.split(r"^(?=table )", do(netns, "nft -s list ruleset"), flags=re.MULTILINE)
    found["nft"] = [table for table in native if not re.match(r"table ip6? (nat|mangle|raw|filter|security) ", table)]
    for family in ("-4", "-6"):
        for what in ("rule show", "route show table all", "addr show scope global"):
            lines = do(netns, f"ip {family} -o {what}").splitlines()
            found[f"ip {family} {what}"] = [re.sub(r" valid_lft .*", "", line) for line in lines if not _linked(line)]
    return found


def _linked(line: str) -> bool:
    """Of the links themselves: these come a moment after a link is up."""
    return "fe80:" in line or "ff00::" in line


def _tables(tool: str, text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line
        elif (line.startswith(":") and " ACCEPT " not in line) or line.startswith("-A"):
            found.setdefault(f"{tool} {table}", []).append(re.sub(r" \[\d+:\d+\]$", "", line))
    return found


def odd_spec(**changes: object) -> CaptureSpec:
    """Every setting that leaves rules in built-in chains which no jump marks."""
    settings: dict[str, object] = {
        "inbound_ports": "*", "outbound_cidrs": "*", "inbound_exclude_ports": (15090, 15021, 15020), "ipv6": True,
        "exclude_interfaces": ("not-istio", "nor-this"), "kube_virt_interfaces": ("virt0",), "drop_invalid": True,
        "redirect_dns": True, "dns_servers_v4": (CLIENT_V4,), "dns_servers_v6": (CLIENT_V6,), "proxy_uids": (1337, 4),
    }  # fmt: skip
    return CaptureSpec(**{**settings, **changes})  # type: ignore[arg-type]
