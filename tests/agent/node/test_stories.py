"""A node's agent while its API server is away, while it dies itself, and when pods go (S4.2, S4.4, S4.5, I1, I6)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hotswitch.cluster.kinds import PODS
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.faults import Fault
from tests.agent.node.stage import PATIENCE_S, SHOP, Stage, levels, restored, rules, served, staged

pytestmark = [pytest.mark.netns, pytest.mark.envoy, pytest.mark.k8s]


class Town:
    def __init__(self, runner: asyncio.Runner, stage: Stage, pods: dict[str, Published]) -> None:
        self.runner, self.stage, self.pods = runner, stage, pods

    def run(self, story: Callable[[Stage, Published], Any], name: str = "native-0") -> None:
        self.runner.run(story(self.stage, self.pods[name]))


@pytest.fixture(scope="module")
def town(runner: asyncio.Runner) -> Iterator[Town]:
    stack = staged()
    stage = runner.run(stack.__aenter__())
    try:

        async def settle() -> dict[str, Published]:
            pods = {name: await stage.web(name, native=name.startswith("native")) for name in ("native-0", "classic-0")}
            await stage.agent.guards(*(f"shop/{name}" for name in pods))
            return pods

        yield Town(runner, stage, runner.run(settle()))
    finally:
        runner.run(stack.__aexit__(None, None, None))


async def bypassed(stage: Stage, web: Published, fault: Callable[[], Any]) -> Fault:
    made: Fault = await fault()
    await stage.agent.until(levels(web, "rescue"), f"{web.pod.name} is rescued")
    await served(stage, web)
    return made


@pytest.mark.parametrize("name", ["native-0", "classic-0"])
@pytest.mark.parametrize("kind", ["kill", "hang"])
def test_a_sidecar_fails_while_the_api_server_is_away(town: Town, name: str, kind: str) -> None:  # I1, S4.4, S4.5
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        await stage.cluster.api.stop()
        try:
            fault = await bypassed(stage, web, getattr(web.pod.faults, kind))
            await restored(stage, web, fault, before)
        finally:
            await stage.cluster.api.start()

    town.run(story, name)


def test_the_agent_dies_while_a_pod_is_bypassed(town: Town) -> None:  # I1, I6
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        fault = await bypassed(stage, web, web.pod.faults.hang)
        await stage.cluster.api.stop()
        try:
            adopted = len([each for each in stage.agent.entries(f"shop/{web.pod.name}") if each.event == "adopted"])
            os.kill(stage.agent.agent_pid(), signal.SIGKILL)
            await served(stage, web)

            def adopts(_: object) -> bool:
                lines = stage.agent.entries(f"shop/{web.pod.name}")
                return len([each for each in lines if each.event == "adopted"]) > adopted

            await stage.agent.until(adopts, "its successor adopts what is open, by what it remembers")
            await served(stage, web)
            await stage.agent.until(levels(web, "rescue"), "still rescued")
            await restored(stage, web, fault, before)
        finally:
            await stage.cluster.api.start()

    town.run(story)


def test_the_container_is_replaced_while_nothing_is_wrong(town: Town) -> None:  # an upgrade changes no capture
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        await stage.agent.stop()
        assert rules(web) == before
        stage.agent.start()
        await stage.agent.guards("shop/native-0", "shop/classic-0")
        assert rules(web) == before
        fault = await bypassed(stage, web, web.pod.faults.kill)
        await restored(stage, web, fault, before)

    town.run(story)


def test_the_container_is_replaced_while_a_pod_is_bypassed(town: Town) -> None:  # I1, I6: what is open is adopted
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        fault = await bypassed(stage, web, web.pod.faults.hang)
        await stage.agent.stop()
        assert rules(web) != before  # open until its expiry, whoever is away
        stage.agent.start()
        await stage.agent.until(levels(web, "rescue"), "rescued by its successor")
        await served(stage, web)
        await restored(stage, web, fault, before)

    town.run(story)


def test_a_pod_is_deleted_while_it_is_bypassed(town: Town) -> None:  # I6, A7: nothing holds its namespace
    async def story(stage: Stage, _: Published) -> None:
        web = await stage.web("short-0")
        await stage.agent.guards("shop/short-0")
        await bypassed(stage, web, web.pod.faults.kill)
        with marked(stage, web) as lives:
            await stage.cluster.cluster.request("DELETE", "/api/v1/namespaces/shop/pods/short-0")
            await asyncio.wait_for(web.gone.wait(), PATIENCE_S)
            await stage.agent.until(lambda pods: "shop/short-0" not in pods, "it is let go")
            async with asyncio.timeout(PATIENCE_S):
                while lives():
                    await asyncio.sleep(0.05)
        assert not [pin for pin in (stage.agent.directory / "netns").iterdir() if pin.name.startswith(web.uid)]

    town.run(story)


def test_a_pod_opts_out_while_it_is_bypassed(town: Town) -> None:  # S4.6, I4
    """Its gate leads to the rescue, which is taken away with the guard."""

    async def story(stage: Stage, _: Published) -> None:
        web = await stage.web("leaving-0")
        await stage.agent.guards("shop/leaving-0")
        before = rules(web)
        await bypassed(stage, web, web.pod.faults.hang)
        out = {"metadata": {"labels": {"hotswitch.io/mode": "off"}}}
        await stage.cluster.cluster.patch_merge(PODS, SHOP, "leaving-0", out)
        await stage.agent.until(lambda pods: "shop/leaving-0" not in pods, "it is let go")
        assert rules(web) == before
        await stage.cluster.cluster.request("DELETE", "/api/v1/namespaces/shop/pods/leaving-0")
        await asyncio.wait_for(web.gone.wait(), PATIENCE_S)

    town.run(story)


@contextmanager
def marked(stage: Stage, web: Published) -> Iterator[Callable[[], bool]]:
    """One end of a link is put into the pod's namespace: it goes with the namespace, whoever held that last."""
    node = stage.cluster.box.network.node
    far = ("peer", "name", "far", "netns", web.pod.place.name)
    run(Command(("ip", "link", "add", "mark", "type", "veth", *far), netns=node.netns), check=True)

    def lives() -> bool:
        with inside(node.netns):
            return "mark" in [name for _, name in socket.if_nameindex()]

    yield lives


