"""What a worker keeps of its pod between turns: the decider's standing, and the status as it was last written (I6, I8).

The watch is late: it may still show a version of the pod that our own last write has replaced.
"""

from __future__ import annotations

from dataclasses import replace

from hotswitch.api import names
from hotswitch.api import status as statuses
from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import memory
from hotswitch.controller.pen import Pen
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.writer import Writer
from hotswitch.model import OPEN_LEVELS, Standing

LEAVE_ALONE_AT_MOST_S = 10.0  # an overloaded API server asks for a second or some; a pod without its proxy waits


class Kept:
    """`status` None: nothing was written yet, or it could not be read."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.status: PodStatus | None = None
        self.loaded = False
        self.leave_alone_s = 0.0
        """For so long the API server wants to be asked nothing more about this pod; of this turn."""
        self._replaced: frozenset[str] = frozenset()
        self._version = ""

    def load(self, pod: SeenPod, now_s: float, shift_s: float) -> str:
        """Go on from what the annotation says; why it cannot be read, or "". Then the kernel is asked instead."""
        text, self.loaded = pod.annotations.get(names.STATUS), True
        try:
            status = None if text is None else statuses.decode(text, pod.ref.uid)
            if status is not None:
                self.standing = memory.remembered(status, shift_s, now_s)
            self.status = status
        except ValueError as failure:  # StatusError is one
            self.standing = replace(Standing(), rebuilt=True)
            return str(failure)
        return ""

    # ---- writing ----

    def pen(self, writer: Writer, pod: SeenPod) -> Pen:
        return Pen(writer, self._newest(pod), self.status)

    def put_down(self, pen: Pen) -> None:
        self.status, self._replaced, self._version = pen.status, pen.replaced, pen.pod.resource_version
        self.heed(pen.busy)

    def heed(self, failure: Exception | None) -> None:
        """It may be the API server's word to ask later."""
        if isinstance(failure, ApiFailure) and failure.retry_after_s:
            self.leave_alone_s = min(failure.retry_after_s, LEAVE_ALONE_AT_MOST_S)

    def _newest(self, pod: SeenPod) -> SeenPod:
        if self.status is None or pod.resource_version not in self._replaced:
            return pod
        annotations = {**pod.annotations, names.STATUS: statuses.encode(self.status)}
        return replace(pod, resource_version=self._version, annotations=annotations)

    # ---- what it says ----

    @property
    def under_way(self) -> bool:
        return self.status is not None and self.status.under_way

    @property
    def may_have_opened(self) -> bool:
        """An act is written down, and what became of it is not known yet."""
        wanted = self.status.wanted.values() if self.status is not None and self.status.under_way else ()
        return any(level in OPEN_LEVELS for level in wanted)

    @property
    def actuator(self) -> str:
        """Who acted last; "" when nothing is known."""
        return "" if self.status is None else self.status.actuator
