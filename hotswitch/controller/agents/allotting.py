"""Places for the agents that are there: who is told how many, and when (I3).

An allotment answers a beat. A pod that waits for a place makes the shares be divided anew at once: who holds more than
its share is told so before who may grow by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.agents import tenants
from hotswitch.controller.agents.heard import Heard
from hotswitch.controller.agents.plan import Plan, lives_in_a_pod
from hotswitch.controller.agents.present import Agent, Around
from hotswitch.decide.grants import Allotment, Ledger, Scope, scopes_of
from hotswitch.model import PodRef


class Allotting:
    """`agents`: those that are connected, by name. `pods_of`: an agent's. `ledger`: raises Rejected while this
    controller does not lead. `now_s`: the loop's clock."""

    def __init__(
        self,
        around: Around,
        plan: Plan,
        heard: Heard,
        *,
        agents: Mapping[str, Agent],
        pods_of: Callable[[Agent], list[PodRef]],
        ledger: Callable[[], Ledger],
        now_s: Callable[[], float],
    ) -> None:
        self._around, self._plan, self._heard = around, plan, heard
        self._agents, self._pods_of, self._ledger, self._now_s = agents, pods_of, ledger, now_s

    def hear_wants(self, agent: Agent, used: Mapping[Scope, int]) -> None:
        pods = {pod.uid: pod for pod in self._pods_of(agent)}
        waiting = [pods[uid] for uid, told in agent.told.items() if told.state.waits and uid in pods]
        counted = tenants.used(agent.holder, used, self._ledger())
        self._plan.says(agent.name, counted, dict(Counter(scope for pod in waiting for scope in scopes_of(pod))))

    def allot(self, agent: Agent) -> None:
        ledger, now_s = self._ledger(), self._now_s()
        wanted = self._plan.wanted(agent.name, now_s)
        budgets, cap = self._plan.budgets(agent.name), self._plan.cap(agent.name)
        lone = lives_in_a_pod(agent.name)
        agent.allotted = ledger.allot(agent.holder, wanted, budgets, cap=cap, now_s=now_s, lone=lone)
        agent.frozen = self._around.frozen()
        agent.link.send(wire.ToAgent(allotment=self._message(agent, agent.allotted)))

    def allot_anew(self) -> None:
        """To all that have heard of theirs before."""
        for agent in list(self._agents.values()):
            if agent.allotted is not None:
                self.allot(agent)

    def tell_freeze(self) -> None:
        """One that began or ended is told at once."""
        frozen = self._around.frozen()
        for agent in list(self._agents.values()):
            if agent.allotted is not None and agent.frozen != frozen:
                self.allot(agent)

    def _message(self, agent: Agent, given: Allotment) -> wire.Allotment:
        places = {str(scope): count for scope, count in given.places.items()}
        return wire.Allotment(
            term=given.term,
            serial=given.serial,
            beat=given.beat,
            life_s=given.life_s,
            places=places,
            frozen=agent.frozen,
            mates=self._heard.mates(agent, self._pods_of(agent), self._now_s()),
        )

    def settle(self, by: Agent) -> None:
        """Whoever now holds more or less than it should is told at once, if somebody waits for a place."""
        now_s = self._now_s()
        waiting = self._heard.waiting
        if not waiting:
            return
        scopes = {scope for each in waiting for scope in self._waited_for(each)}
        for agent in self._agents.values():
            given = agent.allotted.places if agent.allotted is not None else {}
            asked = scopes & given.keys()
            wanted = self._plan.wanted(agent.name, now_s) if asked else {}
            if any(wanted.get(scope, 0) < given[scope] for scope in asked) or (
                agent is not by and any(self._grows(agent, scope, wanted, given) for scope in asked)
            ):
                self.allot(agent)

    def _waited_for(self, agent: Agent) -> set[Scope]:
        waits = {uid for uid, told in agent.told.items() if told.state.waits}
        return {scope for pod in self._pods_of(agent) if pod.uid in waits for scope in scopes_of(pod)}

    def _grows(self, agent: Agent, scope: Scope, wanted: Mapping[Scope, int], given: Mapping[Scope, int]) -> bool:
        free = self._plan.budgets(agent.name).get(scope, 0) - self._ledger().held(scope, self._now_s())
        return wanted.get(scope, 0) > given[scope] and free > 0
