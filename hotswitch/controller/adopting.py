"""Taking ordinary Services over, inside the controller: told to people by its voice, counted by its metrics (S4.4, I8).

Every step is in the journal; Events are written where a Service comes to another place; what lasts is an alarm.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import SERVICES
from hotswitch.cluster.lease_record import instant
from hotswitch.controller.alarms import KEY, Alarms
from hotswitch.controller.invalid import InvalidObjects
from hotswitch.controller.speaking import Speaker
from hotswitch.decide.endpoints.adopt import Do, Phase, Verdict, Word
from hotswitch.endpoints.adopter import Adopter, AdoptParts
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.events import Regarding
from hotswitch.report.journal import Entry

WARNINGS = frozenset({Word.YIELDED, Word.REFUSED, Word.WAITS, Word.FORGED})
_SAID = frozenset({Do.WRITE, Do.NOTHING})


class Adopting:
    """`refusal`: of a namespace, why its Services may not be taken over."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        speaker: Speaker,
        metrics: ControllerMetrics,
        alarms: Alarms,
        leads: Callable[[], bool],
        refusal: Callable[[str], str],
    ) -> None:
        self._speaker, self._metrics, self._alarms = speaker, metrics, alarms
        self.invalid = InvalidObjects(speaker.invalid)
        self.adopter = Adopter(
            AdoptParts(
                cluster=cluster,
                namespace=namespace,
                leads=leads,
                refusal=refusal,
                tell=self._tell,
                judged=self.invalid.read,
                trouble=speaker.trouble,
                written=metrics.slice_written,
            )
        )

    def _tell(self, service: ServiceId, uid: str, verdict: Verdict, *, is_new: bool) -> None:
        key = f"{KEY}{service}:adopt"
        if verdict.alarm:
            self._alarms.set(key, str(verdict.word), f"{service}: {verdict.sentence}", service.namespace)
        else:
            self._alarms.clear(key)
        if not is_new:
            return
        self._speaker.journal(_entry(service, verdict))
        if verdict.do in _SAID:
            self._metrics.adoption(str(verdict.word))
            regarding = Regarding(kind=SERVICES, namespace=service.namespace, name=service.name, uid=uid)
            warning = verdict.word in WARNINGS
            self._speaker.about(regarding, str(verdict.word), verdict.sentence, warning=warning)

    def refresh_metrics(self) -> None:
        found = Counter(self.adopter.phases.values())
        self._metrics.adopted({str(phase): found[phase] for phase in Phase})


def _entry(service: ServiceId, verdict: Verdict) -> Entry:
    return Entry(
        at=instant(time.time()),
        event="adopt",
        pod="",
        who="controller",
        code=str(verdict.word),
        why=verdict.sentence,
        evidence={"service": str(service), "step": str(verdict.do), "place": str(verdict.phase)},
    )
