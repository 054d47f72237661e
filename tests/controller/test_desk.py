"""Many agents at one desk, in simulated time: what one of them says, all others must be safe from (I3, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.kept import Kept, fresh
from hotswitch.api.agent.reports import ability_message, diagnosis_message, standing_message
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.agents.desk import SKEW_S, Desk
from hotswitch.controller.agents.granting import Granting, Settings
from hotswitch.controller.agents.limits import Rejected
from hotswitch.controller.agents.plan import Limit, limit_of
from hotswitch.controller.agents.present import Agent
from hotswitch.controller.agents.trust import Speaker
from hotswitch.decide.grants import MESH, Scope, workload_scope
from hotswitch.model import Capabilities, Diagnosis, Direction, Fault, Grade, Level, Opinion, PodRef, PodUid, Standing

pytestmark = pytest.mark.unit

LIFE_S = 600.0


@dataclass
class Around:
    """A mesh of some nodes with pods of two workloads, `web` and `db`, each on every node."""

    nodes: int = 4
    mesh: int = 8
    cap: int = 3
    workload: int = 6
    namespace: int = 0  # 0: as much as the mesh
    bank: int = 0  # so many pods more on each node, in a namespace without a budget of its own
    ours: list[PodRef] = field(default_factory=list)
    why_frozen: str = ""

    def pods_of(self, node: str) -> Iterable[PodRef]:
        if int(node.rpartition("-")[2]) >= self.nodes:
            return []
        return [
            PodRef(f"{name}-{at}-{node}", "shop", PodUid(f"{name}{at}/{node}"), f"deploy/{name}")
            for name in ("web", "db") for at in range(2)
        ] + [
            PodRef(f"till-{at}-{node}", "bank", PodUid(f"till{at}/{node}"), "deploy/till") for at in range(self.bank)
        ]  # fmt: skip

    def place_of(self, uid: PodUid) -> tuple[PodRef, str] | None:
        node = uid.partition("/")[2]
        found = [pod for pod in self.pods_of(node) if pod.uid == uid] if node else []
        return (found[0], node) if found else None

    def limit(self, pod: PodRef) -> Limit:
        return limit_of(
            pod, mesh=self.mesh, namespace=(self.namespace or self.mesh) if pod.namespace == "shop" else self.mesh,
            workload=self.workload, node=self.cap,
            pods=lambda _: 2 * self.nodes,
        )  # fmt: skip

    def opened(self) -> Iterable[PodRef]:
        return self.ours

    def frozen(self) -> str:
        return self.why_frozen


@dataclass
class Link:
    said: list[wire.ToAgent] = field(default_factory=list)
    ended: str = ""

    def send(self, message: wire.ToAgent) -> None:
        self.said.append(message)

    def end(self, reason: str, sentence: str) -> None:
        self.ended = reason

    @property
    def allotment(self) -> wire.Allotment:
        return next(each.allotment for each in reversed(self.said) if each.WhichOneof("said") == "allotment")


@dataclass
class Room:
    around: Around = field(default_factory=Around)
    now_s: float = 1000.0
    term: int = 1
    rejected: list[str] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
    leads: bool = True

    def __post_init__(self) -> None:
        self.looks: list[tuple[str, float, Callable[[Opinion], None]]] = []
        self.desk = Desk(
            self.around, now_s=lambda: self.now_s, news=lambda _: None, rejected=self.rejected.append,
            came=lambda _: None, leads=lambda: self.leads, look=lambda *asked: self.looks.append(asked), life_s=LIFE_S,
        )  # fmt: skip
        self.desk.lead(self.term)
        if self.term == 1:
            self.desk.be_sure()

    def come(self, node: str, **hello: Any) -> Agent:
        link = self.links[node] = Link()
        return self.desk.come(Speaker(node=node), wire.Hello(instance="i", **hello), link)

    def beat(self, agent: Agent, used: dict[str, int] | None = None) -> dict[str, int]:
        """The places that it is given; it acts on what it was given last."""
        name = agent.speaker.pod_uid or agent.speaker.node
        self.beats[name] = self.beats.get(name, 0) + 1
        given = agent.allotted
        order = wire.Order(term=given.term, serial=given.serial) if given is not None else None
        message = wire.Beat(number=self.beats[name], acts_on=order, used=used or {})
        self.desk.hear(agent, wire.FromAgent(beat=message))
        return dict(self.links[name].allotment.places)

    def come_inside(self, uid: str, **hello: Any) -> Agent:
        """An agent that lives in the pod, whose name in `links` is its pod's."""
        link = self.links[uid] = Link()
        node = uid.partition("/")[2]
        return self.desk.come(Speaker(node=node, pod_uid=uid), wire.Hello(instance="i", **hello), link)

    def report(self, agent: Agent, uid: str, state: str) -> None:
        """`state`: well, waits or open."""
        levels = {Direction.INBOUND: Level.RESCUE, Direction.OUTBOUND: Level.HOLD}
        ill = state != "well"
        standing = Standing(
            levels=levels if state == "open" else Standing().levels,
            fault=Fault.DEAD if ill else Fault.WELL,
            recent_faults_s=(self.now_s,) if ill else (),
        )
        seen = Diagnosis(Fault.DEAD if ill else Fault.WELL, Grade.CORROBORATED if ill else Grade.NONE, "", {})
        report = wire.PodReport(
            uid=uid, standing=standing_message(standing, self.now_s), diagnosis=diagnosis_message(seen, self.now_s),
            ability=ability_message(Capabilities(rescue=True)),
        )  # fmt: skip
        self.desk.hear(agent, wire.FromAgent(pod=report))


