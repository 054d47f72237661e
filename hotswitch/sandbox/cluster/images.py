"""What the images of the sandbox hold: which program a command line names, or that there is none of that name.

Nothing is pulled and nothing is unpacked. The hotswitch image is this very interpreter and package; Istio's proxyv2 has
a stand-in for pilot-agent, and iptables and nft of this machine (its distroless variant nothing else, as in truth).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

PATH = ":".join((os.environ.get("PATH", os.defpath), "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"))
_NETFILTER = re.compile(r"(ip6?tables(-(nft|legacy))?(-(save|restore))?|nft|ip)")
_PYTHON = (sys.executable,)
ISTIO_LATEST = "1.29.1"


@dataclass(frozen=True, slots=True)
class Image:
    """`programs`: those that are stood in for, by name. `shell`: has it what an ordinary distribution has?"""

    entrypoint: tuple[str, ...]
    programs: Mapping[str, tuple[str, ...]]
    shell: bool = True

    def argv(self, words: Sequence[str]) -> tuple[str, ...] | None:
        """What to start for this command line; None: no such program in the image."""
        name = PurePosixPath(words[0]).name
        if name in self.programs:
            return (*self.programs[name], *words[1:])
        if not self.shell and not _NETFILTER.fullmatch(name):
            return None
        program = shutil.which(words[0], path=PATH)
        return None if program is None else (program, *words[1:])

    def install(self, directory: Path) -> None:
        """Scripts for the stood-in programs, so that a shell inside the container finds them too."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, argv in self.programs.items():
            script = directory / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
            script.chmod(0o755)


_HOTSWITCH = Image(
    ("hotswitch",),
    {"hotswitch": (*_PYTHON, "-m", "hotswitch.cli.start"), "python": _PYTHON, "python3": _PYTHON},
)
_APP = Image(("/app",), {})


def find(reference: str) -> Image | None:
    """By the last part of the name; None: it cannot be pulled."""
    name, _, tag = PurePosixPath(reference.partition("@")[0]).name.partition(":")
    if name.startswith("proxyv2"):
        agent = (*_PYTHON, "-m", "hotswitch.sandbox.cluster.pilot_agent", tag or ISTIO_LATEST)
        return Image(("/usr/local/bin/pilot-agent",), {"pilot-agent": agent}, shell="distroless" not in tag)
    if name.startswith("hotswitch"):
        return _HOTSWITCH
    return _APP if name == "app" else None


def command(container: Mapping[str, Any], image: Image) -> tuple[str, ...]:
    """command and args over the image's entrypoint, as the kubelet does it."""
    return (*(container.get("command") or image.entrypoint), *(container.get("args") or ()))
