"""pytest plugin: what the tests made in the machine is gone when they end (I4).

Compared before and after the session: named network namespaces, links, cgroups and nft tables of the machine itself,
and processes that run something of this project. A child of this very session that still runs is an error. So is
anything else where the machine is ours alone (CI=true); elsewhere somebody else may have made it meanwhile, so it is
only said aloud.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotswitch.kernel.command import Command, run

_PROJECT = str(Path(__file__).parent.parent)
_BEFORE = pytest.StashKey[frozenset[str]]()
_LEFT = pytest.StashKey[tuple[str, ...]]()
_PLACES = {
    "network namespace": "/run/netns",
    "link": "/sys/class/net",
    "cgroup": "/sys/fs/cgroup",
    "cpu cgroup": "/sys/fs/cgroup/cpu",
    "memory cgroup": "/sys/fs/cgroup/memory",
    "unified cgroup": "/sys/fs/cgroup/unified",
}
_PYTHON_OWN = "multiprocessing."  # resource tracker and fork server live as long as the interpreter


def things() -> frozenset[str]:
    """Everything in the machine that a test could have made and left, each by its kind and name."""
    named = {
        f"{kind} {entry.name}"
        for kind, place in _PLACES.items()
        if Path(place).is_dir()
        for entry in Path(place).iterdir()
        if entry.is_dir() or kind == "network namespace"
    }
    pids = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    processes = {text for pid in pids if _PROJECT in (text := running(pid)) and int(pid) != os.getpid()}
    return frozenset(named | _tables() | processes)


def _tables() -> set[str]:
    try:
        listing = run(Command(("nft", "list", "tables")))
    except FileNotFoundError:
        return set()
    return {f"nft {line}" for line in listing.stdout.splitlines()}


def children() -> tuple[str, ...]:
    """Processes started by this one that still run."""
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return tuple(text for pid in pids if (text := running(pid)) and _PYTHON_OWN not in text)


def running(pid: str) -> str:
    """What the process runs; empty when it has ended (a zombie has)."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
    return "" if rest.split()[0] in {"Z", "X"} else f"process {pid}: {words or name}"  # no words yet: amid its exec


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_BEFORE] = things()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    mine = children()
    others = sorted(things() - session.config.stash[_BEFORE] - set(mine))
    session.config.stash[_LEFT] = (*mine, *others)
    is_error = bool(mine) or (bool(others) and os.environ.get("CI") == "true")
    if is_error and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left = config.stash.get(_LEFT, ())
    if left:
        terminalreporter.section("left behind in the machine", red=True)
    for thing in left:
        terminalreporter.line(thing[:160], red=True)
