"""What is said of Services: Events, the journal, figures of elections, alarms while a matter lasts (S0.7, S4.6, I8)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.backends import Published, ServiceId, ServiceMode, ServiceRecord, Staleness
from hotswitch.cluster.kinds import SERVICES
from hotswitch.cluster.lease_record import instant
from hotswitch.controller.alarms import KEY, Alarms
from hotswitch.controller.speaking import Speaker
from hotswitch.decide.endpoints.active_standby import Verdict, Word
from hotswitch.endpoints.cluster_states import Said
from hotswitch.endpoints.registry import Registry
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.events import Regarding
from hotswitch.report.journal import Entry

FOREIGN, NOT_HEARD = "HSE010", "HSE040"
WARNINGS = frozenset({Word.WITHDRAWN, Word.NONE_AVAILABLE, Word.FENCING, Word.ORDER_REFUSED, Word.UNREADABLE})


class Endings:
    """A Publisher that tells data planes nothing: what was said of a Service to people ends when it is gone, or when it
    knows no roles any more."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms

    def publish(self, published: Published) -> None:
        if published.service.mode is not ServiceMode.ACTIVE_STANDBY:
            self._alarms.clear(f"{KEY}{published.service.id}")

    def withdraw(self, service: ServiceId) -> None:
        self._alarms.clear(f"{KEY}{service}")
        self._alarms.clear(_foreign_key(service))


@dataclass(frozen=True, slots=True)
class IstioWords:
    """istio_output.Say."""

    alarms: Alarms
    about: Callable[[ServiceRecord, str, str, bool], None]

    def alarm(self, service: ServiceId, code: str, sentence: str) -> None:
        self.alarms.set(f"{KEY}{service}:istio", code, sentence, service.namespace)

    def clear(self, service: ServiceId) -> None:
        self.alarms.clear(f"{KEY}{service}:istio")


class ServiceWords:
    """None of these waits. `namespace`: the controller's own, for what concerns no Service."""

    def __init__(
        self, speaker: Speaker, metrics: ControllerMetrics, alarms: Alarms, registry: Registry, namespace: str
    ) -> None:
        self._speaker, self._metrics, self._alarms = speaker, metrics, alarms
        self._registry, self._namespace = registry, namespace
        self._since: dict[ServiceId, float] = {}

    def heard(self, said: Said) -> None:
        key = f"{KEY}cluster:{said.name}"  # no Service is called so
        if said.state == Staleness.FRESH:
            self._alarms.clear(key)
        else:
            self._alarms.set(key, NOT_HEARD, said.sentence, self._namespace)

    def tell(self, service: ServiceRecord, verdict: Verdict, *, is_new: bool) -> None:
        self._measure(service, verdict, is_new)
        key = f"{KEY}{service.id}"
        if verdict.alarm:
            self._alarms.set(key, str(verdict.word), f"{service.id}: {verdict.sentence}", service.id.namespace)
        elif verdict.word is not Word.WITHDRAWN:
            self._alarms.clear(key)
        if is_new:
            self.about(service, str(verdict.word), verdict.sentence, verdict.word in WARNINGS)
            self._speaker.journal(_entry(service, verdict))

    def _measure(self, service: ServiceRecord, verdict: Verdict, is_new: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        if is_new:
            self._metrics.election(str(verdict.word))
        if verdict.word is Word.WITHDRAWN:
            self._since.setdefault(service.id, now_s)
        if verdict.word is Word.PROMOTED and is_new and (began_s := self._since.pop(service.id, None)) is not None:
            self._metrics.switched(now_s - began_s)

    def foreign(self, service: ServiceId, names: tuple[str, ...]) -> None:
        record = self._registry.service(service)
        key = _foreign_key(service)
        if not names or record is None:
            self._alarms.clear(key)
            return
        sentence = (
            f"{', '.join(names)}: slices of this Service that others wrote; every reader merges them with ours. "
            f"Delete them, and an Endpoints object of this name"
        )
        self.about(record, FOREIGN, sentence, True)
        self._alarms.set(key, FOREIGN, f"{service}: {sentence}", service.namespace)

    def about(self, service: ServiceRecord, code: str, sentence: str, warning: bool) -> None:
        regarding = Regarding(kind=SERVICES, namespace=service.id.namespace, name=service.id.name, uid=service.uid)
        self._speaker.about(regarding, code, sentence, warning=warning)


def _foreign_key(service: ServiceId) -> str:
    return f"{KEY}{service}:foreign"


def _entry(service: ServiceRecord, verdict: Verdict) -> Entry:
    active = verdict.election.active or verdict.election.fencing
    return Entry(
        at=instant(time.time()),
        event="election",
        pod="",
        uid=active.uid if active else "",
        who="controller",
        generation=verdict.election.generation,
        code=str(verdict.word),
        why=verdict.sentence,
        evidence={"service": str(service.id)},
    )
