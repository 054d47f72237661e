"""What an agent asks before it acts, and whom it tells afterwards (S4.2, I1, I2, I3).

A guard decides by itself, in microseconds, but what it may do was given beforehand: the pod's grant (its settings, cut
by the preflight) and the agent's places (how many pods may be open at once here). Both are memory: asking never waits,
whoever is dead. Over the link they come from the controller; an agent that has a file is its own authority.

Places are leased. Nothing opens after `Right.until_s`, and the engine lets no opening last longer: the controller
counts a place as taken until then, and gives it to somebody else afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hotswitch.agent.neighbours import Neighbour, Neighbours
from hotswitch.api.drills import Drilled, Told
from hotswitch.model import (
    Capabilities,
    Diagnosis,
    Opinion,
    Override,
    PodRef,
    PodUid,
    Policy,
    Standing,
    Surroundings,
)
from hotswitch.report.journal import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What may be done for one pod. `version`: grows with every change. `policy`: as the engine takes it; the preflight
    has taken away levels and ports already. `authorization`: what the rescue keeps up. `override`: a person's order,
    its end on the loop's clock; the guard puts it into its standing before each step. `drill`: to be carried out once;
    `drill_was_heard`: by a process before this one, which has not told what became of it."""

    version: int
    policy: Policy
    authorization: tuple[Mapping[str, Any], ...] = ()
    spiffe_id: str = ""  # whose certificate the rescue must hold; "": as the pod's manifest says
    trust_domains: tuple[str, ...] = ()
    override: Override | None = None
    drill: Told | None = None
    drill_was_heard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """How many pods may be open here at once, this one included, and until when (the loop's clock, s). `frozen`: why
    nothing may be opened although there are places. `mates_fell_ill_s`: when pods of its workload did, on other nodes
    (the loop's clock)."""

    node: int
    namespace: int
    workload: int
    until_s: float = math.inf
    frozen: str = ""
    mates_fell_ill_s: tuple[float, ...] = ()


NO_RIGHT = Right(node=0, namespace=0, workload=0, until_s=-math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What a guard knows of its pod now; the newest is all that anybody needs. Instants: the loop's clock."""

    standing: Standing
    diagnosis: Diagnosis
    capabilities: Capabilities
    identity_expires_in_s: float | None = None
    path_passes: int | None = None
    istio_rules: str = ""  # digest of Istio's own rules
    istio_complete: bool = True
    stand_in: str = ""
    drilled: Drilled | None = None  # the last that was ordered, once it has ended


class Authority(Protocol):
    """Nothing here waits or raises."""

    def attach(self, pod: PodRef, changed: Callable[[], None]) -> None:
        """This agent guards the pod from now on. `changed`: called in the event loop when its grant or right did."""
        ...

    def detach(self, uid: PodUid) -> None: ...

    def grant(self, uid: PodUid) -> Grant | None:
        """None: nobody has said anything yet, or a pod that is not this agent's: leave all as it is, and look on. A
        grant stays after it was given; that it is old shows in `right`."""
        ...

    def right(self, pod: PodRef) -> Right: ...

    def ask(self, uid: PodUid, timeout_s: float) -> bool:
        """Have somebody elsewhere look whether the pod's proxy hangs: `opinion` is None until there is an answer, of
        which `changed` tells. `timeout_s`: how long a question to the proxy may stand. False: nobody can be asked."""
        ...

    def opinion(self, uid: PodUid) -> Opinion | None:
        """The answer to what was asked last."""
        ...

    def state(self, uid: PodUid, state: PodState) -> None:
        """Whenever it has changed in anything that people are told; sent on as soon as the link allows."""
        ...

    def acted(self, line: Entry) -> None:
        """A line of the journal, in its order. The link's buffer is bounded, the journal on disk has everything."""
        ...


def surroundings(of: Neighbour, here: Neighbours, right: Right, *, now_s: float) -> Surroundings:
    """What the engine is shown of the others on this agent, and of what it was given."""
    return replace(
        here.around(of, now_s=now_s, elsewhere_ill_s=right.mates_fell_ill_s),
        node_budget=right.node,
        namespace_budget=right.namespace,
        workload_budget=right.workload,
        open_until_s=right.until_s,
        frozen=right.frozen,
    )


@dataclass
class OwnAuthority:
    """Of an agent that asks nobody: grants from its file, places without an end. What it is told is kept, newest state
    and all lines, for whoever wants to look (tests, a status command)."""

    grants: dict[PodUid, Grant] = field(default_factory=dict)
    rights: Right = Right(node=10, namespace=10, workload=1)
    states: dict[PodUid, PodState] = field(default_factory=dict)
    _changed: dict[PodUid, Callable[[], None]] = field(default_factory=dict)

    def attach(self, pod: PodRef, changed: Callable[[], None]) -> None:
        self._changed[pod.uid] = changed

    def detach(self, uid: PodUid) -> None:
        self._changed.pop(uid, None)
        self.states.pop(uid, None)

    def grant(self, uid: PodUid) -> Grant | None:
        return self.grants.get(uid)

    def right(self, pod: PodRef) -> Right:
        return self.rights

    def give(self, uid: PodUid, grant: Grant) -> None:
        """A changed file."""
        self.grants[uid] = grant
        self._tell(uid)

    def allow(self, right: Right) -> None:
        self.rights = right
        for uid in list(self._changed):
            self._tell(uid)

    def _tell(self, uid: PodUid) -> None:
        if uid in self._changed:
            self._changed[uid]()

    def ask(self, uid: PodUid, timeout_s: float) -> bool:
        return False

    def opinion(self, uid: PodUid) -> Opinion | None:
        return None

    def state(self, uid: PodUid, state: PodState) -> None:
        self.states[uid] = state

    def acted(self, line: Entry) -> None:
        """The journal has it."""
