"""Pods beside each other: how many are open, how many look sick, which have fallen ill lately (I3).

The counts are kept, not made: each pod is noted when something of it has changed, in the same turn of the event loop,
so they are exact when another one is decided on, and asking costs the same for two pods as for a thousand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

Workload = tuple[str, str]
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """What one pod adds to the counts. `workload`: with its namespace. `ill_s`: when its last fault began; None: it has
    none."""

    workload: Workload
    node: str = ""
    open: bool = False
    sick: bool = False
    ill_s: float | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """Of all pods but one: open in each place, and sick."""

    open: int
    open_in_namespace: int
    open_on_node: int
    open_of_workload: int
    sick: int


class Crowd:
    """Of pods by uid."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}
        self._open: Counter[Place] = Counter()  # by `_places`
        self._sick = 0
        self._ill: dict[Workload, dict[str, float]] = {}

    def __len__(self) -> int:
        return len(self._notes)

    def __contains__(self, uid: str) -> bool:
        return uid in self._notes

    def put(self, uid: str, note: Note) -> None:
        """This is how it stands now."""
        if note != self._notes.get(uid):
            self.forget(uid)
            self._notes[uid] = note
            self._count(uid, note, 1)

    def forget(self, uid: str) -> None:
        """It is gone."""
        known = self._notes.pop(uid, None)
        if known is not None:
            self._count(uid, known, -1)

    def clear(self) -> None:
        for uid in list(self._notes):
            self.forget(uid)

    def _count(self, uid: str, note: Note, by: int) -> None:
        self._sick += by * note.sick
        for place in _places(note) if note.open else ():
            self._open[place] += by
            if not self._open[place]:
                del self._open[place]
        if note.ill_s is not None:
            mates = self._ill.setdefault(note.workload, {})
            if by > 0:
                mates[uid] = note.ill_s
            else:
                mates.pop(uid, None)
            if not mates:
                del self._ill[note.workload]

    def beside(self, uid: str, stands: Note) -> Beside:
        """`stands`: where it is, if it was not noted yet."""
        known = self._notes.get(uid)
        places = _places(known or stands)
        everywhere, namespace, node, workload = (self._open[place] for place in places)
        open_, sick = (known.open, known.sick) if known is not None else (False, False)
        mates = workload - open_ if places[-1][-1] else 0  # pods of no workload are no mates
        return Beside(everywhere - open_, namespace - open_, node - open_, mates, self._sick - sick)

    def mates_ill_s(self, uid: str, workload: Workload) -> tuple[float, ...]:
        """When others of its workload fell ill."""
        mates = self._ill.get(workload, {}) if workload[1] else {}
        return tuple(ill_s for mate, ill_s in mates.items() if mate != uid)


def _places(note: Note) -> tuple[Place, ...]:
    """What is counted for it: all, namespace, node, workload."""
    return ("all",), ("namespace", note.workload[0]), ("node", note.node), ("workload", *note.workload)
