"""What agents have said of their pods, as long as it counts: also while the link is gone and the lease may live (I3).

An agent that cannot be heard may act all the same until its lease has run out; until then its last word stands, and
nobody else acts in its pods.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.agents.present import Agent, Around
from hotswitch.controller.agents.told import PodState, Told
from hotswitch.decide.grants import Holder, Ledger, Scope, workload_scope
from hotswitch.model import PodRef, PodUid

FELL_ILL_LATELY_S = 120.0
MATES_AT_MOST = 8


class Heard:
    def __init__(self, around: Around) -> None:
        self._around = around
        self._ill: dict[PodUid, tuple[Agent, Told]] = {}  # few of many: asked for with every allotment
        self._silent: dict[PodUid, tuple[Holder, Told]] = {}  # of agents whose link is gone and whose lease may live

    # ---- saying ----

    def report(self, agent: Agent, uid: PodUid, state: PodState) -> PodState | None:
        """What it said of the pod before; None: nothing."""
        known = agent.told.get(uid)
        before = known.state if known is not None else None
        if known is None:
            held = self._silent.pop(uid, None)
            known = agent.told[uid] = held[1] if held is not None else Told(uid, state)
        known.state = state
        if state.is_sick or state.standing.recent_faults_s:
            self._ill[uid] = agent, known
        else:
            self._ill.pop(uid, None)
        return before

    def gone(self, agent: Agent, uid: PodUid) -> bool:
        """The agent has the pod no longer; whether it ever spoke of it."""
        self._ill.pop(uid, None)
        return agent.told.pop(uid, None) is not None

    # ---- falling silent ----

    def left(self, agent: Agent, *, may_act: bool) -> None:
        if may_act:
            self._silent |= {uid: (agent.holder, told) for uid, told in agent.told.items()}
        for uid in agent.told:
            self._ill.pop(uid, None)

    def silent(self, uid: PodUid, ledger: Ledger, now_s: float) -> Told | None:
        """The last word of an agent that may be acting there and cannot be heard."""
        silent = self._silent.get(uid)
        if silent is None:
            return None
        ledger.tidy(now_s)
        return silent[1] if ledger.holds(silent[0]) else None

    def forget_silent(self, ledger: Ledger, now_s: float) -> None:
        ledger.tidy(now_s)
        self._silent = {uid: each for uid, each in self._silent.items() if ledger.holds(each[0])}

    def forget_all_silent(self) -> None:
        self._silent.clear()

    # ---- all of them ----

    @property
    def waiting(self) -> list[Agent]:
        """Agents with a pod that waits for a place."""
        return list({agent.name: agent for agent, told in self._ill.values() if told.state.waits}.values())

    def mates(self, agent: Agent, pods: Iterable[PodRef], now_s: float) -> list[wire.Mates]:
        """When pods of the same workloads fell ill on other agents (I3). `pods`: the agent's own."""
        mine = {workload_scope(pod.namespace, pod.workload) for pod in pods if pod.workload}
        found = dict[Scope, list[float]]()
        for uid, (other, told) in self._ill.items():
            began = told.state.standing.recent_faults_s[-1:]
            placed = self._around.place_of(uid)
            if other is agent or placed is None or not began or now_s - began[0] > FELL_ILL_LATELY_S:
                continue
            if (scope := workload_scope(placed[0].namespace, placed[0].workload)) in mine:
                found.setdefault(scope, []).append(now_s - began[0])
        return [wire.Mates(workload=scope, ages_s=sorted(ages)[:MATES_AT_MOST]) for scope, ages in found.items()]

    def opened(self, agents: Mapping[str, Agent]) -> Iterator[PodRef]:
        """Pods that agents have open, or had when they were heard last."""
        silent = ((uid, told) for uid, (_, told) in self._silent.items())
        spoken = (each for agent in agents.values() for each in agent.told.items())
        for uid, told in itertools.chain(silent, spoken):
            if told.state.standing.is_open and (placed := self._around.place_of(uid)) is not None:
                yield placed[0]

    @property
    def sick(self) -> int:
        """Pods that agents see to be ill."""
        return sum(told.state.is_sick for uid, (_, told) in self._ill.items() if self._around.place_of(uid) is not None)
