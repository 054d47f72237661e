"""One Service as xDS clients are told of it: its places, their bytes, and each caller's assignment.

What is kept: bytes of each backend (made when it changes), of each place, and of the assignment of each class of
callers; callers of one place are one class, but for those that are backends themselves (own pod first, S2.5). A class's
last ladder is kept over changes, since shares move only when they must (decide/endpoints/nearest.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from hotswitch.backends import Backend, BackendId, Locality, Published, ServicePort, ServiceRecord
from hotswitch.decide.endpoints.capacity import Bounds, bounds
from hotswitch.decide.endpoints.nearest import NOBODY, Arranged, Ladder, Part, Rung, arranged, ladder
from hotswitch.decide.endpoints.place import Caller, Group, Order, grouped
from hotswitch.decide.endpoints.rules import Orders, usual
from hotswitch.endpoints.orders import orders
from hotswitch.endpoints.xds import assignment
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.names import Target, spellings
from hotswitch.endpoints.xds.resource import Resource
from hotswitch.model import Port

Class = tuple[str, Locality, BackendId | None]
"""Rule, place, own pod."""
MOST_CLASSES = 20_000  # a caller may claim any place
MOST_BYTES = 64 << 20  # of the assignments that are kept


class Told:
    """`problem`: why its annotations cannot be used; then it is told of in the usual order, without rules."""

    def __init__(self) -> None:
        self.record: ServiceRecord | None = None
        self.newest: Published | None = None
        self.orders, self.problem = Orders(), ""
        self._groups: tuple[Group, ...] = ()
        self._encoded: dict[tuple[BackendId, Port], tuple[Backend, bytes]] = {}
        self._own: dict[str, BackendId] = {}  # by the pod's name, and by its addresses
        self._joined: dict[Port, list[bytes | None]] = {}  # of each group; None: to be made
        self._arranged: dict[tuple[str, Locality], Arranged] = {}
        self._bodies: dict[tuple[Port, Class], bytes] = {}
        self._bodies_bytes = 0
        self._ladders: dict[Class, Ladder] = {}
        self._stood: dict[Class, Ladder] = {}  # before the last change
        self._fixed: dict[tuple[Kind, str], Resource] = {}
        self._bounds: dict[str, Mapping[Locality, Bounds]] = {}
        self._demand: Mapping[Locality, float] = {}

    @property
    def is_told(self) -> bool:
        return self.newest is not None

    # ---- what is new ----

    def publish(self, published: Published) -> tuple[list[Backend], list[Backend]]:
        """The whole of the Service as it is now. Backends that are gone or were others, and those that are new so."""
        if published.service != self.record:
            self._read(published.service)
        self.newest = published
        before, self._groups = self._groups, grouped(published.endpoints)
        if [each.key for each in before] == [each.key for each in self._groups]:
            pairs = enumerate(zip(before, self._groups, strict=True))
            touched = [number for number, (old, new) in pairs if old.backends != new.backends]
            gone, new = _all(before[each] for each in touched), _all(self._groups[each] for each in touched)
            for pieces in self._joined.values():
                for number in touched:
                    pieces[number] = None
        else:
            self._arranged, self._joined = {}, {}
            gone, new = _all(before), _all(self._groups)
        self._forget(gone, new)
        self._move()
        return gone, new

    def expect(self, record: ServiceRecord) -> None:
        """It exists; what it has is not known yet, or goes on to be what it was."""
        self._read(record)
        self._move()

    def load(self, demand: Mapping[Locality, float]) -> bool:
        """Requests at once by the callers' places (S2.8). Whether that may change anything."""
        if demand == self._demand:
            return False
        self._demand = demand
        self._move()
        return True

    def _move(self) -> None:
        self._stood |= self._ladders
        if len(self._stood) > MOST_CLASSES:
            self._stood.clear()
        self._ladders, self._bodies, self._bounds = {}, {}, {}
        self._bodies_bytes = 0

    def _read(self, record: ServiceRecord) -> None:
        self._encoded.clear()
        self._joined.clear()
        self._fixed.clear()
        self._arranged.clear()
        self.record, self.problem = record, ""
        try:
            self.orders = orders(record.mode, record.annotations)
        except ValueError as wrong:
            self.orders, self.problem = Orders(usual(record.mode)), str(wrong)

    # ---- what is told ----

    def names(self, domain: str) -> Iterator[str]:
        """Of all its resources, in every spelling."""
        for target in self.targets():
            yield from spellings(target, domain)

    def targets(self) -> Iterator[Target]:
        if self.record is not None:
            for port in self.record.ports:
                for rule in ("", *(each.name for each in self.orders.rules)):
                    yield Target(self.record.id, port.port, rule)

    @property
    def backends(self) -> list[Backend]:
        """Those that may serve."""
        return _all(self._groups)

    def knows(self, target: Target) -> bool:
        return any(each == target for each in self.targets())

    def body(self, target: Target, caller: Caller) -> bytes | None:
        """Of a ClusterLoadAssignment, all but its name. None: no such port or rule, or nothing is known yet."""
        if not (self.is_told and self.knows(target)):
            return None
        key = (target.port, self._class(target.rule, caller))
        if key not in self._bodies:
            found = self.ladder(caller, target.rule)
            if len(self._bodies) >= MOST_CLASSES or self._bodies_bytes >= MOST_BYTES:
                self._bodies, self._bodies_bytes = {}, 0
            made = self._bodies[key] = assignment.assignment(caller, found, partial(self._parts, target.port))
            self._bodies_bytes += len(made)
        return self._bodies[key]

    def fixed(self, kind: Kind, name: str, target: Target) -> Resource | None:
        """A cluster, a listener or a route: the same for everybody. None: there is none of that name."""
        if not self.knows(target) or (target.rule and kind is not Kind.CLUSTER):
            return None
        if (kind, name) not in self._fixed:
            self._fixed[kind, name] = Resource.of(kind, name, self._build(kind, name, target))
        return self._fixed[kind, name]

    def _build(self, kind: Kind, name: str, target: Target) -> bytes:
        from hotswitch.endpoints.xds import resources  # heavy: only for clients that take clusters from us

        if kind is Kind.CLUSTER:
            return resources.cluster(name, self._port(target.port).app_protocol)
        if kind is Kind.LISTENER:
            return resources.listener(name, target)
        return resources.routes(name, target, self.orders.rules)

    def _port(self, port: Port) -> ServicePort:
        assert self.record is not None
        return next(each for each in self.record.ports if each.port == port)

    def ladder(self, caller: Caller, rule: str = "") -> Ladder:
        order, kind = self.orders.of(rule) or Order(), self._class(rule, caller)
        if kind not in self._ladders:
            if len(self._ladders) >= MOST_CLASSES:
                self._move()
            limits = self._limits(rule, order).get(caller.locality)
            before = self._stood.get(kind, NOBODY)
            arrangement = self._arrangement(rule, order, caller.locality)
            self._ladders[kind] = ladder(caller, self._groups, arrangement, limits, before)
        return self._ladders[kind]

    def _arrangement(self, rule: str, order: Order, here: Locality) -> Arranged:
        if (rule, here) not in self._arranged:
            if len(self._arranged) >= MOST_CLASSES:
                self._arranged.clear()
            self._arranged[rule, here] = arranged(here, self._groups, order)
        return self._arranged[rule, here]

    def members(self, rung: Rung) -> Iterator[Backend]:
        """Those of a rung of `ladder`."""
        for part in rung.parts:
            yield from (each for each in self._groups[part.group].backends if _belongs(part, each.id))

    def _class(self, rule: str, caller: Caller) -> Class:
        """By name where the caller says one: pods on the host's network share its address."""
        keys = (caller.pod,) if caller.pod else caller.addresses
        return rule, caller.locality, next((self._own[key] for key in keys if key in self._own), None)

    def _limits(self, rule: str, order: Order) -> Mapping[Locality, Bounds]:
        if rule not in self._bounds:
            self._bounds[rule] = bounds(self._groups, order, self._demand) if self._demand else {}
        return self._bounds[rule]

    # ---- bytes ----

    def _parts(self, port: Port, parts: Iterable[Part]) -> bytes:
        pieces = self._joined.setdefault(port, [None] * len(self._groups))
        return b"".join(
            [
                (pieces[each.group] or self._piece(port, pieces, each.group))
                if each.only is None and each.without is None
                else self._selected(port, each)
                for each in parts
            ]
        )

    def _piece(self, port: Port, pieces: list[bytes | None], group: int) -> bytes:
        made = b"".join(self._endpoint(each, port) for each in self._groups[group].backends)
        pieces[group] = made
        return made

    def _selected(self, port: Port, part: Part) -> bytes:
        chosen = (each for each in self._groups[part.group].backends if _belongs(part, each.id))
        return b"".join(self._endpoint(each, port) for each in chosen)

    def _endpoint(self, backend: Backend, port: Port) -> bytes:
        key = (backend.id, port)
        known = self._encoded.get(key)
        if known is None or known[0] is not backend:
            known = self._encoded[key] = (backend, self._encode(backend, port))
        return known[1]

    def _encode(self, backend: Backend, port: Port) -> bytes:
        assert self.record is not None
        name = self._port(port).name
        own_port = next((each.port for each in backend.ports if each.name == name), None)
        return b"" if own_port is None else assignment.endpoint(backend, own_port, self.record.families[0])

    def _forget(self, gone: Iterable[Backend], new: Iterable[Backend]) -> None:
        for each in gone:
            for key in _keys(each):
                self._own.pop(key, None)
        self._own.update((key, each.id) for each in new for key in _keys(each))
        for backend in {each.id for each in gone} - {each.id for each in new}:
            for target in self.targets():
                self._encoded.pop((backend, target.port), None)


def _belongs(part: Part, backend: BackendId) -> bool:
    return part.only in (None, backend) and part.without != backend


def _all(groups: Iterable[Group]) -> list[Backend]:
    return [each for group in groups for each in group.backends]


def _keys(backend: Backend) -> tuple[str, ...]:
    return (f"{backend.pod.namespace}/{backend.pod.name}", *backend.addresses)
