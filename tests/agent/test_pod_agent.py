"""The agent of one pod, inside it, with no more rights than its container has (S4.2, S4.4, S4.5, I1)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.node.settings import NodeSettings
from hotswitch.agent.pod.settings import PodSettings, from_environment
from hotswitch.config.told import ConfigError, Strict
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import JournalTail
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.inpod import children
from tests.agent.keeper import gate_text, rules, until
from tests.agent.ownpod import Agent


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Iterator[tuple[Agent, Client]]:
    async def build() -> tuple[Agent, Client]:
        pod = await box.pod("inpod-0", timings=Timings(scale=0.2))
        client = await box.client("caller")
        await pod.ready()
        agent = Agent(box, pod)
        await agent.launch()
        await agent.guards()
        return agent, client

    made = runner.run(build())
    yield made
    runner.run(made[0].end())


async def served(client: Client, pod: Pod) -> str:
    answer = await client.ask(pod.ip, 8080, timeout_s=30.0)
    assert answer.status == 200
    return answer.via or "rescue"


@pytest.mark.envoy
@pytest.mark.parametrize("kind", ["kill", "hang"])
def test_its_pods_sidecar_fails(runner: asyncio.Runner, town: tuple[Agent, Client], kind: str) -> None:  # S4.4, S4.5
    async def story(agent: Agent, client: Client) -> None:
        pod, before = agent.pod, (gate_text(agent.pod), rules(agent.pod).fingerprint)
        fault = await getattr(pod.faults, kind)()
        await agent.until_inbound("rescue")
        assert await served(client, pod) == "rescue"
        if kind == "kill":  # its listeners may stand for 20 ms more
            assert "15000" in agent.entries("open")[-1].evidence, agent.told()
        await fault.undo()
        await agent.until_inbound("capture")
        await agent.guards()
        await pod.ready()
        assert await served(client, pod) == "sidecar"
        assert (gate_text(pod), rules(pod).fingerprint) == before  # I4

    runner.run(story(*town))


@pytest.mark.envoy
def test_it_dies_while_its_pod_is_bypassed(runner: asyncio.Runner, town: tuple[Agent, Client]) -> None:  # I1, I6
    async def story(agent: Agent, client: Client) -> None:
        fault = await agent.pod.faults.hang()
        await agent.until_inbound("rescue")
        os.kill(agent.worker_pid, signal.SIGKILL)
        assert await served(client, agent.pod) == "rescue"

        async def adopts() -> bool:
            journal = JournalTail(agent.directory / "journal.jsonl")
            journal.catch_up()
            return any(each.event == "adopted" for each in journal.entries)

        await until(adopts, lambda: agent.log)
        await agent.until_inbound("rescue")
        assert await served(client, agent.pod) == "rescue"
        await fault.undo()
        await agent.until_inbound("capture")

    runner.run(story(*town))


@pytest.mark.envoy
def test_its_first_process_keeps_it(town: tuple[Agent, Client]) -> None:
    assert len(children(town[0].keeper_pid)) >= 2  # the agent, and the rescue that outlived one


BASE = {"HOTSWITCH_POD": "p", "HOTSWITCH_NAMESPACE": "n", "HOTSWITCH_UID": "u", "HOTSWITCH_ADDRESSES": "10.0.0.1"}


@pytest.mark.unit
def test_capture_by_annotations_alone(tmp_path: Any) -> None:  # S4.3a
    file = tmp_path / "annotations"
    file.write_text('traffic.sidecar.istio.io/excludeInboundPorts="9000"\nsidecar.istio.io/status="{\\"a\\":1}"\n')
    (pod,) = from_environment({**BASE, "HOTSWITCH_ANNOTATIONS": str(file)}).agent_file().pods
    assert "9000" in " ".join(pod.capture.args or ())
    assert not pod.capture.ipv6


@pytest.mark.unit
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"HOTSWITCH_UID": ""}, "environment: HOTSWITCH_UID: is missing"),
        ({"HOTSWITCH_ADDRESSES": "nowhere"}, "addresses"),
        ({"HOTSWITCH_PORTS": "http"}, "ports"),
        ({"HOTSWITCH_CAPTURE": "{"}, "HOTSWITCH_CAPTURE: not JSON"),
        ({"HOTSWITCH_CAPTURE": '{"words": []}'}, "HOTSWITCH_CAPTURE.words: there is no such field"),
        ({"HOTSWITCH_PROBERS": "[]"}, "HOTSWITCH_PROBERS: "),
    ],
)
def test_what_cannot_be_used_is_named(changed: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_environment({**BASE, **changed}).agent_file()


@pytest.mark.unit
@pytest.mark.parametrize("model", [NodeSettings, PodSettings])
def test_every_variable_is_documented(model: type[Strict]) -> None:
    text = (Path(__file__).parents[2] / "docs/reference/agent.md").read_text()
    assert [name for name in model.__struct_fields__ if f"`HOTSWITCH_{name.upper()}`" not in text] == []
