"""The machine itself: rights, tools, and what the kernel can do, tried in a namespace of our own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hotswitch.kernel.command import Command, CommandFailed, run
from hotswitch.precheck.features import CALLS, TRIES, Try
from hotswitch.precheck.tools import find_tool

PREFIX = "hp-"
TRY_TIMEOUT_S = 10.0
Result = tuple[str, str, str]  # name, problem (empty: works), what the tool said

_RIGHTS = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
_TOOLS = {  # Debian and Ubuntu package of each
    "ip": "iproute2",
    "iptables-nft-restore": "iptables",
    "ip6tables-nft-restore": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
}


def look() -> Iterator[Result]:
    first = [*_rights(), *_tools()]
    yield from first
    if any(problem for _, problem, _ in first):
        return  # the kernel could not be asked, and what is said above has to be mended first
    try:
        with _fresh_namespace() as netns:
            yield "network namespaces", "", ""
            yield from (_tried(attempt, netns) for attempt in TRIES)
            for name, problem, attempt in CALLS:
                yield _called(name, problem, attempt, netns)
    except CommandFailed as failure:
        problem = "No network namespace can be made here: CONFIG_NET_NS and a writable /run/netns are needed."
        yield "network namespaces", problem, failure.args[0]


def _rights() -> Iterator[Result]:
    status = Path("/proc/self/status").read_text()
    held = int(re.findall(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[0], 16)
    for name, bit in _RIGHTS.items():
        yield name, "" if held >> bit & 1 else f"The right {name} is missing: run as root (sudo).", ""


def _tools() -> Iterator[Result]:
    for tool, package in _TOOLS.items():
        problem = f"The program {tool} is missing: install Debian's package {package} (make setup does)."
        yield tool, "" if find_tool(tool) else problem, ""


@contextmanager
def _fresh_namespace() -> Iterator[str]:
    name = f"{PREFIX}{os.getpid()}"
    run(Command(("ip", "netns", "add", name)), check=True, timeout_s=TRY_TIMEOUT_S)
    netns = f"/run/netns/{name}"
    try:
        run(Command(("ip", "link", "set", "lo", "up"), netns=netns), check=True, timeout_s=TRY_TIMEOUT_S)
        yield netns
    finally:
        run(Command(("ip", "netns", "delete", name)), timeout_s=TRY_TIMEOUT_S)


def _tried(attempt: Try, netns: str) -> Result:
    command = Command(attempt.command.argv, netns=netns, stdin=attempt.command.stdin)
    try:
        run(command, check=True, timeout_s=TRY_TIMEOUT_S)
    except CommandFailed as failure:
        said = failure.stderr.strip().splitlines()
        return attempt.name, attempt.problem, said[0] if said else f"exit code {failure.code}"
    return attempt.name, "", ""


def _called(name: str, problem: str, attempt: Callable[[str], object], netns: str) -> Result:
    try:
        attempt(netns)
    except OSError as failure:
        return name, problem, str(failure)
    return name, "", ""
