"""A node's agent and the shipped controller: granted, then left alone by everybody, it goes on (I1, I2, S4.2, S4.4)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from hotswitch.cluster.kinds import NAMESPACES, POLICIES
from hotswitch.decide.codes import Code
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside
from hotswitch.report.journal import Entry
from hotswitch.sandbox.cluster.agents import OVERLAY
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ROOT_NAMESPACE, Controller
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.manifests import render
from tests.agent.node.stage import PATIENCE_S, SHOP, Stage, levels, restored, rules, served
from tests.controller.agency import NAME, certificate

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]

PORT = 8443
SPEC = {
    "mode": "auto",
    "levels": {"inbound": ["rescue", "hold"], "outbound": ["hold"]},
    "timings": {"expiry": "60s", "recoverAfter": "0.5s", "holdDown": "1s", "holdDownMax": "2s"},
    "budgets": {"mesh": 9, "namespace": 9, "workload": 9, "node": 9},
}


@dataclass
class Granted:
    stage: Stage
    controller: Controller
    web: Published


@pytest.fixture(scope="module")
def town(runner: asyncio.Runner) -> Iterator[Granted]:
    cluster = SandboxCluster(namespace=SHOP)

    async def build() -> Granted:
        await cluster.__aenter__()
        installed = await cluster.install("tier-1-rescue", ("agents",))
        cluster.api.apply(render(OVERLAY))
        labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, SHOP, labels)
        policy = {"metadata": {"name": "mesh", "namespace": ROOT_NAMESPACE}, "spec": SPEC}
        await cluster.cluster.create(POLICIES, ROOT_NAMESPACE, policy)
        tls = certificate(cluster.box.estate.directory / "agents-tls")
        controller = installed.controller("--lease", "4", "--agents-port", str(PORT), "--agents-tls", str(tls))
        controller.start()
        os.setpriority(os.PRIO_PROCESS, controller.process.pid, -10)  # a busy machine makes it late, and unsure
        agent = installed.agent()
        agent.obey(f"127.0.0.1:{PORT}", tls / "ca.crt", NAME)
        stage = Stage(cluster, installed, agent, await cluster.box.client("outside"))
        web = await stage.web("web-0", native=True)
        await controller.ready(PATIENCE_S)
        agent.start()
        await agent.guards("shop/web-0", timeout_s=2 * PATIENCE_S)
        return Granted(stage, controller, web)

    try:
        yield runner.run(build())
    finally:
        runner.run(cluster.__aexit__())


def test_what_it_may_do_comes_from_the_controller(town: Granted) -> None:  # I2
    granted = [each for each in town.stage.agent.entries("shop/web-0") if each.event == "grant"]
    assert granted and granted[-1].evidence["mode"] == "auto"


def test_a_sidecar_fails_while_all_are_there(runner: asyncio.Runner, town: Granted) -> None:  # S4.4, S4.5
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        fault = await web.pod.faults.kill()
        await stage.agent.until(levels(web, "rescue"), "rescued within its grant")
        await served(stage, web)
        await restored(stage, web, fault, before)

    runner.run(story(town.stage, town.web))


def second(stage: Stage) -> str:
    """Who agreed when the gate was opened last."""
    return [each for each in stage.agent.entries("shop/web-0") if each.event == "open"][-1].evidence["second observer"]


def test_a_sidecar_hangs_and_the_controller_sees_it_too(runner: asyncio.Runner, town: Granted) -> None:  # S4.2, S4.4
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        async with somebody_answers(stage, web):  # for a while: by then the controller knows this pod for sure
            pass
        fault = await web.pod.faults.hang()
        await stage.agent.until(levels(web, "rescue"), "rescued within its grant")
        assert second(stage) == "the controller: 3 of 3 questions to 15021 from elsewhere were not answered"
        await served(stage, web)
        await restored(stage, web, fault, before)

    runner.run(story(town.stage, town.web))


def test_one_worker_of_a_sidecar_is_stuck(runner: asyncio.Runner, town: Granted) -> None:  # S4.2b, S4.4
    """Most questions are answered, of the agent's and of the controller's."""

    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        fault = await web.pod.faults.stick_worker()
        await stage.agent.until(levels(web, "rescue"), "rescued within its grant")
        assert second(stage)
        await served(stage, web)
        await restored(stage, web, fault, before)

    runner.run(story(town.stage, town.web))


def test_the_controller_gets_answers_from_a_sidecar_that_hangs(runner: asyncio.Runner, town: Granted) -> None:  # I2
    """Nothing is done as long as it does; people are told. Once it does not, the gate opens."""

    async def story(stage: Stage, web: Published) -> None:
        before, opened = rules(web), len([each for each in stage.agent.entries() if each.event == "open"])
        async with somebody_answers(stage, web):
            fault = await web.pod.faults.hang()
            await stage.agent.until(lambda _: refused(stage), "refused")
            await stage.agent.until(lambda _: Code.NOT_SECONDED in events(stage, web), "people are told")
            line = refused(stage)[-1]
            assert line.evidence["second observer"].startswith("none: the controller gets answers: 3 of 3")
            status = (await stage.agent.status())["shop/web-0"]
            assert (status["levels"]["inbound"], status["fault"]) == ("capture", "hung")
            assert len([each for each in stage.agent.entries() if each.event == "open"]) == opened
        await stage.agent.until(levels(web, "rescue"), "the controller sees it, too")
        assert second(stage).startswith("the controller: 3 of 3")
        await served(stage, web)
        await restored(stage, web, fault, before)

    runner.run(story(town.stage, town.web))


def refused(stage: Stage) -> list[Entry]:
    return [each for each in stage.agent.entries("shop/web-0") if each.code == Code.NOT_SECONDED]


def events(stage: Stage, web: Published) -> set[str]:
    found = stage.cluster.api.admin.list("events", SHOP)
    return {each["reason"] for each in found if each["involvedObject"]["name"] == web.pod.name}


@asynccontextmanager
async def somebody_answers(stage: Stage, web: Published) -> AsyncIterator[None]:
    """To who asks this pod's 15021 from the node, as the controller does: another one answers, and is ready. The body
    begins once the controller has been answered so."""
    node = stage.cluster.box.network.node.netns
    with inside(node):
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    ready = Ready(listener)
    ready.start()
    there = f"ip daddr {web.pod.ip} tcp dport 15021 redirect to :{listener.getsockname()[1]}"
    nft(node, "add table ip elsewhere")
    try:
        nft(node, "add chain ip elsewhere out { type nat hook output priority -100; }")
        nft(node, f"add rule ip elsewhere out {there}")
        cut(node, web)
        assert await asyncio.to_thread(ready.asked_twice.wait, PATIENCE_S)
        yield
    finally:
        nft(node, "delete table ip elsewhere")
        cut(node, web)
        ready.end()


class Ready(threading.Thread):
    """200 to whoever asks. Ahead of all else that the machine has to do: its answer must not be late."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(daemon=True)
        self._listener, self._asked = listener, 0
        self.asked_twice = threading.Event()
        """By a hotswitch, so that its first answer has been heard."""

    def run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._answer, sock=self._listener):
            await self._over.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while asked := await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                self._asked += b"User-Agent: hotswitch" in asked
                if self._asked > 1:
                    self.asked_twice.set()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(PATIENCE_S)


