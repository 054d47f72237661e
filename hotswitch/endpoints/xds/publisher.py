"""The publisher for Envoy and gRPC clients: what is published, as resources that each caller gets in its own order.

S0.5, S0.7: the active backend is the only one told of; the next request goes to the new one. S2.5 to S2.7: distances by
priority. It tells what the newest `Published` says and nothing else; a Service that is withdrawn has nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from hotswitch.backends import HOME, Locality, Published, ServiceId, ServiceRecord
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds import assignment
from hotswitch.endpoints.xds.callers import Places
from hotswitch.endpoints.xds.kinds import ALL_KINDS, ENDPOINTS_ONLY, Kind
from hotswitch.endpoints.xds.names import DOMAIN, parse
from hotswitch.endpoints.xds.resource import Resource
from hotswitch.endpoints.xds.told import Told

Changed = Callable[[Collection[Kind], Collection[str]], None]
log = logging.getLogger("hotswitch.xds")


class EdsPublisher:
    """A Publisher, and the Source of an XdsServer. `changed`: kinds and names of resources. `home`: our own cluster.
    `unread`: whether it is a Service of ours whose annotations cannot be read: of that, clients keep what they have."""

    def __init__(
        self,
        changed: Changed,
        *,
        home: str = HOME,
        domain: str = DOMAIN,
        unread: Callable[[ServiceId], bool] = lambda service: False,
    ) -> None:
        self._changed, self._domain, self._unread = changed, domain, unread
        self._places = Places(home)
        self._services: dict[ServiceId, Told] = {}

    # ---- from the registry ----

    def expect(self, record: ServiceRecord) -> None:
        """A Service that exists, and of which `publish` will tell: until then nothing is said of its endpoints."""
        told = self._services.setdefault(record.id, Told())
        if told.record != record:
            told.expect(record)
            self._changed(ALL_KINDS, set(told.names(self._domain)))

    def publish(self, published: Published) -> None:
        """An election says what holds each second; every client would be looked at for it."""
        told = self._services.setdefault(published.service.id, Told())
        is_same = told.record == published.service
        if is_same and told.newest == published:
            return
        before = () if is_same else tuple(told.names(self._domain))
        gone, new = told.publish(published)
        self._places.forget(gone)
        self._places.learn(new)
        if told.problem and not is_same:
            log.warning("a Service's annotations cannot be used", extra={"problem": told.problem})
        self._changed(ENDPOINTS_ONLY if is_same else ALL_KINDS, {*before, *told.names(self._domain)})

    def withdraw(self, service: ServiceId) -> None:
        told = self._services.pop(service, None)
        if told is not None:
            self._places.forget(told.backends)
            self._changed(ALL_KINDS, set(told.names(self._domain)))

    def load(self, service: ServiceId, demand: Mapping[Locality, float]) -> None:
        """What callers of each place ask of it at once, on average (S2.8)."""
        told = self._services.get(service)
        if told is not None and told.load(demand):
            self._changed(ENDPOINTS_ONLY, set(told.names(self._domain)))

    @property
    def services(self) -> Mapping[ServiceId, Told]:
        return self._services

    # ---- to the server ----

    def names(self, kind: Kind, caller: Caller) -> Collection[str]:
        """Those that are sent to who asks for all. Listeners are not: they are for gRPC, which asks by name."""
        if kind is Kind.LISTENER:
            return ()
        every = (target for told in self._services.values() for target in told.targets())
        return [str(each) for each in every if kind is not Kind.ROUTE or not each.rule]

    def resource(self, kind: Kind, name: str, caller: Caller) -> Resource | None:
        target = parse(name, self._domain)
        told = self._services.get(target.service) if target is not None else None
        if target is None or told is None:
            return None
        if kind is not Kind.ENDPOINTS:
            return told.fixed(kind, name, target)
        body = told.body(target, self.placed(caller))
        return None if body is None else Resource.of(kind, name, assignment.named(name, body))

    def gone(self, kind: Kind, name: str) -> Resource | None:
        """Of endpoints: that there are none. Envoy would keep those that it knew."""
        return Resource.of(kind, name, assignment.named(name, b"")) if kind is Kind.ENDPOINTS else None

    def pending(self, kind: Kind, name: str) -> bool:
        target = parse(name, self._domain) if kind is Kind.ENDPOINTS else None
        if target is None:
            return False
        told = self._services.get(target.service)
        return self._unread(target.service) if told is None else not told.is_told

    def placed(self, caller: Caller) -> Caller:
        """Where the caller really is, as far as anybody knows."""
        return self._places.of(caller)
