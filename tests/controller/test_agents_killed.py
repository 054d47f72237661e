"""A controller ends with what an agent has said to it, and before anybody else could hear of it (S4.2, I6, I8).

In place of a kill: from an instant on the API server takes nothing of it any more, and then its tasks are cancelled.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.outbox import SAID_AT_MOST, Outbox
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.controller.settings import LEASE
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level, PodRef, PodUid
from hotswitch.report.journal import entry
from tests.controller.agency import agent_pod, link, running, token_of
from tests.controller.test_agents import leads, may_open, run, serving
from tests.controller.town import ACCOUNT, Town

pytestmark = pytest.mark.k8s


def of_controller(ask: Any) -> bool:
    return str(ask.user.name) == ACCOUNT


def opened(made: Town) -> list[int]:
    """How often each Event of an opening was meant."""
    return [each["count"] for each in made.api.admin.list("events", "shop") if each["reason"] == Code.OPENED]


@pytest.mark.parametrize("told", [False, True], ids=["it has told nobody", "its Event was written"])
def test_killed_with_what_an_agent_has_opened(tmp_path: Path, told: bool) -> None:
    async def story(made: Town, tls: Path) -> None:
        uid, faults = await made.pod("web-0"), made.api.faults
        async with AsyncExitStack() as first:
            old = await first.enter_async_context(serving(made, tls, "c0"))
            await leads(made, old)
            port = old.office.port
            async with running(link(made, old, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                struck = faults.fail(503, verb="patch", resource="pods/status", when=of_controller)
                if not told:
                    faults.fail(503, verb="create", resource="events", when=of_controller)
                guard.dead = True
                await made.until(lambda: struck.struck > 1 and bool(opened(made)) is told, "heard")
                await first.aclose()
                assert made.status("web-0") is None
                faults.clear()
                made.api.admin.patch("leases", LEASE, {"spec": {"holderIdentity": ""}}, "hotswitch-system")
                async with made.controller("c1", agents_port=port, agents_tls=tls) as new:
                    await leads(made, new)
                    await made.until(lambda: (page := made.status("web-0")) and page.code == Code.OPENED, "written")
                    assert made.status("web-0").levels[Direction.INBOUND] is Level.RESCUE
                    guard.dead = False
                    await made.until(lambda: Code.RESTORED in made.codes("web-0"), "Event of the end")
                    await made.until(lambda: len(opened(made)) > 1, "Event of the matter's end")
                    await made.until(lambda: not node.authority._outbox._lines, "nothing is left to be said")
                    assert opened(made) == [1, 1], "its beginning and its end, each once"

    run(story, tmp_path)


def test_restored_while_nobody_led(tmp_path: Path) -> None:  # I1, I3
    """The status still says that it is open: that is the agent's own place, and it keeps it."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with AsyncExitStack() as first:
            old = await first.enter_async_context(serving(made, tls, "c0"))
            await leads(made, old)
            port = old.office.port
            async with running(link(made, old, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")
                guard.dead = True
                await made.until(lambda: (page := made.status("web-0")) and page.code == Code.OPENED, "open")
                await first.aclose()
                guard.dead = False
                await made.until(lambda: not guard.standing.is_open, "restored")
                made.api.admin.patch("leases", LEASE, {"spec": {"holderIdentity": ""}}, "hotswitch-system")
                async with made.controller("c1", agents_port=port, agents_tls=tls) as new:
                    await leads(made, new)
                    await made.until(lambda: Code.RESTORED in made.codes("web-0"), "told")
                    assert may_open(node, uid)
                    guard.dead = True
                    await made.until(lambda: guard.acts.count(Code.OPENED) == 2, "opened again")

    run(story, tmp_path)


class Heard:
    """A link on which all is heard. `lines`: their numbers, in turn."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.all_said = asyncio.Event()

    async def send(self, raw: bytes) -> None:
        message = wire.FromAgent.FromString(raw)
        if message.HasField("line"):
            self.lines.append(message.line.number)
            if message.line.event == "last":
                self.all_said.set()


async def said(outbox: Outbox, *, confirms: bool) -> list[int]:
    """On one link, from its beginning to its end."""
    link = Heard()
    outbox.begin_anew(confirms=confirms)
    saying = asyncio.create_task(outbox.say(link, wire.Beat, 60.0))  # type: ignore[arg-type]
    await asyncio.wait({saying, asyncio.create_task(link.all_said.wait())}, return_when=asyncio.FIRST_COMPLETED)
    saying.cancel()
    return link.lines


def filled() -> Outbox:
    outbox = Outbox()
    for uid, event in (("a", "open"), ("b", "open"), ("a", "close"), ("", "last")):
        outbox.line(entry(event, PodRef("web", "shop", PodUid(uid), "")))
    return outbox


def test_a_line_is_said_until_it_is_written_down() -> None:
    async def story() -> None:
        outbox = filled()
        first, second, third, last = await said(outbox, confirms=True)
        assert await said(outbox, confirms=True) == [first, second, third, last]
        outbox.written(PodUid("a"), second)
        assert await said(outbox, confirms=True) == [second, third, last]
        outbox.written(PodUid("a"), third)
        outbox.written(PodUid("b"), third)
        assert await said(outbox, confirms=True) == [last] and not outbox.dropped

    asyncio.run(story())


def test_a_line_that_no_controller_takes_does_not_end_every_link() -> None:
    async def story() -> None:
        outbox = filled()
        for _ in range(SAID_AT_MOST):
            assert len(await said(outbox, confirms=True)) == 4
        outbox.line(entry("last", PodRef("web", "shop", PodUid(""), "")))
        assert len(await said(outbox, confirms=True)) == 1 and outbox.dropped == 4

    asyncio.run(story())


def test_a_controller_that_confirms_nothing_is_told_once() -> None:
    async def story() -> None:
        outbox = filled()
        assert len(await said(outbox, confirms=False)) == 4
        outbox.line(entry("last", PodRef("web", "shop", PodUid(""), "")))
        assert len(await said(outbox, confirms=False)) == 1 and not outbox.dropped

    asyncio.run(story())
