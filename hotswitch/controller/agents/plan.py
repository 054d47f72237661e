"""Which places each agent should have: budgets of the picture, divided among who is there (I3).

Worked out again when something changed, and for the mesh not oftener than RESTS_S: a thousand agents share its budget.
The controller itself is a party, for pods that no agent looks after. An agent that lives in a pod may be anybody's who
owns the pod: a place in the mesh is its only with one in its namespace, whatever it says, so that all of them together
never take more of the mesh than their namespace's budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from hotswitch.decide.grants import MESH, Party, Scope, namespace_scope, scopes_of, shares, workload_scope
from hotswitch.model import PodRef

RESTS_S = 1.0
OURSELVES = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """Of one pod's scopes: how many may be open, and how many pods there are."""

    budgets: Mapping[Scope, int]
    pods: Mapping[Scope, int]
    cap: int


@dataclass(slots=True)
class _Agent:
    pods: Counter[Scope]
    cap: int
    used: Mapping[Scope, int] = field(default_factory=dict)
    wants: Mapping[Scope, int] = field(default_factory=dict)
    lone: bool = False  # it lives in a pod


class Plan:
    """`opened`: pods that the controller itself has open, or is about to."""

    def __init__(self, limit: Callable[[PodRef], Limit], opened: Callable[[], Iterable[PodRef]]) -> None:
        self._limit, self._opened = limit, opened
        self._agents: dict[str, _Agent] = {}
        self._in: dict[Scope, set[str]] = {}
        self._budgets: dict[Scope, int] = {}
        self._pods: dict[Scope, int] = {}
        self._shares: dict[Scope, tuple[float, dict[str, int]]] = {}
        self._stale: set[Scope] = set()

    # ---- who is there ----

    def place(self, agent: str, pods: Iterable[PodRef]) -> None:
        """These are the pods that the agent looks after now."""
        before = self._agents.get(agent)
        counted: Counter[Scope] = Counter()
        cap: int | None = None
        for pod in pods:
            limit = self._limit(pod)
            cap = limit.cap if cap is None else max(cap, limit.cap)
            for scope in scopes_of(pod):
                counted[scope] += 1
                self._know(scope, limit)
        used, wants = (before.used, before.wants) if before is not None else ({}, {})
        self._agents[agent] = _Agent(counted, cap or 0, used, wants, lives_in_a_pod(agent))
        for scope in counted:
            self._in.setdefault(scope, set()).add(agent)
            self._stale.add(scope)
        for scope in (before.pods.keys() if before is not None else set[Scope]()) - counted.keys():
            self._out(scope, agent)

    def _out(self, scope: Scope, agent: str) -> None:
        """The last one out takes along what is known of a scope: workloads come and go without end."""
        self._stale.add(scope)
        self._in[scope].discard(agent)
        if not self._in[scope] and scope != MESH:
            for known in (self._in, self._budgets, self._pods, self._shares):
                known.pop(scope, None)
            self._stale.discard(scope)

    def _know(self, scope: Scope, limit: Limit) -> None:
        """The mesh's is the largest that any pod has: a namespace that asks for less is bound in its own scopes."""
        budget = limit.budgets.get(scope, 0)
        self._budgets[scope] = max(budget, self._budgets.get(scope, 0)) if scope == MESH else budget
        self._pods[scope] = limit.pods.get(scope, 0)

    def renew(self) -> None:
        """Budgets may have become smaller: what was the largest is forgotten, and all agents are placed anew."""
        self._budgets.pop(MESH, None)

    def leave(self, agent: str) -> None:
        gone = self._agents.pop(agent, None)
        for scope in gone.pods if gone is not None else ():
            self._out(scope, agent)

    def says(self, agent: str, used: Mapping[Scope, int], wants: Mapping[Scope, int]) -> None:
        known = self._agents.get(agent)
        if known is None:
            return
        for scope in known.pods:
            if known.used.get(scope, 0) != used.get(scope, 0) or known.wants.get(scope, 0) != wants.get(scope, 0):
                self._stale.add(scope)
                if known.wants.get(scope, 0) != wants.get(scope, 0):
                    self._shares.pop(scope, None)  # somebody waits
        known.used, known.wants = used, wants

    # ---- what each should have ----

    def cap(self, agent: str) -> int:
        known = self._agents.get(agent)
        return known.cap if known is not None else 0

    def wanted(self, agent: str, now_s: float) -> dict[Scope, int]:
        known = self._agents.get(agent)
        if known is None:
            return {}
        return {scope: self._share(scope, now_s).get(agent, 0) for scope in known.pods}

    def budgets(self, agent: str) -> dict[Scope, int]:
        """What agents may have in all: without what the controller itself has open."""
        ours = self._ours()
        known = self._agents.get(agent)
        return {scope: self._budgets.get(scope, 0) - ours[scope] for scope in (known.pods if known else ())}

    def _ours(self) -> Counter[Scope]:
        return Counter(scope for pod in self._opened() for scope in scopes_of(pod))

    def _share(self, scope: Scope, now_s: float) -> dict[str, int]:
        known = self._shares.get(scope)
        if known is None or (scope in self._stale and (scope != MESH or now_s - known[0] >= RESTS_S)):
            self._stale.discard(scope)
            known = self._shares[scope] = now_s, self._divide(scope, now_s)
        return known[1]

    def _divide(self, scope: Scope, now_s: float) -> dict[str, int]:
        parties = [self._party(name, scope, now_s) for name in self._in.get(scope, ())]
        others = max(0, self._pods.get(scope, 0) - sum(each.pods for each in parties))
        parties.append(Party(OURSELVES, others, self._ours()[scope]))
        return shares(scope, self._budgets.get(scope, 0), parties)

    def _party(self, name: str, scope: Scope, now_s: float) -> Party:
        agent = self._agents[name]
        used, wants = agent.used.get(scope, 0), agent.wants.get(scope, 0)
        at_most = agent.cap
        if agent.lone and scope == MESH:
            at_most = min(at_most, *(self._share(near, now_s).get(name, 0) for near in agent.pods if near != MESH))
        return Party(name, agent.pods[scope], min(used, agent.pods[scope], at_most), wants, at_most)

    def idle(self, scope: Scope) -> list[str]:
        """Agents that may have places in it which they do not use."""
        return [name for name in self._in.get(scope, ()) if self._agents[name].used.get(scope, 0) == 0]


def lives_in_a_pod(agent: str) -> bool:
    """By its name (trust.Speaker)."""
    return agent.startswith("pod/")


def limit_of(
    pod: PodRef, *, mesh: int, namespace: int, workload: int, node: int, pods: Callable[[Scope], int]
) -> Limit:
    near, own = namespace_scope(pod.namespace), workload_scope(pod.namespace, pod.workload)
    budgets = {MESH: mesh, near: min(namespace, mesh), own: min(workload, namespace, mesh)}
    return Limit(budgets, {scope: pods(scope) for scope in budgets}, min(node, mesh))
