"""All workers of a controller that leads: one for each pod that has something to look at, none for the others (S4.1).

A mesh has thousands of pods and few that are ill. A pod gets a worker with the first suspicion and loses it when it is
at rest again; what must be remembered is in its annotation. A controller that does not lead has no workers at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from hotswitch.controller.means import Means
from hotswitch.controller.surroundings import Neighbours
from hotswitch.controller.worker import PodWorker
from hotswitch.model import PodRef, PodUid

log = logging.getLogger("hotswitch.controller")


class Fleet:
    """`known(uid)`: the pod, if it is protected. `ill(uid)`: whether there is anything to look at. `rests(uid)`: told
    when nobody looks at the pod any longer."""

    def __init__(
        self,
        known: Callable[[str], PodRef | None],
        ill: Callable[[str], bool],
        rests: Callable[[str], None],
        node_of: Callable[[PodRef], str] = lambda _: "",
    ) -> None:
        self._known, self._ill, self._rests = known, ill, rests
        self._means: Means | None = None
        self.workers: dict[str, PodWorker] = {}
        self.neighbours = Neighbours(node_of)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def lead(self, means: Means, uids: Iterable[str]) -> None:
        """Begin to act; every pod that has something to look at gets its worker now."""
        self._means = means
        for uid in uids:
            self.news(uid)

    def follow(self) -> None:
        """Stop acting, at once; what is under way at a pod ends in what the next leader finds written (I6)."""
        self._means = None
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self.workers.clear()
        self.neighbours.clear()

    def news(self, uid: str, *, ill: bool | None = None) -> None:
        """Something of this pod has changed, or was heard. `ill`: whether there is anything to look at; None: whoever
        tells does not know."""
        worker = self.workers.get(uid)
        if worker is not None:
            worker.nudge()
        elif self._means is not None and (self._ill(uid) if ill is None else ill):
            self._hire(uid, self._means)

    def _hire(self, uid: str, means: Means) -> None:
        pod = self._known(uid)
        if pod is None:
            return
        worker = self.workers[uid] = PodWorker(PodUid(uid), pod, means)
        task = self._tasks[uid] = asyncio.get_running_loop().create_task(worker.run())
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        """A worker that ended by a mistake of ours is hired anew by the next news, and the mistake is logged."""
        if self._tasks.get(uid) is task:
            self._tasks.pop(uid)
            worker = self.workers.pop(uid)
            self.neighbours.unattended(uid)
            self._rests(uid)
            if worker.nudged and not worker.gone:  # by news that came while it ended
                self.news(uid)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("worker failed", exc_info=failure, extra={"uid": uid})