def nft(netns: str, words: str) -> None:
    run(Command(("nft", *words.split(" ")), netns=netns), check=True)


def cut(netns: str, web: Published) -> None:
    """Connections that stand already go on as they were."""
    run(Command(("ss", "-K", "dst", web.pod.ip, "dport", "=", "15021"), netns=netns), check=True)


@pytest.mark.parametrize("kind", ["kill", "hang"])
def test_controller_and_api_server_are_gone(runner: asyncio.Runner, town: Granted, kind: str) -> None:  # I1
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        await town.controller.stop(0.0)
        await stage.cluster.api.stop()
        try:
            fault = await getattr(web.pod.faults, kind)()
            await stage.agent.until(levels(web, "rescue"), "rescued within its last grant")
            assert kind == "kill" or second(stage).startswith("the kernel: every thread of the proxy is stopped")
            await served(stage, web)
            await restored(stage, web, fault, before)
        finally:
            await stage.cluster.api.start()
            town.controller.start()
            await town.controller.ready(PATIENCE_S)

    runner.run(story(town.stage, town.web))


def test_the_agent_starts_anew_while_all_others_are_gone(runner: asyncio.Runner, town: Granted) -> None:  # I1, I6
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        await town.controller.stop(0.0)
        await stage.cluster.api.stop()
        try:
            await stage.agent.stop()
            stage.agent.start()
            await stage.agent.guards("shop/web-0")
            fault = await web.pod.faults.kill()
            await stage.agent.until(levels(web, "rescue"), "rescued by what it remembers of its grant")
            await served(stage, web)
            await restored(stage, web, fault, before)
        finally:
            await stage.cluster.api.start()

    runner.run(story(town.stage, town.web))
