"""Does bypass leave a Service too few ready endpoints, as Kubernetes counts its pods? (S0.2, S4.4) Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from hotswitch.backends import Backend, Rotation


class Minimum(Protocol):
    def of(self, total: int) -> int:
        """How many of so many pods."""
        ...


class Wish(Protocol):
    """What the Service's annotations say (api.adopt)."""

    @property
    def opted_in(self) -> bool: ...
    @property
    def minimum(self) -> Minimum: ...
    @property
    def hold_s(self) -> float: ...
    @property
    def again(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Count:
    """Of one Service's pods. `helped`: those that only a takeover would let serve; `needed`: ready ones that it wants,
    never more than there are pods to serve at all."""

    ready: int
    helped: int
    expected: int
    needed: int

    @property
    def too_few(self) -> bool:
        """And bypass is why: where it helps nobody, nothing would be won."""
        return self.ready < self.needed and self.helped > 0

    def __str__(self) -> str:
        return f"{self.ready} of {self.expected} are ready, {self.needed} needed; {self.helped} more by bypass"


def count(wish: Wish, backends: Iterable[Backend]) -> Count:
    """`ready` as Kubernetes counts it."""
    there = [each for each in backends if not (each.ended or each.terminating)]
    ready = sum(each.kubelet_ready for each in there)
    helped = sum(_helped(each) for each in there)
    return Count(ready, helped, len(there), wish.minimum.of(len(there)))


def _helped(backend: Backend) -> bool:
    serves = backend.bypassed and backend.app_ready and backend.rotation is Rotation.IN
    return serves and not backend.kubelet_ready
