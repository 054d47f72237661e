"""Agents that live in pods, as many as a tenant likes to have: what they say counts for no more than their namespace's
budget (I2, I3).

Who owns a pod owns its token, and can say by it whatever an agent can say. A leader that begins believes each agent
what it holds. Of those in pods of one namespace it believes, in all, as much as that namespace can have been given: who
of them says so is no matter, for together they have no more. What such an agent says it uses it must hold. Agents of
nodes are of our own account, and bound by the node's cap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hotswitch.controller.agents.plan import lives_in_a_pod
from hotswitch.decide.grants import Holder, Ledger, Scope, namespace_scope, scopes_of
from hotswitch.model import PodRef

OVER_BUDGET = "over-budget"


class Tenants:
    """`rejected`: for the metric."""

    def __init__(self, rejected: Callable[[str], None]) -> None:
        self._rejected = rejected
        self._holders: dict[Scope, set[Holder]] = {}  # by namespace: what they were believed, or given, may be alive

    def claimed(
        self, holder: Holder, pods: Sequence[PodRef], held: Mapping[Scope, int], ledger: Ledger, budget: int
    ) -> Mapping[Scope, int]:
        """What counts of the places that it says it holds; one in the mesh alone is of no use. `budget`: of the
        namespace."""
        if not (pods and lives_in_a_pod(holder.agent)):
            return held
        scopes, near = scopes_of(pods[0]), namespace_scope(pods[0].namespace)
        others = {each for each in self._holders.get(near, ()) if each != holder and ledger.held_by([each], near)}
        self._holders[near] = {*others, holder}
        if not all(held.get(scope, 0) for scope in scopes):
            return {}
        if ledger.held_by(others, near) >= budget:
            self._rejected(OVER_BUDGET)
            return {}
        return dict.fromkeys(scopes, 1)


def used(holder: Holder, told: Mapping[Scope, int], ledger: Ledger) -> Mapping[Scope, int]:
    """What counts of the places that it says it uses."""
    if not lives_in_a_pod(holder.agent):
        return told
    holds = ledger.agent_holds(holder.agent)
    return {scope: min(count, holds[scope]) for scope, count in told.items()}
