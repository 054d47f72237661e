"""Acting on one pod: fenced, journalled, repeatable, and never a traceback (I4, I6, I8)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotswitch.act.actor import DYING_S, Actor, plan_of
from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside
from hotswitch.model import Act, Decision, Direction, Generation, Level, Opening, PodRef, PodUid
from hotswitch.report.journal import Journal
from hotswitch.report.metrics import Metrics

pytestmark = pytest.mark.netns
POD = PodRef("web-0", "default", PodUid("u1"), "deploy/web")
Scenario = Callable[[Actor], Awaitable[None]]


def decision(act: Act, generation: int, level: Level = Level.DIRECT, pod: PodRef = POD) -> Decision:
    openings = {Direction.INBOUND: Opening(level)} if act in (Act.OPEN, Act.RENEW) else {}
    return Decision(act, pod, Generation(generation), "HSD001", "because", openings, expiry_s=60.0)


@pytest.fixture
def played(netns: str, tmp_path: Path) -> Callable[[Scenario], Journal]:
    def play(scenario: Scenario) -> Journal:
        journal = Journal(tmp_path / "journal.jsonl")

        async def main() -> None:
            gate = Gate(netns, GateScope())
            gate.install()
            gate.trust()
            actor = Actor(POD, gate, journal, Metrics(), frozenset({8080}))
            try:
                await scenario(actor)
                await actor.settled()
            finally:
                actor.close()
                gate.close()

        asyncio.run(main())
        return journal

    return play


def test_every_act_can_be_read_afterwards(played: Callable[[Scenario], Journal]) -> None:  # I8
    async def scenario(actor: Actor) -> None:
        assert actor.perform(decision(Act.OPEN, 1), who="root").done
        assert actor.perform(decision(Act.CLOSE, 2)).done

    entries = played(scenario).read()
    told = [(each.event, each.who, each.rules_before, each.rules_after, each.generation) for each in entries]
    assert told == [
        ("open", "root", "closed", "inbound direct", 1),
        ("close", "agent", "inbound direct", "closed", 2),
    ]
    assert all(each.durations_ms["gate_ms"] > 0 for each in entries)


def test_an_act_of_a_deposed_generation_is_refused(played: Callable[[Scenario], Journal]) -> None:  # I6
    async def scenario(actor: Actor) -> None:
        actor.perform(decision(Act.OPEN, 5))
        late = actor.perform(decision(Act.CLOSE, 4))
        assert not late.done and "older" in late.why
        assert actor.gate.read().is_open

    played(scenario)


def test_an_act_for_another_pod_of_the_same_name_is_refused(played: Callable[[Scenario], Journal]) -> None:  # I6
    async def scenario(actor: Actor) -> None:
        reborn = PodRef("web-0", "default", PodUid("u2"), "deploy/web")
        assert not actor.perform(decision(Act.OPEN, 1, pod=reborn)).done
        assert not actor.gate.read().is_open

    played(scenario)


def test_a_repeated_act_ends_in_the_same_state(played: Callable[[Scenario], Journal]) -> None:  # I6
    async def scenario(actor: Actor) -> None:
        for _ in range(3):
            assert actor.perform(decision(Act.OPEN, 1)).done
        once = actor.gate.read()
        assert once.openings == {Direction.INBOUND: Opening(Level.DIRECT)}
        for _ in range(3):
            assert actor.perform(decision(Act.CLOSE, 2)).done
        assert not actor.gate.read().is_open

    played(scenario)


def test_somebody_changed_the_rules_meanwhile(played: Callable[[Scenario], Journal], netns: str) -> None:
    async def scenario(actor: Actor) -> None:
        run(Command(("nft", "add", "table", "inet", "somebody"), netns=netns), check=True)
        fenced = actor.perform(decision(Act.OPEN, 1))
        assert (fenced.done, fenced.inspect) == (False, True)
        assert not actor.gate.read().is_open

    [entry] = played(scenario).read()
    assert (entry.event, entry.rules_after) == ("open", "") and "changed" in entry.failed


def test_flows_stuck_in_a_hung_proxy_are_ended(played: Callable[[Scenario], Journal], netns: str) -> None:
    async def scenario(actor: Actor) -> None:
        with inside(netns):
            proxy, app = socket.create_server(("127.0.0.1", 15006)), socket.create_server(("127.0.0.1", 8080))
            stuck, fine = socket.socket(), socket.socket()
        stuck.connect(("127.0.0.1", 15006))
        fine.connect(("127.0.0.1", 8080))
        actor.perform(decision(Act.CUT, 1))
        await actor.settled()
        with pytest.raises(ConnectionResetError):
            stuck.recv(1)
        served, _ = app.accept()
        served.sendall(b"x")
        assert fine.recv(1) == b"x"
        for sock in (proxy, app, stuck, fine, served):
            sock.close()

    [entry] = played(scenario).read()
    assert (entry.event, entry.evidence) == ("cut", {"flows": "1"})


@pytest.mark.parametrize("kernel_was_quicker", [True, False])
def test_flows_of_a_killed_proxy_are_ended(
    played: Callable[[Scenario], Journal], netns: str, kernel_was_quicker: bool
) -> None:
    """The kernel is given a moment to do it; where it has, there is nothing to do and to tell."""

    async def scenario(actor: Actor) -> None:
        with inside(netns):
            proxy, client = socket.create_server(("127.0.0.1", 15006)), socket.socket()
        client.connect(("127.0.0.1", 15006))
        actor.perform(replace(decision(Act.CUT, 1), evidence={"fault": "dead"}))
        if kernel_was_quicker:
            proxy.close()
        await asyncio.sleep(2 * DYING_S)
        await actor.settled()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        proxy.close()
        client.close()

    told = [(entry.event, entry.evidence) for entry in played(scenario).read()]
    assert told == ([] if kernel_was_quicker else [("cut", {"flows": "1"})])


def test_plan_is_what_a_person_could_type(netns: str) -> None:
    plan = plan_of(decision(Act.OPEN, 1), netns, GateScope())
    assert plan.startswith(f"nsenter --net={netns} nft -f - <<'EOF'\nflush map inet hotswitch inbound\n")
    assert "add element inet hotswitch inbound_all { tcp timeout 60000ms" in plan


def test_plan_says_which_names_fail_meanwhile(netns: str) -> None:
    names = GateScope(dns_servers=None)
    opened = Decision(Act.OPEN, POD, Generation(1), "HSD001", "because", {Direction.OUTBOUND: Opening(Level.DIRECT)})
    assert plan_of(opened, netns, names).endswith("names that only pilot-agent can resolve fail")
    assert "names" not in plan_of(opened, netns, GateScope())
    assert "names" not in plan_of(decision(Act.OPEN, 1), netns, names), "inbound only"