def test_the_agent_remembers_no_pod_that_is_gone(town: Town) -> None:
    async def story(stage: Stage, _: Published) -> None:
        kept = {each.stem for each in (stage.agent.directory / "pods").glob("*.json")}
        assert kept == {web.uid for web in town.pods.values()}

    town.run(story)


def test_a_fault_can_be_followed_afterwards(town: Town) -> None:  # I8
    async def story(stage: Stage, web: Published) -> None:
        before = rules(web)
        fault = await bypassed(stage, web, web.pod.faults.kill)
        await restored(stage, web, fault, before)
        words = (sys.executable, "-m", "hotswitch.cli.start", "trace", "shop/native-0")
        told = run(Command((*words, "--socket", str(stage.agent.directory / "agent.sock"))), check=True).stdout
        assert "traffic goes on" in told
        assert [event for event in ("evidence", "open", "close") if f"ms  {event}" not in told] == []

    town.run(story)


def test_hotswitch_is_taken_out_while_a_pod_is_bypassed(town: Town) -> None:  # I4: the last story of this town
    async def story(stage: Stage, web: Published) -> None:
        await bypassed(stage, web, web.pod.faults.kill)
        proc = processes_of(stage)
        with_agent = await asyncio.to_thread(take_out, proc, "agent --node --restore-all", 1)
        assert "a listener of the rescue" in with_agent  # its agent has to go first
        await stage.agent.stop()
        await asyncio.to_thread(take_out, proc, "agent --node --restore-all", 0)
        assert "hotswitch" not in rules(web)
        assert "nothing is left" in await asyncio.to_thread(take_out, proc, "uninstall-check", 0)

    town.run(story)


def processes_of(stage: Stage) -> Path:
    """A /proc in which there are only our pods: others on this machine are nobody's to take hotswitch out of."""
    proc = stage.cluster.box.estate.directory / "proc"
    proc.mkdir()
    for cgroup in stage.cluster.box.estate.cgroups():
        if "kubepods" in cgroup.parts:
            for pid in (cgroup / "cgroup.procs").read_text().split():
                with contextlib.suppress(FileExistsError):
                    (proc / pid).symlink_to(f"/proc/{pid}")
    return proc


def take_out(proc: Path, words: str, code: int) -> str:
    argv = ("env", f"HOTSWITCH_PROC={proc}", sys.executable, "-m", "hotswitch.cli.start", *words.split())
    outcome = run(Command(argv))
    assert outcome.returncode == code, outcome.stdout + outcome.stderr
    return outcome.stdout
