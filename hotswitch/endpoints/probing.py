"""Every pod of every Service that asks for checks of our own, active and standby alike, for ever (S0.1, S0.2, S0.6).

Each backend has its own clock and its own thresholds; one that hangs holds up no other. Answers in a row make it
available (`rise`), failures in a row unavailable (`fall`); what says nothing counts for neither. After a first failure
the next question follows at once, so that `fall` is a number of questions and not of periods.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from hotswitch.backends import Backend, BackendId, Check, CheckKind, Health, ServiceId
from hotswitch.decide.endpoints.bounds import HURRY
from hotswitch.endpoints import checks
from hotswitch.endpoints.registry import Registry

Ask = Callable[[Check, str, checks.Done], checks.Question]


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers in a row that say the same. Pure."""

    health: Health = Health.UNKNOWN
    said: Health = Health.UNKNOWN
    alike: int = 0

    def with_answer(self, said: Health, check: Check) -> Tally:
        if said is Health.UNKNOWN:
            return self
        alike = self.alike + 1 if said is self.said else 1
        needed = check.rise if said is Health.AVAILABLE else check.fall
        return Tally(said if alike >= needed else self.health, said, alike)


class _Probed:
    def __init__(self, check: Check, address: str) -> None:
        self.check, self.address = check, address
        self.tally = Tally()
        self.timer: asyncio.TimerHandle | None = None
        self.question: checks.Question | None = None

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.question is not None:
            self.question.cancel()


class Prober:
    """Follows the registry, and writes into it what it finds."""

    def __init__(self, registry: Registry, ask: Ask = checks.ask) -> None:
        self._registry, self._ask = registry, ask
        self._probed: dict[tuple[ServiceId, BackendId], _Probed] = {}
        self._by_service: dict[ServiceId, set[BackendId]] = {}
        self._pending: set[ServiceId] = set()
        self._active = False
        registry.listen(self._changed)

    def start(self) -> None:
        self._active = True
        for service in self._registry.services:
            self._changed(service)

    def stop(self) -> None:
        """What was found is old from now on: who begins again begins with nothing."""
        self._active = False
        for (service, backend), each in self._probed.items():
            each.stop()
            known = self._registry.backend(service, backend)
            if known is not None:
                self._registry.put(replace(known, health=Health.UNKNOWN))
        self._probed.clear()
        self._by_service.clear()

    def __len__(self) -> int:
        return len(self._probed)

    # ---- who is asked ----

    def _changed(self, service: ServiceId) -> None:
        """Once for a burst: the list of a large Service is looked through once, not for each of its pods."""
        if self._active and service not in self._pending:
            self._pending.add(service)
            asyncio.get_running_loop().call_soon(self._look, service)

    def _look(self, service: ServiceId) -> None:
        self._pending.discard(service)
        if not self._active:
            return
        record = self._registry.service(service)
        check = record.options.check if record is not None else Check()
        wanted = {} if check.kind is CheckKind.KUBELET else self._askable(service)
        for backend in self._by_service.get(service, set()) - wanted.keys():
            self._forget(service, backend)
        for backend, address in wanted.items():
            self._watch(service, backend, check, address)

    def _askable(self, service: ServiceId) -> dict[BackendId, str]:
        found = self._registry.backends(service)
        return {each.id: each.addresses[0] for each in found if each.addresses and not each.ended}

    def _watch(self, service: ServiceId, backend: BackendId, check: Check, address: str) -> None:
        known = self._probed.get((service, backend))
        if known is not None and (known.check, known.address) == (check, address):
            return
        if known is not None:
            known.stop()
        probed = self._probed[service, backend] = _Probed(check, address)
        if known is not None and known.address == address:
            probed.tally = replace(known.tally, alike=0)
        self._by_service.setdefault(service, set()).add(backend)
        self._later(service, backend, probed, random.random() * min(check.period_s, 0.1))

    def _forget(self, service: ServiceId, backend: BackendId) -> None:
        self._probed.pop((service, backend)).stop()
        self._by_service[service].discard(backend)

    # ---- asking ----

    def _later(self, service: ServiceId, backend: BackendId, probed: _Probed, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        probed.timer = loop.call_later(wait_s, self._question, service, backend, probed)

    def _question(self, service: ServiceId, backend: BackendId, probed: _Probed) -> None:
        probed.question = self._ask(
            probed.check, probed.address, lambda said, detail: self._answered(service, backend, probed, said)
        )

    def _answered(self, service: ServiceId, backend: BackendId, probed: _Probed, said: Health) -> None:
        probed.question = None
        if self._probed.get((service, backend)) is not probed:
            return
        probed.tally = probed.tally.with_answer(said, probed.check)
        known: Backend | None = self._registry.backend(service, backend)
        if known is not None and known.health is not probed.tally.health:
            self._registry.put(replace(known, health=probed.tally.health))
        counting = said is not Health.AVAILABLE and probed.tally.health is not Health.UNAVAILABLE
        share = HURRY if counting else random.uniform(0.9, 1.0)
        self._later(service, backend, probed, probed.check.period_s * share)
