"""Redacts and writes evidence, as a process of its own and of the lowest priority: `main` reads what was gathered from
its standard input. Searching megabytes for secrets in the agent itself would hold up its threads, and with them the
gate of the next pod; here it holds up nobody. Nothing unredacted ever lies on a disk (S4.7).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

import hotswitch
from hotswitch.evidence.admin import Answer, fit
from hotswitch.evidence.store import write
from hotswitch.kernel.command import Command, CommandFailed, run

LOWEST = 19
TIMEOUT_S = 60.0
_HOME = str(Path(hotswitch.__file__).parents[1])
_START = f"import sys; sys.path.insert(0, {_HOME!r}); from hotswitch.evidence.writer import main; main()"


class Gathered(msgspec.Struct):
    """`files`: name -> what was gathered for it, unredacted."""

    directory: str
    files: dict[str, str]


def write_apart(directory: Path, files: dict[str, str]) -> None:
    """Have it done, and wait for it: in a thread. Raises OSError, without a word of what was to be written: the failed
    command's own message has its whole input in it."""
    request = msgspec.json.encode(Gathered(str(directory), files)).decode()
    try:
        run(Command((sys.executable, "-c", _START), stdin=request), check=True, timeout_s=TIMEOUT_S)
    except CommandFailed as failure:
        how = "not in time" if failure.code is None else f"exit code {failure.code}"
        raise OSError(f"{directory}: evidence was not written: {how}") from None


def main() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST)
    gathered = msgspec.json.decode(sys.stdin.buffer.read(), type=Gathered)
    for name, content in gathered.files.items():
        write(Path(gathered.directory), name, fit(Answer(name.partition(".")[0], content.encode("utf-8", "replace"))))
