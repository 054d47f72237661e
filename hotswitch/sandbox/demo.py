"""`hotswitch demo`: real Envoys fail, in a world with hotswitch and in one without, side by side. No cluster, a minute.

Here is only the frame: what is missing is said in a sentence before anything is made; ^C and SIGTERM remove everything.
The exit code is 0 only if hotswitch acted where it should, did nothing where it should not, and put everything back.
Start reading at `play`, which makes the worlds, walks (`story`) and counts (`score`, `result`, `picture`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from hotswitch import precheck
from hotswitch.sandbox.picture import SUFFIXES

NEEDS = (precheck.Need.NETNS, precheck.Need.ENVOY)
PACKAGES = ("rich", "matplotlib", "yaml", "msgspec", "pydantic", "cryptography", "grpc", "prometheus_client")


def main(seconds: float, picture: Path, *, plain: bool) -> int:
    """Exit code: 0 all as it should be, 1 not, or interrupted, or something is missing; a sentence says what."""
    return _refuse(_problems(seconds, picture, plain))


def _problems(seconds: float, picture: Path, plain: bool) -> list[str]:
    if problems := [*wrong(picture), *missing()]:
        return problems
    from hotswitch.sandbox.play import play  # heavy, and needs what was just looked for

    try:
        return asyncio.run(play(seconds, picture, plain=plain))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return ["interrupted; everything that was made has been removed"]
    except (OSError, RuntimeError, ValueError) as failure:  # CommandFailed and TimeoutError are among them
        return [f"{str(failure) or type(failure).__name__}; everything that was made has been removed"]


def wrong(picture: Path) -> list[str]:
    """Why the picture could not be written in the end, by name and value."""
    folder = picture.absolute().parent
    found = []
    if picture.suffix.lower() not in SUFFIXES:
        found.append(f"--picture {picture}: the name must end with {' or '.join(SUFFIXES)}")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        found.append(f"--picture {picture}: {folder} is no folder that can be written to")
    return found


def missing(packages: Sequence[str] = PACKAGES) -> list[str]:
    """What this machine lacks, a sentence each."""
    lacks = [
        f"The Python package {name} is missing: install hotswitch with its extra `sandbox`."
        for name in packages
        if find_spec(name) is None
    ]
    return lacks + [f"{finding.name}: {finding.problem}" for finding in precheck.look(NEEDS) if not finding.ok]


def _refuse(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"hotswitch demo: {problem}", file=sys.stderr)
    return 1 if problems else 0
