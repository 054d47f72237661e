"""The proxy's container, to an agent in the same pod (S4.2, S4.2a).

Most often it is not to be seen: each container numbers its own processes. Where a pod's containers share their pids
(shareProcessNamespace) Envoy is there, and then its threads tell of its end before any socket does, and of why it is
slow. That is found out and never assumed: a process called envoy, of the user that Istio's rules exempt, in our own
network namespace. The rescue is called so, too, and has another user; a process that may not be asked is not taken.

No right is needed but the agent's own SETUID: the kernel tells of a process's namespaces to its own user.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hotswitch.kernel import process as processes
from hotswitch.kernel.cgroup import Container, Reading
from hotswitch.kernel.netns import as_user
from hotswitch.kernel.process import PROC, Process
from hotswitch.kernel.procfs import group, user
from hotswitch.observe.ends import ENVOY

ROOT = 0  # with TPROXY the proxy has root's uid, and the exempt gid


class SharedPids(Container):
    """`uids`, `gids`: the proxy's. A look at its threads (`read`) searches for Envoy while none is known; nothing else
    does, because on the way from a fault to the gate there is no time for it."""

    def __init__(self, uids: Sequence[int], gids: Sequence[int], proc: Path = PROC) -> None:
        super().__init__((), proc, self._living)
        self._uids, self._gids = frozenset(uids), frozenset(gids)
        self._envoys: list[Process] = []

    def read(self, at_s: float) -> Reading:
        if not self._living():
            self._envoys = list(self._search())
        return super().read(at_s)

    def _living(self) -> list[int]:
        """Those of the last search that are still there, be it on their way out."""
        return [each.pid for each in self._envoys if processes.read(each.pid, self._proc).started == each.started]

    def _search(self) -> Iterator[Process]:
        for name in os.listdir(self._proc):
            if name.isdigit() and self._is_called_envoy(name):
                found = processes.read(int(name), self._proc)
                if found.name == ENVOY and not found.exiting and self._is_the_proxy(found.pid):
                    yield found

    def _is_called_envoy(self, pid: str) -> bool:
        with contextlib.suppress(OSError):
            return processes.content(f"{self._proc}/{pid}/comm") == ENVOY.encode() + b"\n"
        return False

    def _is_the_proxy(self, pid: int) -> bool:
        uid, gid = user(pid, self._proc), group(pid, self._proc)
        if uid is None or gid is None or not (uid in self._uids or (uid == ROOT and gid in self._gids)):
            return False
        with contextlib.suppress(OSError), as_user(uid, gid):
            there, here = os.stat(f"{self._proc}/{pid}/ns/net"), os.stat(f"{self._proc}/thread-self/ns/net")
            return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
        return False
