"""How the pods of one cluster went that are no more: what the fence `gone` rests upon (I7).

Only of Services with an active and standbys: thousands of pods of others must not push out those that matter.
"""

from __future__ import annotations

from collections import deque

from hotswitch.backends import BackendId, ServiceMode, ServiceRecord
from hotswitch.cluster.pods import Pod
from hotswitch.endpoints import assemble

GRAVES = 1000


class Departed:
    """A fences.Departures."""

    def __init__(self) -> None:
        self._unclean: deque[BackendId] = deque(maxlen=GRAVES)
        self._clean: deque[BackendId] = deque(maxlen=GRAVES)

    def note(self, record: ServiceRecord | None, backend: BackendId, pod: Pod) -> None:
        """It went, and this is what was seen of it last. `record` None: its Service is none of ours any more."""
        if record is None or record.mode is not ServiceMode.ACTIVE_STANDBY:
            return
        runs = any(each.is_running for each in pod.status.container_statuses or ())
        if runs and backend not in self._unclean:
            self._unclean.append(backend)
        elif assemble.has_ended(pod):
            self._clean.append(backend)

    def is_back(self, backend: BackendId) -> None:
        """It is heard of again, and how it ends will be seen."""
        if backend in self._unclean:
            self._unclean.remove(backend)

    def was_forced(self, backend: BackendId) -> bool:
        """It went while its containers ran: somebody deleted it by force, or it is selected no more. It may run on."""
        return backend in self._unclean

    def was_seen(self, backend: BackendId) -> bool:
        """It went before our eyes, and all its containers had ended for good."""
        return backend in self._clean
