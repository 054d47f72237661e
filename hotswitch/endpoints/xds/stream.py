"""One stream of one client: its subscriptions by kind, in the order that a client wants. No I/O.

The same code serves ADS (all kinds on one stream) and EDS (endpoints only). Who the client is, it says in its first
request; until then it is told nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.figures import Figures
from hotswitch.endpoints.xds.incremental import IncrementalSubscription
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.request import Node, Request, incremental, state_of_the_world
from hotswitch.endpoints.xds.subscription import Source, Subscription
from hotswitch.endpoints.xds.whole import WholeSubscription

REASON_LENGTH = 500
log = logging.getLogger("hotswitch.xds")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How requests are read, and which subscription answers them."""

    read: Callable[[bytes], Request]
    subscription: type[Subscription]


WHOLE = Protocol(state_of_the_world, WholeSubscription)
INCREMENTAL = Protocol(incremental, IncrementalSubscription)


class Stream:
    """`served`: the kinds of this stream. `who`: the caller behind a node. `caller`: None before the first request."""

    def __init__(
        self,
        protocol: Protocol,
        served: Collection[Kind],
        source: Source,
        who: Callable[[Node], Caller],
        figures: Figures,
    ) -> None:
        self.node = Node()
        self._protocol, self._served, self._source, self._who = protocol, served, source, who
        self._figures = figures
        self._subscriptions: dict[Kind, Subscription] = {}
        self.caller: Caller | None = None

    @property
    def weight(self) -> int:
        """Bytes that are held for it while it stands."""
        return sum(each.weight for each in self._subscriptions.values())

    def forget(self) -> None:
        """All that the client has asked for."""
        self._subscriptions.clear()

    def hear(self, data: bytes) -> None:
        """Raises Malformed, TooMuch."""
        request = self._protocol.read(data)
        if self.caller is None:
            self.node = request.node or Node()
            self.caller = self._who(self.node)
        kind = self._kind(request.kind)
        if kind is not None:
            error = self._subscription(kind, self.caller).hear(request)
            if error is not None:
                self._refused(kind, error)

    def _kind(self, url: str) -> Kind | None:
        """None: nothing that is served here; such a request is passed over, as it would be without the resource."""
        if not url and len(self._served) == 1:
            return next(iter(self._served))
        return next((kind for kind in self._served if kind == url), None)

    def _subscription(self, kind: Kind, caller: Caller) -> Subscription:
        if kind not in self._subscriptions:
            self._subscriptions[kind] = self._protocol.subscription(kind, self._source, caller)
        return self._subscriptions[kind]

    def _refused(self, kind: Kind, error: str) -> None:
        self._figures.nacks[kind] += 1
        refused = sorted(self._subscriptions[kind].refused)[:10]
        log.error(
            "a client refuses what it was sent",
            extra={"node": self.node.id, "kind": kind, "names": refused, "reason": error[:REASON_LENGTH]},
        )

    def changed(self, kinds: Collection[Kind], names: Collection[str]) -> bool:
        """Those resources may have changed. Whether the client may have to be told."""
        concerned = [self._subscriptions[kind] for kind in kinds if kind in self._subscriptions]
        return any([each.changed(names) for each in concerned])

    def answer(self) -> bytes | None:
        """The next message to the client, made of what there is now."""
        for kind in Kind:
            subscription = self._subscriptions.get(kind)
            data = subscription.answer() if subscription is not None else None
            if data is not None:
                self._figures.sent(kind, len(data))
                return data
        return None
