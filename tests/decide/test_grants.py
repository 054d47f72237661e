"""However links, clocks, agents and controllers fail: never more pods open than the budget says (I1, I3).

A world of three nodes, one of whose agents may lie, and controllers that come and go. Messages are lost, repeated, late
and out of order; every clock runs at its own rate. The real ledger and the real lease; a kernel that keeps timeouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from hotswitch.decide.grants import (
    MESH,
    Allotment,
    Holder,
    Lease,
    Ledger,
    Refused,
    Scope,
    namespace_scope,
    scopes_of,
    use,
    workload_scope,
)
from hotswitch.model import PodRef, PodUid

pytestmark = pytest.mark.unit

LIFE_S, SKEW_S, LEADS_S = 100.0, 5.0, 15.0
DRIFT = 0.02  # a clock of 102 s in 100 s: far worse than any
CAP = 2
NODES = ("n0", "n1", "n2")
PODS = tuple(
    PodRef(f"{node}-{number}", namespace, PodUid(f"{node}-{number}"), workload)
    for node in NODES
    for number, (namespace, workload) in enumerate([("a", "web"), ("a", "db"), ("b", "web"), ("b", "web")])
)
BUDGETS = {
    MESH: 3,
    namespace_scope("a"): 2,
    namespace_scope("b"): 1,
    workload_scope("a", "web"): 1,
    workload_scope("a", "db"): 1,
    workload_scope("b", "web"): 1,
}


@dataclass
class Clock:
    rate: float
    offset_s: float

    def at(self, true_s: float) -> float:
        return true_s * self.rate + self.offset_s


@dataclass
class Process:
    """One agent's: `lease` is what it remembers, and keeps in its file."""

    node: str
    instance: str
    clock: Clock
    lease: Lease = field(default_factory=Lease)
    opened: set[PodUid] = field(default_factory=set)  # as it knows


@dataclass
class Controller:
    clock: Clock
    ledger: Ledger
    leads_until_s: float  # true time; by its own clock it knows it earlier, or just then


@dataclass(frozen=True)
class Hello:
    holder: Holder
    held: dict[Scope, int]
    order: tuple[int, int]


@dataclass(frozen=True)
class Beat:
    holder: Holder
    number: int
    order: tuple[int, int]
    used: dict[Scope, int]


@dataclass(frozen=True)
class Given:
    holder: Holder
    allotment: Allotment


def mine(node: str) -> list[PodRef]:
    return [pod for pod in PODS if pod.name.startswith(node)]


CLOCKS = st.builds(Clock, st.floats(1 - DRIFT, 1 + DRIFT), st.floats(-1e6, 1e6))


