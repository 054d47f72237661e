"""What can be made to go wrong: answers of 500 or 409, slow answers, answers that are none, connections that break
before a request is carried out or after it, watches that expire or are cut, watches that have died without a word.

Each fault says which requests it meets and how often, or for how long; it is over when that is used up or when it is
cancelled. The server that refuses connections is `EmbeddedApi.stop` and `start`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict, Unpack

from hotswitch.sandbox.kubeapi.failure import ApiError
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.watch import Watch

_MESSAGES = {
    409: "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version",
    410: "too old resource version: 1 (2)",
    429: "Too many requests, please try again later.",
    500: "Internal error occurred: etcdserver: request timed out",
    503: "apiserver not ready",
}


PAGE = "<html><body>it is not the API server that says this</body></html>"


class Cut(Exception):
    """The connection breaks here, without an answer."""


class Garbled(Exception):
    """The answer is a success, and no JSON."""


class Which(TypedDict, total=False):
    """`resource` with its subresource (`pods/status`); "" meets all. `times`: None for always. `lasts_s`: from when it
    strikes first."""

    verb: str
    resource: str
    name: str
    times: int | None
    lasts_s: float
    when: Callable[[Ask], bool] | None


@dataclass(eq=False, slots=True)
class Fault:
    """`left`: how often it still strikes, None for always. `struck`: how often it has. `error`: in place of the answer;
    `after` the request was carried out."""

    which: Which
    error: Callable[[], Exception] | None = None
    after: bool = False
    delay_s: float = 0.0
    left: int | None = None
    struck: int = 0
    until_s: float = float("inf")

    def cancel(self) -> None:
        self.left = 0

    @property
    def is_over(self) -> bool:
        return self.left == 0 or time.monotonic() > self.until_s

    def strikes(self, ask: Ask) -> bool:
        if self.is_over or not self._meets(ask):
            return False
        if not self.struck and "lasts_s" in self.which:
            self.until_s = time.monotonic() + self.which["lasts_s"]
        self.struck += 1
        if self.left is not None:
            self.left -= 1
        return True

    def _meets(self, ask: Ask) -> bool:
        which, when = self.which, self.which.get("when")
        return (
            which.get("verb", "") in ("", ask.verb)
            and which.get("resource", "") in ("", ask.path)
            and which.get("name", "") in ("", ask.name)
            and (when is None or when(ask))
        )


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._watches: set[Watch] = set()

    def fail(self, status: int, *, retry_after_s: int = 0, **which: Unpack[Which]) -> Fault:
        """Answer with this HTTP status instead. `retry_after_s`: of a 429, 1 if not said."""
        said, details = _MESSAGES.get(status, "injected fault"), {"retryAfterSeconds": retry_after_s}
        return self._add(Fault(which, lambda: ApiError(status, said, details=details)))

    def cut(self, *, after: bool = False, **which: Unpack[Which]) -> Fault:
        """The connection breaks before the request is looked at; or `after` it was carried out, in place of its answer
        (of exec: the command runs, and its result is not told)."""
        return self._add(Fault(which, Cut, after))

    def garble(self, *, after: bool = False, **which: Unpack[Which]) -> Fault:
        """A page of somebody else's comes with 200, and nothing was done; or `after` it was carried out."""
        return self._add(Fault(which, Garbled, after))

    def slow(self, delay_s: float, **which: Unpack[Which]) -> Fault:
        """Wait before the request is looked at (RBAC comes after it)."""
        return self._add(Fault(which, delay_s=delay_s))

    def lose_exec_status(self, **which: Unpack[Which]) -> Fault:
        """The command runs, and the connection breaks before its result is told; once, if not said otherwise."""
        told: Which = {"times": 1, **which, "resource": "pods/exec"}
        return self._add(Fault(told, Cut, after=True))

    def _add(self, fault: Fault) -> Fault:
        fault.left = fault.which.get("times")
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def cut_watches(self, resource: str = "", *, broken: bool = False) -> int:
        """End all open watches (of this plural) without a word; how many there were. `broken`: by a reset."""
        return self._end(resource, None, broken=broken)

    def expire_watches(self, resource: str = "") -> int:
        """Tell all open watches that their version is too old (410): their clients have to list anew."""
        return self._end(resource, ApiError(410, _MESSAGES[410]))

    def silence_watches(self, resource: str = "") -> int:
        """Let all open watches live on and say nothing more: zombies, which only their client's patience can find."""
        met = self._met(resource)
        for watch in met:
            watch.silence()
        return len(met)

    def _met(self, resource: str) -> list[Watch]:
        return [watch for watch in self._watches if resource in ("", watch.ask.resource.plural)]

    def _end(self, resource: str, error: ApiError | None, *, broken: bool = False) -> int:
        met = self._met(resource)
        for watch in met:
            watch.end(error, broken=broken)
        return len(met)

    def opened(self, watch: Watch) -> Callable[[], None]:
        """A watch tells that it is open; the returned function that it is not any more."""
        self._watches.add(watch)
        return lambda: self._watches.discard(watch)

    @property
    def open_watches(self) -> tuple[Watch, ...]:
        return tuple(self._watches)

    async def strike(self, ask: Ask) -> None:
        """Before it is carried out. Raises ApiError, Cut or Garbled, or waits, as the faults that meet it say."""
        for fault in tuple(self._faults):
            if fault.after or not fault.strikes(ask):
                continue
            await asyncio.sleep(fault.delay_s)
            if fault.error is not None:
                raise fault.error()

    def strike_after(self, ask: Ask) -> None:
        """When it was carried out: raises Cut or Garbled."""
        for fault in tuple(self._faults):
            if fault.after and fault.error is not None and fault.strikes(ask):
                raise fault.error()
