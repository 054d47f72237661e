"""The first process of a helper's container: whatever dies is started again, until SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hotswitch.agent.keep import BAD_SETTINGS

pytestmark = pytest.mark.unit

PATIENCE_S = 30.0


def keeper(script: str, *words: str, first: str = "") -> subprocess.Popen[str]:
    call = f"sys.exit(keep([sys.executable, '-c', {script!r}, *sys.argv[1:]]))"
    code = f"{first}from hotswitch.agent.keep import keep; {call}"
    argv = (sys.executable, "-c", f"import ctypes, sys\n{code}", *words)
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def lines(path: Path, count: int) -> list[str]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline_s, found
        time.sleep(0.01)


WAITS = "import os, signal, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); signal.pause()"


def test_what_is_killed_is_started_again(tmp_path: Path) -> None:
    kept = keeper(WAITS, str(tmp_path / "lives"))
    (first,) = lines(tmp_path / "lives", 1)
    os.kill(int(first), signal.SIGKILL)
    second = lines(tmp_path / "lives", 2)[1]
    kept.terminate()
    _, words = kept.communicate(timeout=PATIENCE_S)
    assert kept.returncode == 0
    assert words.startswith("hotswitch ended with -9 after")
    with pytest.raises(ProcessLookupError):
        os.kill(int(second), 0)


def test_settings_that_are_wrong_are_not_tried_again() -> None:
    kept = keeper(f"raise SystemExit({BAD_SETTINGS})")
    kept.communicate(timeout=PATIENCE_S)
    assert kept.returncode == BAD_SETTINGS


def test_orphans_of_the_container_are_reaped(tmp_path: Path) -> None:
    """A process whose parent has ended falls to the first one, as in a container's PID namespace."""
    orphan = "import os, sys\nif os.fork() == 0:\n    if os.fork() == 0: os._exit(0)\n    os._exit(0)\n"
    kept = keeper(orphan + WAITS, str(tmp_path / "lives"), first="ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n")
    lines(tmp_path / "lives", 1)
    deadline_s = time.monotonic() + PATIENCE_S
    children = Path(f"/proc/{kept.pid}/task/{kept.pid}/children")
    while len(children.read_text().split()) > 1:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    kept.terminate()
    kept.communicate(timeout=PATIENCE_S)
