"""A subscription to the state of the world: the protocol's first form, that of gRPC and of Envoy by default (S0.7)."""

from __future__ import annotations

from collections.abc import Iterable

from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.kinds import WILDCARD, Kind
from hotswitch.endpoints.xds.request import Request
from hotswitch.endpoints.xds.resource import Resource, whole_answer
from hotswitch.endpoints.xds.subscription import Source, Subscription


class WholeSubscription(Subscription):
    """State of the world. Of clusters and listeners each answer has all; of endpoints and routes what has changed."""

    def __init__(self, kind: Kind, source: Source, caller: Caller) -> None:
        super().__init__(kind, source, caller)
        self._nonce = ""
        self._dropped: set[str] = set()  # given up in words that were passed over: wanted since, it is wanted anew
        self._named = False  # once a client has named something, to name nothing is to want nothing

    @property
    def _sends_parts(self) -> bool:
        return not self.kind.is_whole

    def _understand(self, request: Request) -> None:
        answered = self._answered(request)
        named = set(request.names)
        if request.nonce and request.nonce != self._nonce:
            self._dropped |= self._wanted - named
            return  # said before the client knew of a newer answer: it will speak again when it does
        self._named |= bool(named)
        if self.kind.is_whole and not self._named:
            named.add(WILDCARD)
        refused = set(self.refused)
        taken = self._dropped & named & self._has.keys()
        self._give_up(self._dropped)
        self._adrift |= taken  # by a client that wanted it again before it read what was under way
        self._dropped.clear()
        before = self._wanted | ({WILDCARD} if self._all else set())
        self._give_up(before - named)
        self._owes |= self.kind.is_whole and self.refused != refused  # what was refused with it may be taken without
        self._want(named - before)
        if request.nonce:  # it has read all that was sent, and took what it still wants
            self._adrift.clear()
        again = not answered and (named == before or not request.nonce)  # e.g. of a cluster that was made anew
        self._owe((named if again else named - before) - {WILDCARD}, again or bool(named - before))

    def _owe(self, names: set[str], anything: bool) -> None:
        if self.kind.is_whole:
            self._owes |= anything
        else:
            self._asked |= names

    def _next(self) -> bytes | None:
        return self._everything() if self.kind.is_whole else self._parts()

    def _parts(self) -> bytes | None:
        while self._dirty or self._asked:
            resources, _ = self._news()
            if resources:
                return self._message(resources, ())
        return None

    def _everything(self) -> bytes | None:
        if not (self._dirty or self._asked or self._owes):
            return None
        names = set(self._wanted)
        if self._all:
            names.update(self._source.names(self.kind, self._caller))
        found = (self._source.resource(self.kind, name, self._caller) for name in sorted(names))
        resources = [each for each in found if each is not None]
        is_new = {each.name: each.version for each in resources} != self._has
        due = self._owes or bool(self._asked) or is_new
        self._dirty.clear()
        self._asked.clear()
        self._owes = False
        if not due:
            return None
        self._has.clear()
        return self._message(resources, ())

    def _encode(self, nonce: str, resources: list[Resource], removed: Iterable[str]) -> bytes:
        self._nonce = nonce
        return whole_answer(self.kind, nonce, nonce, resources)