class Partitioned(RuleBasedStateMachine):
    """`liar`: its word is anything, its gates are not counted: who is root on a node opens there what it likes."""

    liar = "n2"
    skew_s = SKEW_S
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.term = 0
        self.kernel: dict[PodUid, float] = {}  # pod -> true time at which it closes by itself
        self.processes: list[Process] = []
        self.zombies: list[Process] = []
        self.controllers: list[Controller] = []
        self.instances = 0

    @initialize(clocks=st.lists(CLOCKS, min_size=3, max_size=3), first=CLOCKS)
    def begin(self, clocks: list[Clock], first: Clock) -> None:
        self.processes = [Process(node, "first", clock) for node, clock in zip(NODES, clocks, strict=True)]
        self.elect(first)

    # ---- time and leaders ----

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 60.0, 101.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    def elect(self, clock: Clock) -> None:
        """Nobody leads by the lock's word before the one before him is over."""
        self.now_s = max([self.now_s, *(each.leads_until_s for each in self.controllers)])
        self.term += 1
        cautious_s = -math.inf if self.term == 1 else self.caution_s(clock)
        ledger = Ledger(self.term, life_s=LIFE_S, skew_s=self.skew_s, cautious_until_s=cautious_s)
        self.controllers = [*self.controllers, Controller(clock, ledger, self.now_s + LEADS_S)][-2:]

    def caution_s(self, clock: Clock) -> float:
        return clock.at(self.now_s) + LIFE_S + SKEW_S

    @rule(clock=CLOCKS)
    def another_leads(self, clock: Clock) -> None:
        self.elect(clock)

    @rule()
    def the_lock_is_renewed(self) -> None:
        if self.now_s < self.controllers[-1].leads_until_s:
            self.controllers[-1].leads_until_s = self.now_s + LEADS_S

    # ---- what agents do ----

    @rule(target=messages, who=st.integers(0, 2), old=st.booleans())
    def beats(self, who: int, old: bool) -> Any:
        return self._beat(self._process(who, old))

    def _beat(self, process: Process) -> Beat:
        number = process.lease.beat(process.clock.at(self.now_s))
        return Beat(self.holder(process), number, process.lease.acts_on, self._used(process))

    @rule(target=messages, who=st.integers(0, 2))
    def says_hello(self, who: int) -> Any:
        return self._hello(self.processes[who])

    def _hello(self, process: Process) -> Hello:
        return Hello(self.holder(process), dict(process.lease.places), process.lease.acts_on)

    @rule(
        target=messages, number=st.integers(0, 90), serial=st.integers(0, 9), count=st.integers(0, 9),
        hello=st.booleans(), instance=st.sampled_from(["first", "x"]),
    )  # fmt: skip
    def lies(self, number: int, serial: int, count: int, hello: bool, instance: str) -> Any:
        holder, order = Holder(self.liar, instance), (self.term, serial)
        claims = dict.fromkeys(BUDGETS, count)
        return Hello(holder, claims, (self.term - 1, serial)) if hello else Beat(holder, number, order, claims)

    def holder(self, process: Process) -> Holder:
        return Holder(process.node, process.instance)

    def _process(self, who: int, old: bool) -> Process:
        known = [each for each in self.zombies if each.node == NODES[who]]
        return known[-1] if old and known else self.processes[who]

    def _used(self, process: Process) -> dict[Scope, int]:
        self._look(process)
        return use(pod for pod in PODS if pod.uid in process.opened)

    def _look(self, process: Process) -> None:
        process.opened = {uid for uid in process.opened if self.kernel.get(uid, -1) > self.now_s}

    @rule(who=st.integers(0, 2), old=st.booleans(), backwards=st.booleans())
    def all_of_a_node_falls_ill(self, who: int, old: bool, backwards: bool) -> None:
        for pod in sorted(mine(NODES[who]), key=lambda each: each.name, reverse=backwards):
            self.a_pod_falls_ill(pod, old)

    @rule(old=st.booleans())
    def all_fall_ill(self, old: bool) -> None:
        for who in range(3):
            self.all_of_a_node_falls_ill(who, old, False)

    @rule(pod=st.sampled_from(PODS), old=st.booleans())
    def a_pod_falls_ill(self, pod: PodRef, old: bool) -> None:
        """Opened, or renewed, for as long as the engine would: only within the right, and to its end at most."""
        process = self._process(NODES.index(pod.name[:2]), old)
        used = self._used(process)
        if pod.uid not in process.opened:
            used = use([pod, *(each for each in PODS if each.uid in process.opened)])
        clock_s = process.clock.at(self.now_s)
        left_s = process.lease.until_s(scopes_of(pod), used) - clock_s
        if left_s > 0:
            self.kernel[pod.uid] = max(self.kernel.get(pod.uid, 0.0), self.now_s + left_s / process.clock.rate)
            process.opened.add(pod.uid)

    @rule(pod=st.sampled_from(PODS))
    def a_pod_is_well(self, pod: PodRef) -> None:
        self.kernel.pop(pod.uid, None)

    @rule(who=st.integers(0, 2), keeps=st.booleans(), alive=st.booleans(), clock=CLOCKS)
    def agent_restarts(self, who: int, keeps: bool, alive: bool, clock: Clock) -> None:
        """With its file it goes on; without it is somebody new, and the old one may live on."""
        before = self.processes[who]
        if keeps:
            fresh = replace(before.lease, places=dict(before.lease.places), _sent_s={})
            self.processes[who] = replace(before, lease=fresh)
        else:
            self.instances += 1
            self.zombies += [before] if alive else []
            self.processes[who] = Process(before.node, f"i{self.instances}", clock)
        self.processes[who].opened = {pod.uid for pod in mine(NODES[who]) if self.kernel.get(pod.uid, 0) > self.now_s}

    # ---- what controllers do ----

    @rule(message=messages, deposed=st.booleans())
    def controller_hears(self, message: Any, deposed: bool) -> None:
        """Once, twice, late, or never."""
        controller = self.controllers[0 if deposed else -1]
        now_s, ledger = controller.clock.at(self.now_s), controller.ledger
        if isinstance(message, Hello) and message.order[0] <= ledger.term:
            ledger.hello(message.holder, held=message.held, order=message.order, cap=CAP, now_s=now_s)
        elif isinstance(message, Beat):
            self.heard(ledger, message)

    def heard(self, book: Ledger, beat: Beat) -> None:
        book.beat(beat.holder, beat.number, order=beat.order, used=beat.used)

    @rule(target=messages, who=st.integers(0, 2), old=st.booleans(), deposed=st.booleans(), data=st.data())
    def controller_gives(self, who: int, old: bool, deposed: bool, data: st.DataObject) -> Any:
        """Whatever is wanted: shares are a matter of taste, the ledger is not."""
        controller = self.controllers[0 if deposed else -1]
        process = self._process(who, old)
        if self.now_s >= controller.leads_until_s:
            return None
        wanted = {scope: data.draw(st.integers(0, 3)) for scope in BUDGETS}
        now_s = controller.clock.at(self.now_s)
        return Given(
            self.holder(process), controller.ledger.allot(self.holder(process), wanted, BUDGETS, cap=CAP, now_s=now_s)
        )

    @rule(who=st.integers(0, 2))
    def a_link_breaks(self, who: int) -> None:
        self.controllers[-1].ledger.gone(self.holder(self.processes[who]))

    @rule(message=messages)
    def agent_hears(self, message: Any) -> None:
        for process in [*self.processes, *self.zombies]:
            if isinstance(message, Given) and self.holder(process) == message.holder:
                try:
                    self.taken(process, message.allotment)
                except Refused as refused:
                    assert refused.reason in ("old-term", "replayed", "unknown-beat")

    def taken(self, process: Process, allotment: Allotment) -> None:
        process.lease.take(allotment)

    @rule(count=st.integers(1, 3), slow_s=st.sampled_from([0.0, 0.0, 40.0]))
    def all_exchange(self, count: int, slow_s: float) -> None:
        for who in range(3):
            self.an_exchange(who, count, True, slow_s)

    @rule(who=st.integers(0, 2), count=st.integers(0, 3), hello=st.booleans(), slow_s=st.sampled_from([0.0, 0.0, 40.0]))
    def an_exchange(self, who: int, count: int, hello: bool, slow_s: float) -> None:
        """As it is on a good day: nothing is lost, at worst it is long on its way."""
        process, controller = self.processes[who], self.controllers[-1]
        if hello:
            self.controller_hears(self._hello(process), False)
        self.controller_hears(self._beat(process), False)
        if self.now_s >= controller.leads_until_s:
            return
        wanted = dict.fromkeys(BUDGETS, count)
        now_s = controller.clock.at(self.now_s)
        given = controller.ledger.allot(self.holder(process), wanted, BUDGETS, cap=CAP, now_s=now_s)
        self.now_s += slow_s
        self.agent_hears(Given(self.holder(process), given))

    # ---- what must hold ----

    def _open(self, pods: Iterable[PodRef]) -> dict[Scope, int]:
        return use(pod for pod in pods if self.kernel.get(pod.uid, -1.0) > self.now_s)

    @invariant()
    def never_more_than_the_budget(self) -> None:
        opened = self._open(pod for pod in PODS if not pod.name.startswith(self.liar))
        assert {scope: count for scope, count in opened.items() if count > BUDGETS[scope]} == {}

    @invariant()
    def never_more_than_the_cap_of_a_node(self) -> None:
        for node in NODES:
            if node != self.liar:
                assert self._open(mine(node)).get(MESH, 0) <= CAP

    @invariant()
    def a_liar_takes_no_more_than_its_cap(self) -> None:
        for controller in self.controllers:
            holders = [each for each in controller.ledger.holders if each.agent == self.liar]
            spent = sum(controller.ledger.holds(each)[MESH] for each in holders)
            assert spent <= CAP or controller.ledger.term > 1  # claims of an earlier term cost nobody anything


