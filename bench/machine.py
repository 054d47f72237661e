"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from hotswitch import __version__
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.envoy import find_envoy

_VERSIONS = {
    "iptables": ("iptables-nft", "--version"),
    "nft": ("nft", "--version"),
    "conntrack": ("conntrack", "--version"),
}


def describe() -> dict[str, str]:
    """Names and versions, and how busy the machine was when the run began: figures of a busy one are worth little."""
    return {
        "kernel": platform.release(),
        "cores": f"{os.cpu_count()} ({_cpu()})",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "envoy": _first_line(Command((str(find_envoy()), "--version"))).rpartition("version: ")[2],
        **{name: _first_line(Command(argv)) for name, argv in _VERSIONS.items()},
        "hotswitch": __version__,
        "load average at the start": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.machine()


def _first_line(command: Command) -> str:
    outcome = run(command)
    lines = [line.strip() for line in (outcome.stdout + outcome.stderr).splitlines() if line.strip()]
    return lines[0] if lines else "?"
