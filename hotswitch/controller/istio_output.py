"""Istio's configuration as an output of the controller: who may have it, and why a Service does not (S2.5, I2).

A publisher lives for as long as one leadership. What it refuses is an Event on the Service, once, and an alarm for as
long as it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from hotswitch.backends import Output, Published, ServiceId, ServiceRecord
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.endpoints.istio.publisher import IstioPublisher
from hotswitch.endpoints.istio.refusal import Refusal

log = logging.getLogger("hotswitch.controller.istio")


class Say(Protocol):
    """None of these waits. `about`: an Event; `alarm` and `clear`: by the Service."""

    def about(self, service: ServiceRecord, code: str, sentence: str, warning: bool) -> None: ...

    def alarm(self, service: ServiceId, code: str, sentence: str) -> None: ...

    def clear(self, service: ServiceId) -> None: ...


class IstioOutput:
    """A Publisher. `outputs`: those that policy gives to a namespace."""

    def __init__(
        self,
        cluster: Cluster,
        outputs: Callable[[str], frozenset[Output]],
        leads: Callable[[], bool],
        say: Say,
        written: Callable[[str], None],
    ) -> None:
        self._cluster, self._outputs, self._leads = cluster, outputs, leads
        self._say, self._written = say, written
        self._publisher: IstioPublisher | None = None
        self._said: dict[ServiceId, tuple[str, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.Task[None] | None = None

    def lead(self, is_left: Callable[[ServiceId], bool]) -> None:
        """`is_left`: it is there, and does not ask for this output."""
        self._said = {}
        self._publisher = IstioPublisher(
            self._cluster,
            allowed=lambda namespace: Output.ISTIO in self._outputs(namespace),
            refused=self._refused,
            written=self._written,
            leads=self._leads,
        )
        self._tidying = asyncio.get_running_loop().create_task(self._tidy(self._publisher, is_left))

    def follow(self) -> None:
        publisher, self._publisher = self._publisher, None
        if self._tidying is not None:
            self._tidying.cancel()
        if publisher is not None:
            task = asyncio.get_running_loop().create_task(publisher.stop())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self.follow()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def publish(self, published: Published) -> None:
        if self._publisher is not None:
            self._publisher.publish(published)

    def withdraw(self, service: ServiceId) -> None:
        self._said.pop(service, None)
        self._say.clear(service)
        if self._publisher is not None:
            self._publisher.withdraw(service)

    def policies_changed(self) -> None:
        if self._publisher is not None:
            self._publisher.look_again()

    def _refused(self, service: ServiceRecord, refusal: Refusal | None, sentence: str) -> None:
        if refusal is None:
            self._said.pop(service.id, None)
            self._say.clear(service.id)
            return
        self._say.alarm(service.id, refusal, f"{service.id}: {sentence}")
        if self._said.get(service.id) != (refusal, sentence):
            self._said[service.id] = (refusal, sentence)
            self._say.about(service, refusal, sentence, True)

    async def _tidy(self, publisher: IstioPublisher, is_left: Callable[[ServiceId], bool]) -> None:
        backoff = Backoff(first_s=1.0, longest_s=30.0)
        while True:
            try:
                return await publisher.tidy(is_left)
            except ApiFailure as failure:
                log.warning("Istio's objects of Services that ask for them no more: %s", failure)
                await asyncio.sleep(backoff.next_s())