class AgentCountsFromReceipt(Partitioned):
    """A message that was long on its way lives longer than the controller thinks."""

    def taken(self, process: Process, allotment: Allotment) -> None:
        super().taken(process, allotment)
        process.lease.ends_s = process.clock.at(self.now_s) + LIFE_S


class NothingInUseIsMinded(Partitioned):
    """An allotment that is said to be there replaces all before, whatever is still open by them."""

    def heard(self, book: Ledger, beat: Beat) -> None:
        super().heard(book, replace(beat, used={}))


class NoCaution(Partitioned):
    """A new leader that thinks nobody was before it."""

    def caution_s(self, clock: Clock) -> float:
        return -math.inf


class NoSkew(Partitioned):
    skew_s = -LIFE_S / 10


class OneAccountForANode(Partitioned):
    """The first process is thought dead because there is a second one."""

    def holder(self, process: Process) -> Holder:
        return Holder(process.node, "i")


def late_allotment(world: Partitioned) -> None:
    """It arrives 40 s late, and its places are another node's by the time that the agent would think it has them."""
    world.an_exchange(0, 1, False, 40.0)
    world.time_passes(LIFE_S + SKEW_S - 40.0 + 1.0)
    world.all_of_a_node_falls_ill(0, False, False)
    world.an_exchange(1, 1, False, 0.0)
    world.all_of_a_node_falls_ill(1, False, False)


