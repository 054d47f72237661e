"""Where a program is: the same answer for the check and for whoever starts it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # Debian keeps them from ordinary users' PATH


def find_tool(name: str) -> str | None:
    """Path of a program: beside this Python (a virtual environment's envoy) first, then PATH and the sbin folders."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), *SBIN)
    return shutil.which(name, path=os.pathsep.join(places))
