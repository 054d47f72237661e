"""The one place that starts short commands. A command is a value first, so that `plan` can print it; then it is run.

Nothing here goes through a shell. A command for a pod's namespace is started while this thread is inside it, and
awaited from outside (I6).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from hotswitch.kernel.netns import inside

DEFAULT_TIMEOUT_S = 30.0


class CommandFailed(RuntimeError):
    """A command ended with another code than 0, or not in time (code None)."""

    def __init__(self, command: Command, code: int | None, stderr: str) -> None:
        what = "did not end in time" if code is None else f"exit code {code}"
        super().__init__(f"{command}: {what}: {stderr.strip()}")
        self.command, self.code, self.stderr = command, code, stderr


@dataclass(frozen=True, slots=True)
class Command:
    """`argv`, run in the network namespace at path `netns` (None: here) with `stdin` as text."""

    argv: tuple[str, ...]
    netns: str | None = None
    stdin: str | None = None

    def __str__(self) -> str:
        words = shlex.join(self.argv)
        where = f"nsenter --net={shlex.quote(self.netns)} {words}" if self.netns else words
        return f"{where} <<'EOF'\n{self.stdin.rstrip()}\nEOF" if self.stdin is not None else where


@dataclass(frozen=True, slots=True)
class Outcome:
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run(command: Command, *, check: bool = False, timeout_s: float = DEFAULT_TIMEOUT_S) -> Outcome:
    """Run it and wait. Raises CommandFailed on timeout, and with `check` on any exit code but 0; FileNotFoundError
    when the program or the namespace does not exist."""
    started = time.monotonic()
    with _inside(command.netns):
        child = _start(command)
    try:
        stdout, stderr = child.communicate(command.stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as late:
        child.kill()
        child.communicate()
        raise CommandFailed(command, None, "") from late
    outcome = Outcome(child.returncode, stdout, stderr, time.monotonic() - started)
    if check and outcome.returncode != 0:
        raise CommandFailed(command, outcome.returncode, outcome.stderr)
    return outcome


def _inside(netns: str | None) -> AbstractContextManager[None]:
    return nullcontext() if netns is None else inside(netns)


def _start(command: Command) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command.argv,
        stdin=subprocess.DEVNULL if command.stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"},
    )