def test_places_are_shared_by_all_that_are_there() -> None:
    room = Room()
    agents = [room.come(f"node-{at}") for at in range(4)]
    for _ in range(2):
        given = [room.beat(agent)[MESH] for agent in agents]
        room.now_s += 2.0
    assert sum(given) == 8 and max(given) - min(given) <= 1


def test_one_lying_agent_spends_its_own_cap_alone() -> None:  # I3
    """It says that all is open, that everything waits, and that it held everything before."""
    room = Room()
    liar, honest = room.come("node-0"), [room.come(f"node-{at}") for at in (1, 2, 3)]
    claims = {str(scope): 10**6 for scope in room.desk.plan.wanted(liar.name, room.now_s)}
    for _ in range(4):
        room.beat(liar, {**claims, "workload/bank/vault": 10**6})
        for uid in [pod.uid for pod in room.around.pods_of("node-0")]:
            room.report(liar, uid, "waits")
        given = [room.beat(agent)[MESH] for agent in honest]
        room.now_s += 2.0
    assert room.desk.held(MESH, room.around.mesh) <= room.around.mesh
    assert sum(given) >= room.around.mesh - room.around.cap
    assert room.desk.ledger is not None
    assert room.desk.ledger.held(Scope("workload/bank/vault"), room.now_s) == 0


def test_places_that_its_predecessor_never_gave() -> None:  # I3
    """A new leader believes an agent what it held, up to the cap; a lie costs the others nothing."""
    room = Room(term=2)
    liar = room.come("node-0", places={MESH: 10**6}, acts_on=wire.Order(term=1, serial=9))
    honest = room.come("node-1", places={MESH: 2, "namespace/shop": 2}, acts_on=wire.Order(term=1, serial=4))
    assert room.beat(liar)[MESH] <= room.around.cap
    assert room.beat(honest)[MESH] == 2
    room.now_s += LIFE_S + SKEW_S
    assert room.beat(honest)[MESH] > 2


CLAIMS = {MESH: 10**6, "namespace/shop": 10**6, "workload/shop/deploy/web": 10**6}


@pytest.mark.parametrize("term", [1, 2])
def test_agents_inside_the_pods_of_one_tenant_all_lie(term: int) -> None:  # I2, I3
    """Together they spend their namespace's budget, whoever leads and whatever they say they held, use, or wait for."""
    room = Room(Around(nodes=12, mesh=8, namespace=3, workload=3, bank=4), term=term)
    liars = [
        room.come_inside(f"web0/node-{at}", places=CLAIMS, acts_on=wire.Order(term=1, serial=9)) for at in range(8)
    ]
    honest = [room.come(f"node-{at}") for at in range(8, 12)]
    assert room.desk.ledger is not None
    for _ in range(4):
        for liar in liars:
            room.report(liar, liar.speaker.pod_uid, "waits")
            room.beat(liar, CLAIMS)
            assert room.desk.ledger.held(MESH, room.now_s) - _held(room, honest) <= 3
        given = [room.beat(agent)[MESH] for agent in honest]
        room.now_s += 2.0 if term == 1 else LIFE_S
    assert sum(given) >= 4
    assert ("over-budget" in room.rejected) is (term == 2)


