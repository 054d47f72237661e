"""The status of one pod while it is being written: each line on the version that the last one made (I6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec

from hotswitch.api import names
from hotswitch.api.status import PodStatus, StatusError, decode, encode
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import memory
from hotswitch.controller.memory import instant
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.writer import Writer
from hotswitch.model import Direction, Standing


class Pen:
    """`status` None: nothing was ever written. `write` raises writer.Stale and ApiFailure, and then holds on to what
    it had."""

    def __init__(self, writer: Writer, pod: SeenPod, status: PodStatus | None) -> None:
        self._writer, self.pod = writer, pod
        self.status = status
        self.replaced: frozenset[str] = frozenset()
        """Versions of the pod that our own writes have made old."""
        self.busy: ApiFailure | None = None
        """The API server's word to ask later (Retry-After): nothing more is asked with this pen."""

    @property
    def page(self) -> PodStatus:
        return self.status or PodStatus(uid=self.pod.ref.uid, levels=dict(Standing().levels))

    async def write(self, status: PodStatus, *, condition: Mapping[str, Any] | None = None) -> None:
        with self._asking():
            version = await self._writer.write(self.pod, status, condition)
        self.replaced |= {self.pod.resource_version} - {version}
        annotations = {**self.pod.annotations, names.STATUS: encode(status)}
        self.pod, self.status = replace(self.pod, resource_version=version, annotations=annotations), status

    async def turn_to_newest(self) -> None:
        """The pod was written by somebody else, on our behalf: all but its status, or it is Stale. Raises Stale when it
        is another one, ApiFailure."""
        with self._asking():
            version = await self._writer.version(self.pod, self.status)
        self.pod = replace(self.pod, resource_version=version)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self.busy is not None:
            raise self.busy
        try:
            yield
        except ApiFailure as failure:
            self.busy = failure if failure.retry_after_s else None
            raise

    @property
    def is_written(self) -> bool:
        """Whether the pod, as last seen, says what we remember."""
        text = self.pod.annotations.get(names.STATUS)
        if text is None or self.status is None:
            return text is None and self.status is None
        try:
            return decode(text, self.pod.ref.uid) == self.status
        except StatusError:
            return False


def changed(status: PodStatus, **changes: Any) -> PodStatus:
    return msgspec.structs.replace(status, **changes)


def at_rest(status: PodStatus, standing: Standing, shift_s: float) -> PodStatus:
    """The status when nothing is under way: what stands, and the decider's memory."""
    return changed(
        status,
        generation=int(standing.generation),
        levels=dict(standing.levels),
        wanted={},
        after={},
        step="",
        fault=str(standing.fault),
        since=instant(standing.opened_s, shift_s),
        expires=instant(standing.expires_s, shift_s),
        standing=memory.dump(replace(standing, well_since_s=None), shift_s),
    )


def begun(status: PodStatus, standing: Standing, shift_s: float, **changes: Any) -> PodStatus:
    """The write-ahead: what is wanted, beside the memory of before."""
    return changed(
        status,
        generation=int(standing.generation),
        wanted={way: standing.levels[way] for way in Direction},
        after=memory.dump(replace(standing, well_since_s=None), shift_s),
        fault=str(standing.fault),
        **changes,
    )
