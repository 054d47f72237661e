"""A subscription to differences (delta xDS): thousands of resources, of which few change (S0.7)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hotswitch.endpoints.xds.kinds import WILDCARD
from hotswitch.endpoints.xds.request import Request
from hotswitch.endpoints.xds.resource import Resource, incremental_answer
from hotswitch.endpoints.xds.subscription import Subscription

LONGEST_VERSION = 64  # of what a client says that it holds


class IncrementalSubscription(Subscription):
    """Each answer has what is new, and the names of what is gone or never was."""

    def _understand(self, request: Request) -> None:
        self._answered(request)
        self._adrift &= self._under_way  # the rest it did not take
        if not self._begun:
            self._has.update((name, version[:LONGEST_VERSION]) for name, version in request.held.items())
            self._held_bytes = sum(len(name.encode()) for name in request.held)
            if self.kind.is_whole and not request.names:
                self._want((WILDCARD,))
            self._owes = self._all  # a client starts its work after a first answer, be it empty
        self._give_up(request.dropped)
        self._want(request.names)
        for name in request.names:
            if name != WILDCARD:
                (self._dirty if name in request.held else self._asked).add(name)

    def _next(self) -> bytes | None:
        while self._dirty or self._asked or self._owes:
            named = frozenset(self._asked)
            resources, removed = self._news()
            gone = [name for name in removed if self._has.pop(name, None) is not None or name in named]
            if gone and resources:  # apart: a client that refuses a resource would not take the removal either
                self._put_back(resources, named)
                resources = []
            if resources or gone or self._owes:
                self._owes = False
                self.refused.difference_update(gone)
                return self._message(resources, gone)
        return None

    def _put_back(self, resources: Iterable[Resource], asked: Collection[str]) -> None:
        for each in resources:
            (self._asked if each.name in asked else self._dirty).add(each.name)

    def _encode(self, nonce: str, resources: list[Resource], removed: Iterable[str]) -> bytes:
        return incremental_answer(self.kind, nonce, resources, removed)