def _held(room: Room, agents: list[Agent]) -> int:
    assert room.desk.ledger is not None
    return room.desk.ledger.held_by([agent.holder for agent in agents], MESH)


def test_an_agent_inside_a_pod_keeps_what_it_held() -> None:  # I1
    """Another controller leads; the gate of its pod is open."""
    room = Room(Around(nodes=4, mesh=8, namespace=3, workload=3), term=2)
    uses = {MESH: 1, "namespace/shop": 1, "workload/shop/deploy/web": 1}
    agent = room.come_inside("web0/node-0", places=uses, acts_on=wire.Order(term=1, serial=4))
    assert room.beat(agent, uses) == uses
    room.now_s += LIFE_S
    assert room.beat(agent, uses) == uses


def test_an_agent_asks_whether_others_see_the_hang() -> None:  # S4.2b, I2
    room = Room()
    agent = room.come("node-0")

    def asks(uid: str, number: int, timeout_s: float = 0.25) -> None:
        question = wire.Question(uid=uid, number=number, timeout_s=timeout_s)
        room.desk.hear(agent, wire.FromAgent(question=question))

    asks("web0/node-0", 1)
    (uid, timeout_s, done) = room.looks.pop()
    assert (uid, timeout_s) == ("web0/node-0", 0.25)
    asks("web0/node-0", 2)  # again, while it is being looked at
    assert not room.looks and room.links["node-0"].said[-1].opinion == wire.Opinion(uid=uid, number=2)
    done(Opinion(3, 1, 2))
    told = wire.Opinion(uid=uid, number=1, asked=3, answered=1, silent=2)
    assert room.links["node-0"].said[-1].opinion == told
    asks("web0/node-0", 3)
    assert len(room.looks) == 1
    asks("web9/node-0", 4)
    assert room.rejected == ["unknown-pod"]
    with pytest.raises(Rejected, match="none of agent on node-0"):
        asks("web0/node-1", 5)
    for wrong_s in (0.0, 1e9, float("nan")):
        with pytest.raises(Rejected, match="timeout_s"):
            asks("web1/node-0", 6, wrong_s)


def test_a_place_moves_to_who_waits_only_when_it_is_given_back() -> None:  # I3
    room = Room(Around(nodes=2, mesh=1))
    first, second = room.come("node-0"), room.come("node-1")
    given = {agent.name: room.beat(agent)[MESH] for agent in (first, second)}
    idle, needy = (first, second) if given[first.name] else (second, first)
    assert sorted(given.values()) == [0, 1]
    pod = next(iter(room.around.pods_of(needy.speaker.node)))
    room.report(needy, pod.uid, "waits")
    assert room.links[idle.speaker.node].allotment.places[MESH] == 0
    assert room.links[needy.speaker.node].allotment.places[MESH] == 0  # the other one has not said yes
    room.beat(idle)
    assert room.links[needy.speaker.node].allotment.places[MESH] == 1


def test_a_place_that_is_in_use_does_not_move() -> None:
    room = Room(Around(nodes=2, mesh=1))
    first, second = room.come("node-0"), room.come("node-1")
    given = {agent.name: room.beat(agent)[MESH] for agent in (first, second)}
    user, needy = (first, second) if given[first.name] else (second, first)
    pod = next(iter(room.around.pods_of(user.speaker.node)))
    room.report(user, pod.uid, "open")
    room.beat(user, {MESH: 1, "namespace/shop": 1, workload_scope("shop", pod.workload): 1})
    room.report(needy, next(iter(room.around.pods_of(needy.speaker.node))).uid, "waits")
    assert room.beat(user, {MESH: 1})[MESH] == 1
    assert room.links[needy.speaker.node].allotment.places[MESH] == 0


def test_what_the_controller_has_open_is_not_given() -> None:  # I3
    room = Room(Around(nodes=1, mesh=3))
    room.around.ours = [PodRef("x", "shop", PodUid("x"), "deploy/x"), PodRef("y", "bank", PodUid("y"), "deploy/y")]
    assert room.beat(room.come("node-0"))[MESH] == 1


def test_most_of_the_mesh_looks_sick() -> None:  # I3
    """Every agent is told at once, and told when it is over."""
    room = Room()
    agents = [room.come(f"node-{at}") for at in range(3)]
    for agent in agents:
        room.beat(agent)
    room.around.why_frozen = "most pods look sick"
    room.desk.refresh()
    assert {link.allotment.frozen for link in room.links.values()} == {"most pods look sick"}
    room.around.why_frozen = ""
    room.desk.refresh()
    assert {link.allotment.frozen for link in room.links.values()} == {""}