def shrunk_while_open(world: Partitioned) -> None:
    world.an_exchange(0, 1, False, 0.0)
    world.all_of_a_node_falls_ill(0, False, False)
    for _ in range(2):
        world.an_exchange(0, 0, False, 0.0)
    world.an_exchange(1, 1, False, 0.0)
    world.all_of_a_node_falls_ill(1, False, False)


def another_leader(world: Partitioned) -> None:
    world.an_exchange(0, 1, False, 0.0)
    world.controllers[-1].leads_until_s = world.now_s
    world.elect(STEADY)
    world.an_exchange(1, 1, False, 0.0)
    world.all_fall_ill(False)


def nearly_over(world: Partitioned) -> None:
    world.an_exchange(0, 1, False, 0.0)
    world.time_passes(LIFE_S - 1.0)
    world.all_of_a_node_falls_ill(0, False, False)
    world.an_exchange(1, 1, False, 0.0)
    world.all_of_a_node_falls_ill(1, False, False)


def two_processes(world: Partitioned) -> None:
    world.an_exchange(0, 3, False, 0.0)
    world.agent_restarts(0, False, True, STEADY)
    world.an_exchange(0, 3, False, 0.0)
    world.all_of_a_node_falls_ill(0, False, False)
    world.all_of_a_node_falls_ill(0, True, True)


STEADY = Clock(1.0, 0.0)


@pytest.mark.parametrize(
    ("story", "without"),
    [
        (late_allotment, AgentCountsFromReceipt),
        (shrunk_while_open, NothingInUseIsMinded),
        (another_leader, NoCaution),
        (nearly_over, NoSkew),
        (two_processes, OneAccountForANode),
    ],
)
def test_each_safeguard_is_needed(story: Callable[[Partitioned], None], without: type[Partitioned]) -> None:
    """A search that cannot fail would show nothing: the same story with a safeguard left out breaks the budget."""
    assert breach(Partitioned, story) == ""
    assert "assert" in breach(without, story)


def breach(of: type[Partitioned], story: Callable[[Partitioned], None]) -> str:
    world = of()
    world.begin([STEADY] * 3, STEADY)
    world.controllers[-1].leads_until_s = world.now_s + 10_000.0
    try:
        story(world)
        world.never_more_than_the_budget()
        world.never_more_than_the_cap_of_a_node()
    except AssertionError as failure:
        return f"assert {failure}"
    return ""


TestPartitioned = Partitioned.TestCase
TestPartitioned.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
