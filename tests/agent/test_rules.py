"""When a pod's rules are looked at: nothing that was written stays without a look that came after it (I4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hotswitch.act.actor import Actor
from hotswitch.agent.holding import hold
from hotswitch.agent.rules import Rules
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.kernel.command import run
from hotswitch.model import PodRef, PodUid
from hotswitch.report.journal import Journal
from hotswitch.report.metrics import Metrics

pytestmark = pytest.mark.netns
SPEC = CaptureSpec(inbound_ports="*", inbound_exclude_ports=(15090, 15021, 15020), outbound_cidrs="*")


class Acting:
    """Acts once, on the first look's news, as a guard does whose close was fenced: and wants that looked at."""

    def __init__(self) -> None:
        self.rules: Rules
        self.noted: list[str] = []
        self.ended = 0
        self.changed = asyncio.Event()

    def may_install(self) -> bool:
        return True

    def note(self, event: str, **fields: object) -> None:
        self.noted.append(event)
        self.changed.set()

    def news(self) -> None:
        if len(self.noted) == 1:
            self.rules.look_again()

    def look_ended(self) -> None:
        self.ended += 1
        self.changed.set()


def test_what_a_look_leads_to_is_looked_at_again(netns: str, tmp_path: Path) -> None:
    for command in commands(SPEC, Backend.IPTABLES_NFT, netns):
        run(command, check=True)

    async def story() -> Acting:
        holding, journal, acting = hold(netns, GateScope()), Journal(tmp_path / "journal"), Acting()
        pod = PodRef("shop", "web-0", PodUid("u1"))
        actor = Actor(pod, holding.gate, journal, Metrics(), frozenset())
        try:
            acting.rules = Rules(SPEC, holding, actor, acting)
            acting.rules.prepare()
            acting.rules.look_again()
            acting.rules.look_again()  # while one is under way: that one sees it
            async with asyncio.timeout(10):
                while acting.ended < 2:
                    acting.changed.clear()
                    await acting.changed.wait()
            await acting.rules.awaited()
            return acting
        finally:
            actor.close()
            holding.close()
            journal.close()

    acting = asyncio.run(story())
    assert acting.noted == ["verified", "verified"]
