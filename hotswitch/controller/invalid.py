"""What users wrote that cannot be used, as it is now: said when it is found, forgotten when it is mended (S4.6, I2).

An object that is read anew brings all that is wrong with it, and whatever is not among that any longer has ended. So
the figure that an alert rests on falls by itself, and nothing is kept of objects that are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from hotswitch.config.objects import ObjectRef, Problem

_Key = tuple[str, str, str]


class InvalidObjects:
    """`say`: told of each problem once, for as long as it stands."""

    def __init__(self, say: Callable[[Problem], None]) -> None:
        self._say = say
        self._found: dict[_Key, tuple[ObjectRef, tuple[Problem, ...]]] = {}

    def read(self, ref: ObjectRef, problems: Iterable[Problem]) -> None:
        """`problems`: all of this object; what others say about it is told of them."""
        mine = tuple(each for each in problems if each.object_ref == ref)
        before = self._found.get(_key(ref))
        if not mine:
            self._found.pop(_key(ref), None)
            return
        self._found[_key(ref)] = ref, mine
        known = before[1] if before is not None and before[0] == ref else ()
        for each in mine:
            if each not in known:
                self._say(each)

    def gone(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        """`uid`: of the one that went; another that has its name by now stays."""
        known = self._found.get((kind, namespace, name))
        if known is not None and uid in ("", known[0].uid):
            del self._found[kind, namespace, name]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(each for _, found in self._found.values() for each in found)

    @property
    def by_kind(self) -> Counter[str]:
        """Objects, not values."""
        return Counter(kind for kind, _, _ in self._found)


def _key(ref: ObjectRef) -> _Key:
    return ref.kind, ref.namespace, ref.name
