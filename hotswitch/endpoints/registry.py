"""All backends of all Services that hotswitch publishes, in memory: the register of S2.2 to S2.4.

Filled by watches (sources.py) and by probing; read by policies and publishers. Whoever listens is told which Service
has changed, never what: it reads the registry when it is ready to, so a burst costs one look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hotswitch.backends import Backend, BackendId, ServiceId, ServiceRecord

Listener = Callable[[ServiceId], None]


class Registry:
    """Only for the event loop's thread. Listeners must not wait."""

    def __init__(self) -> None:
        self._services: dict[ServiceId, ServiceRecord] = {}
        self._backends: dict[ServiceId, dict[BackendId, Backend]] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def listen_no_more(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def services(self) -> Mapping[ServiceId, ServiceRecord]:
        return self._services

    def service(self, service: ServiceId) -> ServiceRecord | None:
        return self._services.get(service)

    def backends(self, service: ServiceId) -> tuple[Backend, ...]:
        """In the order of cluster, then the pods' names: the same for everybody who asks."""
        known = self._backends.get(service, {}).values()
        return tuple(sorted(known, key=lambda each: (each.locality.cluster, each.pod.name, each.pod.uid)))

    def backend(self, service: ServiceId, backend: BackendId) -> Backend | None:
        return self._backends.get(service, {}).get(backend)

    def __len__(self) -> int:
        return sum(map(len, self._backends.values()))

    # ---- changes ----

    def put_service(self, record: ServiceRecord) -> None:
        if self._services.get(record.id) != record:
            self._services[record.id] = record
            self._tell((record.id,))

    def drop_service(self, service: ServiceId) -> None:
        """With all its backends."""
        self._backends.pop(service, None)
        if self._services.pop(service, None) is not None:
            self._tell((service,))

    def put(self, backend: Backend) -> None:
        known = self._backends.setdefault(backend.service, {})
        if known.get(backend.id) != backend:
            known[backend.id] = backend
            self._tell((backend.service,))

    def drop(self, service: ServiceId, backend: BackendId) -> None:
        if self._backends.get(service, {}).pop(backend, None) is not None:
            self._tell((service,))

    def touch(self, service: ServiceId) -> None:
        """Something else about it is news: its pods are known now, say."""
        self._tell((service,))

    def _tell(self, services: Iterable[ServiceId]) -> None:
        for service in services:
            for listener in self._listeners:
                listener(service)
