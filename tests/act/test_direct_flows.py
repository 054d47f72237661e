"""Flows past the proxy, once capture is back: they may finish; what is left when their time is over is ended (S4.5).

The time counts from the end of their own way. Found under gates that were toggled a million times: a connection that
was opened past the proxy just before a gate closed was reset, because an earlier opening's time was over then.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hotswitch.act import actor as module
from hotswitch.act.actor import Actor
from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.kernel.netns import inside
from hotswitch.model import Act, Decision, Direction, Generation, Level, Opening, PodRef, PodUid
from hotswitch.report.journal import Journal
from hotswitch.report.metrics import Metrics
from tests.namespaces import POD_V4, Pair

pytestmark = pytest.mark.netns
POD = PodRef("web-0", "default", PodUid("u1"), "deploy/web")
APP = 8080
WITHIN_S = 10.0
Scenario = Callable[[Actor], Awaitable[None]]


def decision(act: Act, generation: int, level: Level = Level.DIRECT) -> Decision:
    openings = {Direction.INBOUND: Opening(level)} if act is Act.OPEN else {}
    return Decision(act, POD, Generation(generation), "HSD001", "because", openings, expiry_s=60.0)


@pytest.fixture
def ended(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], list[str]]:
    """Plays acts, awaits the end of a client's flow, and tells how many flows each cut ended. The flow stands since
    before the acts: as far as the cut can see, it went past the proxy."""
    monkeypatch.setattr(module, "DIRECT_GRACE_S", 0.2)

    def play(scenario: Scenario) -> list[str]:
        journal = Journal(tmp_path / "journal.jsonl")

        async def main() -> None:
            gate = Gate(pair.pod, GateScope())
            gate.install()
            gate.trust()
            actor = Actor(POD, gate, journal, Metrics(), frozenset({APP}))
            with inside(pair.pod):
                app = socket.create_server((POD_V4, APP))
            with inside(pair.client):
                client = socket.create_connection((POD_V4, APP))
            client.setblocking(False)
            served, _ = app.accept()
            try:
                await scenario(actor)
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), WITHIN_S)
                await actor.settled()
            finally:
                actor.close()
                gate.close()
                for sock in (app, client, served):
                    sock.close()

        asyncio.run(main())
        return [each.evidence["flows"] for each in journal.read() if each.event == "cut-direct"]

    return play


def test_what_is_left_when_the_time_is_over_is_ended(ended: Callable[[Scenario], list[str]]) -> None:
    async def scenario(actor: Actor) -> None:
        assert actor.perform(decision(Act.OPEN, 1)).done
        assert actor.perform(decision(Act.CLOSE, 2)).done

    assert ended(scenario) == ["1"]


def test_the_end_of_an_earlier_way_ends_no_flow_of_a_later_one(ended: Callable[[Scenario], list[str]]) -> None:
    """The first one's time is over while the gate is closed again: nothing is ended for it."""

    async def scenario(actor: Actor) -> None:
        for generation in (1, 3):
            assert actor.perform(decision(Act.OPEN, generation)).done
            assert actor.perform(decision(Act.CLOSE, generation + 1)).done

    assert ended(scenario) == ["1"]


def test_a_way_that_was_not_opened_after_all_changes_nothing(ended: Callable[[Scenario], list[str]]) -> None:
    async def scenario(actor: Actor) -> None:
        assert actor.perform(decision(Act.OPEN, 1)).done
        assert actor.perform(decision(Act.CLOSE, 2)).done
        actor.gate.remove()
        assert not actor.perform(decision(Act.OPEN, 3)).done

    assert ended(scenario) == ["1"]


def test_a_way_that_the_rescue_takes_over_ends_as_well(ended: Callable[[Scenario], list[str]]) -> None:
    async def scenario(actor: Actor) -> None:
        assert actor.perform(decision(Act.OPEN, 1)).done
        assert actor.perform(decision(Act.OPEN, 2, Level.RESCUE)).done

    assert ended(scenario) == ["1"]
