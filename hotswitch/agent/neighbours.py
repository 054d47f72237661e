"""What happens around a pod on its agent: who else is open, who else is sick, which mates have fallen ill (I3).

Every guard notes itself whenever something of it has changed.
"""

from __future__ import annotations

from typing import Protocol

from hotswitch.model import Diagnosis, Fault, Grade, PodRef, Standing, Surroundings
from hotswitch.observe.crowd import Crowd, Note

_NOT_SICK = frozenset({Fault.WELL, Fault.UNKNOWN, Fault.STARTING, Fault.TERMINATING, Fault.DRAINED, Fault.APP_SICK})


def is_sick(diagnosis: Diagnosis) -> bool:
    """Its proxy is, as far as is known."""
    return diagnosis.fault not in _NOT_SICK and diagnosis.grade is not Grade.NONE


class Neighbour(Protocol):
    """A guard of the agent."""

    @property
    def pod(self) -> PodRef: ...
    @property
    def standing(self) -> Standing: ...
    @property
    def sick(self) -> bool: ...


class Neighbours(Crowd):
    """All that are guarded here."""

    def note(self, guard: Neighbour) -> None:
        self.put(guard.pod.uid, _note_of(guard))

    def around(self, of: Neighbour, *, now_s: float, elsewhere_ill_s: tuple[float, ...] = ()) -> Surroundings:
        """Without budgets. `elsewhere_ill_s`: when mates on other nodes fell ill."""
        uid, own = of.pod.uid, _note_of(of)
        beside = self.beside(uid, own)
        ill_s = (*elsewhere_ill_s, *self.mates_ill_s(uid, own.workload))
        return Surroundings(
            open_on_node=beside.open,
            open_in_namespace=beside.open_in_namespace,
            open_of_workload=beside.open_of_workload,
            pods_on_node=len(self) + (uid not in self),
            faulty_on_node=beside.sick + of.sick,
            workload_fault_ages_s=tuple(now_s - began for began in ill_s),
        )


def _note_of(guard: Neighbour) -> Note:
    pod, standing = guard.pod, guard.standing
    ill_s = standing.recent_faults_s[-1] if standing.recent_faults_s else None
    return Note((pod.namespace, pod.workload), open=standing.is_open, sick=guard.sick, ill_s=ill_s)
