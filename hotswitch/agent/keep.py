"""The first process of a helper's or an agent's container: starts it, and starts it again when it dies (I1).

An ephemeral container is never started again by anybody else. So this does as little as can be: it waits. It also reaps
what other processes of the container leave behind. SIGTERM is passed on, and the container ends with the helper.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence

FIRST_PAUSE_S, LONGEST_PAUSE_S, LONG_LIFE_S = 0.1, 5.0, 30.0
BAD_SETTINGS = 78  # EX_CONFIG: the helper ends with it when starting it again would not help


def keep(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Have `argv` run until SIGTERM: started anew whenever it dies, with a pause that doubles while it lives shortly.
    Reaps whatever the container's processes leave. Returns the exit code for the container."""
    return _Keeper(argv, environment).run()


class _Keeper:
    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._argv, self._environment = argv, environment
        self._child = 0
        self._leaving = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = time.monotonic()
            code = self._one_life()
            if self._leaving or code == BAD_SETTINGS:
                return 0 if self._leaving else code
            lived_s = time.monotonic() - began_s
            print(f"hotswitch ended with {code} after {lived_s:.1f} s", file=sys.stderr, flush=True)
            pause_s = FIRST_PAUSE_S if lived_s > LONG_LIFE_S else min(2 * pause_s, LONGEST_PAUSE_S)
            time.sleep(pause_s)
            if self._leaving:
                return 0

    def _one_life(self) -> int:
        self._child = os.posix_spawnp(self._argv[0], list(self._argv), dict(self._environment))
        if self._leaving:  # told so while it was being started
            os.kill(self._child, signal.SIGTERM)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._child:
                self._child = 0
                return os.waitstatus_to_exitcode(status)

    def _leave(self, number: int, frame: object) -> None:
        self._leaving = True
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)