def test_pods_of_a_workload_fall_ill_on_two_nodes() -> None:  # I3
    room = Room()
    first, second = room.come("node-0"), room.come("node-1")
    room.report(first, "web0/node-0", "open")
    room.now_s += 20.0
    room.beat(second)
    told = room.links["node-1"].allotment.mates
    assert [(each.workload, [round(age) for age in each.ages_s]) for each in told] == [
        ("workload/shop/deploy/web", [20])
    ]
    room.beat(first)
    assert not room.links["node-0"].allotment.mates  # of its own it knows


def test_an_agent_connects_anew_before_its_old_link_is_known_to_be_dead() -> None:
    room = Room()
    room.come("node-0")
    older = room.links["node-0"]
    fresh_one = room.come("node-0")
    assert older.ended == "replaced" and room.desk.agents == {"node/node-0": fresh_one}


def test_a_pod_whose_agent_is_silent_stays_its_own_until_the_lease_is_over() -> None:  # I1, I6
    room = Room()
    agent = room.come("node-0")
    room.report(agent, "web0/node-0", "open")
    room.beat(agent)
    room.desk.leave(agent)
    assert room.desk.told("web0/node-0") is not None
    room.now_s += LIFE_S + SKEW_S
    room.desk.refresh()
    assert room.desk.told("web0/node-0") is None


def test_a_deposed_leader_hears_nobody_and_gives_nothing() -> None:  # I6
    room = Room()
    agent = room.come("node-0")
    room.desk.follow()
    assert room.links["node-0"].ended == "not-leading"
    for message in (wire.FromAgent(beat=wire.Beat(number=9)), wire.FromAgent()):
        with pytest.raises(Rejected, match="does not lead"):
            room.desk.hear(agent, message)
    with pytest.raises(Rejected, match="does not lead"):
        room.come("node-1")


def test_a_leader_that_was_stopped_gives_nothing_when_it_goes_on() -> None:  # I3, I6
    """Somebody else leads since, and nobody has told it yet: what it answered now would outlive the other's caution."""
    room = Room()
    agent = room.come("node-0")
    room.beat(agent)
    said = len(room.links["node-0"].said)
    room.leads = False
    with pytest.raises(Rejected, match="does not lead"):
        room.beat(agent)
    room.around.why_frozen = "any reason"
    room.desk.refresh()
    assert len(room.links["node-0"].said) == said


@pytest.mark.parametrize("serial", [2**64 - 2, 2**53 + 1])
def test_a_number_beyond_which_nobody_can_count(serial: int) -> None:  # I3
    """Else the next allotment, be it for a freeze, could not be written down, and the controller would end."""
    room = Room()
    with pytest.raises(Rejected, match=r"acts_on\.serial"):
        room.come("node-0", acts_on=wire.Order(term=1, serial=serial))
    assert not room.desk.agents
    agent = room.come("node-0", acts_on=wire.Order(term=1, serial=2**53))
    room.beat(agent)
    room.around.why_frozen = "most pods look sick"
    room.desk.refresh()
    assert room.links["node-0"].allotment.frozen


def test_pods_that_are_gone_do_not_make_the_mesh_look_sick() -> None:  # I3
    """An agent that never says that they are."""
    room = Room()
    room.report(room.come("node-3"), "web0/node-3", "waits")
    assert room.desk.sick == 1
    room.around.nodes = 3
    assert room.desk.sick == 0


def test_what_is_known_of_workloads_goes_with_them() -> None:
    room = Room()
    agent = room.come("node-0")
    for at in range(20):  # jobs
        pod = PodRef(f"job-{at}", "shop", PodUid(f"job{at}/node-0"), f"job/{at}")
        room.desk.plan.place(agent.name, [pod])
        room.beat(agent, {workload_scope("shop", pod.workload): 1})
        room.now_s += LIFE_S + SKEW_S
    room.desk.plan.place(agent.name, room.desk.pods_of(agent))
    room.beat(agent)
    plan, ledger = room.desk.plan, room.desk.ledger
    assert ledger is not None
    for known in (plan._in, plan._budgets, plan._pods, plan._shares, plan._stale, ledger._total):
        assert not [scope for scope in known if scope.startswith("workload/shop/job/")]
    room.desk.leave(agent)
    room.now_s += LIFE_S + SKEW_S
    ledger.tidy(room.now_s)
    assert not ledger._of_agent and not ledger._total


