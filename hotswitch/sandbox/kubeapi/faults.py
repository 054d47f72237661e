"""What can be made to go wrong: answers of 500 or 409, slow answers, watches that expire or are cut, lost exec
results, watches that have died without a word.

Each fault says which requests it meets and how often; it is over when that is used up or when it is cancelled. The
server that refuses connections is `EmbeddedApi.stop` and `start`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(eq=False, slots=True)
class Fault:
    """`left`: how often it still strikes, None for always. `struck`: how often it has."""

    meets: Callable[[Ask], bool]
    status: int = 0
    delay_s: float = 0.0
    loses_exec: bool = False
    left: int | None = None
    struck: int = 0

    def cancel(self) -> None:
        self.left = 0

    def strikes(self, ask: Ask) -> bool:
        if self.left == 0 or not self.meets(ask):
            return False
        self.struck += 1
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._watches: set[Watch] = set()

    def fail(
        self,
        status: int,
        *,
        verb: str = "",
        resource: str = "",
        name: str = "",
        times: int | None = None,
        when: Callable[[Ask], bool] | None = None,
    ) -> Fault:
        """Answer with this HTTP status instead. `resource` with its subresource (`pods/status`); "" meets all."""
        return self._add(Fault(_meets(verb, resource, name, when), status=status, left=times))

    def slow(
        self,
        delay_s: float,
        *,
        verb: str = "",
        resource: str = "",
        name: str = "",
        times: int | None = None,
        when: Callable[[Ask], bool] | None = None,
    ) -> Fault:
        """Wait before the request is looked at (RBAC comes after it)."""
        return self._add(Fault(_meets(verb, resource, name, when), delay_s=delay_s, left=times))

    def lose_exec_status(
        self, *, name: str = "", times: int | None = 1, when: Callable[[Ask], bool] | None = None
    ) -> Fault:
        """The command runs, and the connection breaks before its result is told."""
        return self._add(Fault(_meets("", "pods/exec", name, when), loses_exec=True, left=times))

    def _add(self, fault: Fault) -> Fault:
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
        """Raises ApiError, or waits, as the faults that meet this request say."""
        for fault in tuple(self._faults):
            if fault.loses_exec or not fault.strikes(ask):
                continue
            await asyncio.sleep(fault.delay_s)
            if fault.status:
                raise ApiError(fault.status, _MESSAGES.get(fault.status, "injected fault"))

    def exec_is_lost(self, ask: Ask) -> bool:
        return any(fault.loses_exec and fault.strikes(ask) for fault in self._faults)


def _meets(verb: str, resource: str, name: str, when: Callable[[Ask], bool] | None) -> Callable[[Ask], bool]:
    def meets(ask: Ask) -> bool:
        return (
            verb in ("", ask.verb)
            and resource in ("", ask.path)
            and name in ("", ask.name)
            and (when is None or when(ask))
        )

    return meets
