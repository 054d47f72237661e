"""All agents of a controller that leads: who is there, what they hold, what they say of their pods (S4.2, I3, I6).

A controller that does not lead hears nobody. One link for an agent: a newer one ends the older. What an agent says of a
pod is believed only for pods of its node (its own pod, if it lives in one); a pod that has an agent of its own is that
one's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from hotswitch.api.agent.checked import Malformed, count
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.agents import tenants
from hotswitch.controller.agents.allotting import Allotting
from hotswitch.controller.agents.heard import Heard
from hotswitch.controller.agents.limits import PODS_AT_MOST, SCOPES_AT_MOST, Rejected
from hotswitch.controller.agents.plan import Plan
from hotswitch.controller.agents.present import Agent, Around
from hotswitch.controller.agents.told import Told, state_of, steady
from hotswitch.controller.agents.trust import Speaker
from hotswitch.controller.agents.witness import Look, Wire, Witness, nobody_looks
from hotswitch.decide.grants import Holder, Ledger, Scope, namespace_scope, scopes_of
from hotswitch.model import PodRef, PodUid
from hotswitch.report.lines import entry_of

LIFE_S, SKEW_S = 600.0, 10.0
BEAT_S = 10.0
log = logging.getLogger("hotswitch.agents")


def _serial(told: wire.Order) -> int:
    """The next allotments count on from it. Raises Rejected."""
    try:
        return count("acts_on.serial", told.serial)
    except Malformed as failure:
        raise Rejected("malformed", str(failure)) from failure


def _confirm(link: Wire, uid: str, up_to: int) -> None:
    if up_to:
        link.send(wire.ToAgent(written=wire.Written(uid=uid, up_to=up_to)))


class Desk:
    """`news(uid)`: something was said of a pod. `rejected(reason)`: for the metric. `now_s`: the loop's clock.
    `leads()`: by the leader's own clock, at this moment. `look`: asks a pod's proxy, for agents that see it hang."""

    def __init__(
        self,
        around: Around,
        *,
        now_s: Callable[[], float],
        news: Callable[[str], None],
        rejected: Callable[[str], None],
        came: Callable[[Agent], None],
        leads: Callable[[], bool] = lambda: True,
        look: Look = nobody_looks,
        life_s: float = LIFE_S,
    ) -> None:
        self._around, self._now_s, self._news, self.rejected, self._came = around, now_s, news, rejected, came
        self._leads = leads
        self._witness = Witness(look)
        self._tenants = tenants.Tenants(rejected)
        self.life_s = life_s
        self.plan = Plan(around.limit, around.opened)
        self.ledger: Ledger | None = None
        self.agents: dict[str, Agent] = {}
        self._heard = Heard(around)
        self._allotting = Allotting(
            around,
            self.plan,
            self._heard,
            agents=self.agents,
            pods_of=self.pods_of,
            ledger=self._ledger,
            now_s=now_s,
        )

    # ---- leading ----

    def lead(self, term: int) -> None:
        """Careful for a life, because a leader before may have given places."""
        cautious_s = self._now_s() + self.life_s + SKEW_S
        self.ledger = Ledger(term, life_s=self.life_s, skew_s=SKEW_S, cautious_until_s=cautious_s)

    def be_sure(self) -> None:
        """It has turned out that nobody ever led before, so nothing can have been given."""
        if self.ledger is None or not self._leads():
            return
        self.ledger.be_sure()
        self._allotting.allot_anew()

    def follow(self) -> None:
        """Nobody is heard any longer; what was given runs out by itself."""
        self.ledger = None
        for agent in list(self.agents.values()):
            self.leave(agent)
            agent.link.end("not-leading", "this controller does not lead any longer")
        self._heard.forget_all_silent()

    @property
    def term(self) -> int | None:
        return self.ledger.term if self.ledger is not None else None

    # ---- coming and going ----

    def come(self, speaker: Speaker, hello: wire.Hello, link: Wire) -> Agent:
        """Raises Rejected."""
        ledger = self._ledger()
        order = hello.acts_on.term, _serial(hello.acts_on)
        if hello.term > ledger.term:
            raise Rejected("not-leading", f"it has heard of term {hello.term}, which is newer than {ledger.term}")
        if speaker.pod_uid and self._around.place_of(PodUid(speaker.pod_uid)) is None:
            raise Rejected("unknown-pod", f"pod {speaker.pod_uid} is not one that is looked after")
        if (older := self.agents.get(speaker.name)) is not None:
            self.leave(older)
            older.link.end("replaced", "the agent has connected anew")
        agent = Agent(speaker, Holder(speaker.name, hello.instance[:64]), link, drills=hello.drills)
        self.agents[agent.name] = agent
        self.place(agent)
        pods = self.pods_of(agent)
        budget = self.plan.budgets(agent.name).get(namespace_scope(pods[0].namespace), 0) if pods else 0
        held = self._tenants.claimed(agent.holder, pods, self._counts(hello.places, agent), ledger, budget)
        ledger.hello(agent.holder, held=held, order=order, cap=self.plan.cap(agent.name), now_s=self._now_s())
        log.info("agent is here", extra={"agent": agent.name, "software": hello.software[:64]})
        self._came(agent)
        return agent

    def leave(self, agent: Agent) -> None:
        if self.agents.get(agent.name) is not agent:
            return
        del self.agents[agent.name]
        self.plan.leave(agent.name)
        if self.ledger is not None:
            self.ledger.gone(agent.holder)
        self._heard.left(agent, may_act=self.ledger is not None)
        for uid in agent.told:
            self._news(uid)

    def _ledger(self) -> Ledger:
        """Asked before each word: a process that was stopped for a while leads no longer, and was not told so yet."""
        if self.ledger is None or not self._leads():
            raise Rejected("not-leading", "this controller does not lead")
        return self.ledger

    # ---- whose a pod is ----

    def pods_of(self, agent: Agent) -> list[PodRef]:
        own = agent.speaker.pod_uid
        if own:
            placed = self._around.place_of(PodUid(own))
            return [placed[0]] if placed is not None else []
        return [pod for pod in self._around.pods_of(agent.speaker.node) if f"pod/{pod.uid}" not in self.agents]

    def agent_of(self, uid: str) -> Agent | None:
        if (own := self.agents.get(f"pod/{uid}")) is not None:
            return own
        placed = self._around.place_of(PodUid(uid))
        return self.agents.get(f"node/{placed[1]}") if placed is not None else None

    def place(self, agent: Agent) -> None:
        """Its pods have changed, or their settings."""
        self.plan.place(agent.name, self.pods_of(agent))

    def _pod(self, agent: Agent, uid: str) -> PodRef | None:
        """None: it is not there any longer. Raises Rejected for one that the agent may not speak for."""
        placed = self._around.place_of(PodUid(uid))
        if placed is None:
            return None
        own = agent.speaker.pod_uid
        if (own and own != uid) or (not own and placed[1] != agent.speaker.node):
            raise Rejected("foreign-pod", f"pod {placed[0]} is none of {agent.speaker}")
        return placed[0] if self.agent_of(uid) is agent else None

    # ---- hearing ----

    def hear(self, agent: Agent, message: wire.FromAgent) -> None:
        """Raises Rejected. A kind that is not known is passed over."""
        self._ledger()
        try:
            match message.WhichOneof("said"):
                case "beat":
                    self._beat(agent, message.beat)
                case "pod":
                    self._report(agent, message.pod)
                case "line":
                    self._line(agent, message.line)
                case "gone":
                    self._gone(agent, message.gone.uid)
                case "question":
                    self._question(agent, message.question)
                case "hello":
                    raise Rejected("malformed", "a second hello")
        except Malformed as failure:
            raise Rejected("malformed", str(failure)) from failure

    def _beat(self, agent: Agent, beat: wire.Beat) -> None:
        order, used = (beat.acts_on.term, beat.acts_on.serial), self._counts(beat.used, agent)
        agent.dropped = beat.dropped
        if not self._ledger().beat(agent.holder, beat.number, order=order, used=used):
            self.rejected("replayed")
            return
        self._allotting.hear_wants(agent, used)
        self._allotting.allot(agent)
        self._allotting.settle(agent)

    def _counts(self, told: Mapping[str, int], agent: Agent) -> dict[Scope, int]:
        """Of its own scopes, and never more than it may have."""
        if len(told) > SCOPES_AT_MOST:
            raise Rejected("malformed", f"{len(told)} scopes are too many")
        known = {scope for pod in self.pods_of(agent) for scope in scopes_of(pod)}
        cap = max(1, self.plan.cap(agent.name))
        return {Scope(name): min(count, cap) for name, count in told.items() if name in known}

    def _report(self, agent: Agent, report: wire.PodReport) -> None:
        pod = self._pod(agent, report.uid)
        if pod is None:
            self.rejected("unknown-pod")
            return
        if len(agent.told) >= PODS_AT_MOST and pod.uid not in agent.told:
            raise Rejected("too-many", f"more than {PODS_AT_MOST} pods")
        known = agent.told.get(pod.uid)
        state = state_of(report, str(agent.speaker), self._now_s())
        state = state if known is None else steady(known.state, state)
        before = self._heard.report(agent, pod.uid, state)
        agent.told[pod.uid].confirm = partial(_confirm, agent.link, pod.uid)
        if state.waits or (before is not None and before.waits):
            self._allotting.hear_wants(agent, self._ledger().used(agent.holder))
            self._allotting.settle(agent)
        self._news(pod.uid)

    def _line(self, agent: Agent, line: wire.Line) -> None:
        pod = self._pod(agent, line.uid)
        known = agent.told.get(PodUid(line.uid))
        if pod is None or known is None:
            self.rejected("unknown-pod")
            _confirm(agent.link, line.uid, line.number)
            return
        known.add(entry_of(line, pod, str(agent.speaker)), line.number)
        self._news(pod.uid)

    def _gone(self, agent: Agent, uid: str) -> None:
        if self._heard.gone(agent, PodUid(uid)):
            self._news(uid)

    def _question(self, agent: Agent, question: wire.Question) -> None:
        pod = self._pod(agent, question.uid)
        if pod is None:
            self.rejected("unknown-pod")
            return
        self._witness.asked(agent.link, pod.uid, question)

    def refresh(self) -> None:
        """Now and then."""
        if not self._leads():
            return
        self._allotting.tell_freeze()
        if self.ledger is not None:
            self._heard.forget_silent(self.ledger, self._now_s())

    # ---- asked by workers ----

    def told(self, uid: str) -> Told | None:
        """None: no agent looks after the pod, nor may one be acting there that cannot be heard."""
        agent = self.agent_of(uid)
        if agent is not None and (known := agent.told.get(PodUid(uid))) is not None:
            return known
        return None if self.ledger is None else self._heard.silent(PodUid(uid), self.ledger, self._now_s())

    def restless(self, uid: str) -> bool:
        told = self.told(uid)
        return told is not None and (told.state.is_restless or bool(told.lines))

    def held(self, scope: Scope, budget: int) -> int:
        """Places in it that agents may be using."""
        return 0 if self.ledger is None else self.ledger.held(scope, self._now_s(), budget=budget)

    def opened(self) -> Iterator[PodRef]:
        """Pods that agents have open, or had when they were heard last."""
        return self._heard.opened(self.agents)

    @property
    def is_cautious(self) -> bool:
        """What a leader before this one has given may be in use, and is not known here."""
        return self.ledger is None or self.ledger.is_cautious(self._now_s())

    @property
    def sick(self) -> int:
        """Pods that agents see to be ill."""
        return self._heard.sick