def test_evidence_without_end_is_not_kept() -> None:
    room = Room()
    agent = room.come("node-0")
    seen = wire.Diagnosis(fault="dead", grade="corroborated", evidence={str(at): "x" for at in range(5000)})
    report = wire.PodReport(uid="web0/node-0", standing=standing_message(Standing(), room.now_s), diagnosis=seen)
    room.desk.hear(agent, wire.FromAgent(pod=report))
    told = room.desk.told("web0/node-0")
    assert told is not None and len(told.state.diagnosis.evidence) == 64


def test_a_report_that_was_longer_on_its_way_says_nothing_new() -> None:
    """Ages become instants as they are heard; each other instant would be a write to the pod."""
    room = Room()
    agent, began_s = room.come("node-0"), room.now_s
    stands = Standing(
        levels={Direction.INBOUND: Level.RESCUE, Direction.OUTBOUND: Level.HOLD}, fault=Fault.DEAD, opened_s=began_s,
        fault_since_s=began_s, recent_faults_s=(began_s,), expires_s=began_s + 60.0, hold_down_until_s=began_s + 5.0,
    )  # fmt: skip

    def heard(stands: Standing, late_s: float) -> Standing:
        said = wire.PodReport(uid="web0/node-0", standing=standing_message(stands, room.now_s))
        said.diagnosis.CopyFrom(diagnosis_message(Diagnosis(Fault.DEAD, Grade.CORROBORATED, "dead"), room.now_s))
        room.now_s += late_s
        room.desk.hear(agent, wire.FromAgent(pod=said))
        told = room.desk.told("web0/node-0")
        assert told is not None
        return told.state.standing

    first = heard(stands, 0.003)
    assert heard(stands, 0.4) == first
    renewed = heard(replace(stands, expires_s=began_s + 90.0), 0.1)
    assert renewed.expires_s == pytest.approx(began_s + 90.1) and replace(renewed, expires_s=first.expires_s) == first


def test_a_pod_that_has_its_own_agent_is_that_ones() -> None:
    room = Room()
    near = Link()
    node = room.come("node-0")
    own = room.desk.come(Speaker(node="node-0", pod_uid="web0/node-0"), wire.Hello(instance="p"), near)
    room.desk.place(node)
    room.report(own, "web0/node-0", "open")
    room.report(node, "web0/node-0", "well")  # it speaks for its node, but not for this one
    told = room.desk.told("web0/node-0")
    assert told is not None and told.state.standing.is_open and told.state.agent == "agent in the pod"
    assert room.rejected == ["unknown-pod"]
    with pytest.raises(Rejected, match="none of agent in the pod"):
        room.report(own, "db0/node-0", "open")


def test_one_odd_pod_keeps_no_other_from_being_granted() -> None:
    """Whatever reading its settings raises."""

    async def story() -> None:
        room = Room()
        agent = room.come("node-0")
        first, *others = room.desk.pods_of(agent)

        async def settings(pod: PodRef) -> Settings:
            if pod.uid == first.uid:
                raise RecursionError("its settings are odd")
            return Settings(protection=None)

        granting = Granting(room.desk, settings)
        granting.all_of(agent)
        work = asyncio.create_task(granting.run())
        said = room.links["node-0"].said
        async with asyncio.timeout(30.0):
            while len(said) < len(others) and not work.done():
                await asyncio.sleep(0.01)
        assert {each.withdrawal.uid for each in said} == {pod.uid for pod in others}
        assert not work.done()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(story())


def test_two_processes_have_not_the_same_memory(tmp_path: Path) -> None:  # I3
    """The lock goes with the process; who comes second is somebody new. A file from before a reboot is nothing."""
    first, second = Kept(tmp_path / "kept"), Kept(tmp_path / "kept")
    memory = first.read()
    first.write(memory)
    assert second.read().instance != memory.instance
    second.write(fresh())
    first.close()
    third = Kept(tmp_path / "kept")
    assert third.read() == memory
    third.close()
    before = Kept(tmp_path / "kept")
    (tmp_path / "kept").write_bytes((tmp_path / "kept").read_bytes().replace(memory.boot.encode(), b"x" * 36))
    assert before.read().instance != memory.instance
    before.close()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"\xc1 nonsense")
    kept = Kept(tmp_path / "kept")
    assert kept.read().places == {}
    kept.close()
