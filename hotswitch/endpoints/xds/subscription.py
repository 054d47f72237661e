"""One kind of resource on one stream: what the client wants, has and was sent; what it is to be sent next. No I/O.

Rules of the protocol (xDS REST and gRPC protocol, envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol) that are kept:
- An answer is made of what there is when it can be sent, never kept: a slow reader gets the newest state, and costs a
  set of names (S0.7).
- A refused answer (NACK) is not sent again as long as its resources stay the same; the client keeps what it had. If it
  carried several resources, each is sent once more by itself, so that one bad resource holds up no other.
- Of a resource that is gone: what is said of endpoints is that nobody serves, since clients otherwise go on with the
  last they have heard, and addresses are used again by others.
- Of a resource that exists and is not known yet, nothing is said: a controller that has just begun to lead must not
  take from clients what its predecessor told them (I1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable
from typing import Protocol

from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.kinds import WILDCARD, Kind
from hotswitch.endpoints.xds.request import Request
from hotswitch.endpoints.xds.resource import Resource

WINDOW = 4  # answers of a kind that may be under way unanswered
ANSWER_BYTES = 1 << 20  # more is told in several answers: gRPC clients take 4 MiB at most
MOST_NAMES = 20_000  # that one stream may ask for, or say that it has
UNKNOWN = ""  # no version of any resource: the client may have the name, in some version
LONGEST_NAME = 512  # of a Service's port: less than 400 with the longest names that Kubernetes allows
WANTED_BYTES = 400  # what a name that is asked for takes beside its own characters, in every set that it may be in
HAD_BYTES = 320  # and one that was sent, or is held from before: its version, and again its place


class TooMuch(ValueError):
    """A client asks for more than it may."""


class Source(Protocol):
    """What there is, as one caller is to see it. Names of a kind may exist for some callers only."""

    def resource(self, kind: Kind, name: str, caller: Caller) -> Resource | None: ...

    def names(self, kind: Kind, caller: Caller) -> Collection[str]: ...

    def gone(self, kind: Kind, name: str) -> Resource | None:
        """What is said of one that a client has and that is no more; None: nothing, it is only left out."""
        ...

    def pending(self, kind: Kind, name: str) -> bool:
        """Whether it exists, and what there is to say of it is not known yet. It will be named in `changed`."""
        ...


class Subscription(ABC):
    """`refused`: names whose newest version the client does not take."""

    def __init__(self, kind: Kind, source: Source, caller: Caller) -> None:
        self.kind, self.refused = kind, set[str]()
        self._source, self._caller = source, caller
        self._wanted: set[str] = set()
        self._wanted_bytes = self._held_bytes = 0  # of their characters
        self._all = False
        self._has: dict[str, str] = {}  # name -> version, as last sent, or held from before
        self._dirty: set[str] = set()  # to be looked at
        self._asked: set[str] = set()  # to be sent even if the client has it
        self._later: set[str] = set()  # asked for, and not known yet
        self._alone: deque[str] = deque()  # refused together: once more, one by one
        self._unanswered: dict[str, tuple[str, ...]] = {}  # nonce -> names
        self._adrift: set[str] = set()  # given up while under way: wanted again, the client may have taken it
        self._owes = False  # an answer is waited for, be it empty
        self._count = 0
        self._begun = False

    @property
    def weight(self) -> int:
        """Bytes that are held for as long as the stream stands; rather too many than too few."""
        named = self._wanted_bytes + WANTED_BYTES * len(self._wanted)
        return named + self._held_bytes + HAD_BYTES * (len(self._has) + len(self._adrift))

    # ---- from the client ----

    def hear(self, request: Request) -> str | None:
        """Take in a request. An answer's refusal: the client's words. Raises TooMuch."""
        self._weigh(request)
        self._understand(request)
        self._begun = True
        if len(self._wanted) > MOST_NAMES:
            raise TooMuch(f"{len(self._wanted)} names of {self.kind} are asked for; {MOST_NAMES} are allowed")
        return request.error

    def _weigh(self, request: Request) -> None:
        """What it names is kept as long as the stream stands."""
        longest = max(map(len, (*request.names, *request.held)), default=0)
        if longest > LONGEST_NAME:
            raise TooMuch(f"a name of {longest} characters is asked for; {LONGEST_NAME} are allowed")
        if len(request.held) > MOST_NAMES:
            raise TooMuch(f"{len(request.held)} names of {self.kind} are held; {MOST_NAMES} are allowed")

    @abstractmethod
    def _understand(self, request: Request) -> None: ...

    def _answered(self, request: Request) -> bool:
        """Whether this is the answer to something sent and not answered yet."""
        names = self._unanswered.pop(request.nonce, None)
        if names is None:
            return False
        if request.error is None:
            self.refused.difference_update(names if self._sends_parts else set(self.refused))
        else:
            self._nack(names)
        return True

    def _nack(self, names: tuple[str, ...]) -> None:
        if len(names) > 1 and self._sends_parts:
            self._alone.extend(names)
        else:
            self.refused.update(self._has.keys() & names)  # the others are given up or gone by now

    @property
    def _sends_parts(self) -> bool:
        """Whether an answer may have one resource and say nothing of the others."""
        return True

    def _want(self, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                self._all = True
                self._dirty.update(self._source.names(self.kind, self._caller), self._has)
            elif name not in self._wanted:
                self._wanted.add(name)
                self._wanted_bytes += len(name.encode())
                if name in self._adrift:
                    self._has.setdefault(name, UNKNOWN)

    @property
    def _under_way(self) -> set[str]:
        """Names in answers that the client has not answered yet."""
        return set[str]().union(*self._unanswered.values())

    def _give_up(self, names: Iterable[str]) -> None:
        under_way = self._under_way
        for name in names:
            if name == WILDCARD:
                self._all = False
                self.refused &= self._wanted
            if name in self._wanted:
                self._wanted.remove(name)
                self._wanted_bytes -= len(name.encode())
            for known in (self._dirty, self._asked, self._later, self.refused):
                known.discard(name)
            self._has.pop(name, None)
            if name in under_way:
                self._adrift.add(name)

    # ---- from the source ----

    def changed(self, names: Collection[str]) -> bool:
        """Whether the client may have to be told."""
        before = len(self._dirty)
        self._dirty.update(names if self._all else self._wanted.intersection(names))
        self._asked |= self._later & self._dirty
        self._later -= self._dirty
        return len(self._dirty) != before

    # ---- to the client ----

    def answer(self) -> bytes | None:
        """What is to be sent now; None: nothing, or not before the client has answered."""
        if len(self._unanswered) >= WINDOW or not self._begun:
            return None
        if self._alone:
            return self._one() if not self._unanswered else None
        return self._next()

    def _one(self) -> bytes | None:
        while self._alone:
            name = self._alone.popleft()
            resource = self._look(name)
            if resource is not None and (name in self._wanted or self._all):
                return self._message([resource], ())
        return self._next()

    @abstractmethod
    def _next(self) -> bytes | None: ...

    @abstractmethod
    def _encode(self, nonce: str, resources: list[Resource], removed: Iterable[str]) -> bytes: ...

    def _message(self, resources: list[Resource], removed: Iterable[str]) -> bytes:
        self._count += 1
        nonce = str(self._count)
        self._unanswered[nonce] = tuple(each.name for each in resources)
        self._has.update((each.name, each.version) for each in resources)
        return self._encode(nonce, resources, removed)

    def _news(self) -> tuple[list[Resource], list[str]]:
        """Some of what is dirty or asked for, in the order of names: what differs, and what is gone."""
        resources: list[Resource] = []
        removed: list[str] = []
        size = 0
        for name in sorted(self._dirty | self._asked):
            if size >= ANSWER_BYTES:
                break
            resource = self._look(name)
            if resource is None:
                removed += [name] if not self._postponed(name) else []
            elif name in self._asked or self._has.get(name) != resource.version:
                resources.append(resource)
                size += len(resource.content)
            self._dirty.discard(name)
            self._asked.discard(name)
        return resources, removed

    def _postponed(self, name: str) -> bool:
        is_pending = self._source.pending(self.kind, name)
        if is_pending and name in self._asked:
            self._later.add(name)
        return is_pending

    def _look(self, name: str) -> Resource | None:
        found = self._source.resource(self.kind, name, self._caller)
        if found is None and name in self._has and not self._source.pending(self.kind, name):
            return self._source.gone(self.kind, name)
        return found
