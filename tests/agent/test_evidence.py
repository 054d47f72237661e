"""What is kept of a fault at its moment (S4.7): after the gate, before the container is replaced, without secrets."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hotswitch.cli.main import app
from hotswitch.model import Act
from hotswitch.report.journal import Entry
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper, until

pytestmark = pytest.mark.envoy

SECRET = "s3cr3t-w0rd"
PLANTED = f"authorization: Bearer {SECRET}\nDB_PASSWORD={SECRET}\n"


@pytest.fixture(scope="module")
def scene(box: Sandbox, runner: asyncio.Runner) -> tuple[Keeper, Pod]:
    async def build() -> tuple[Keeper, Pod]:
        pod = await box.pod("kept-0")
        await pod.ready()
        keeper = Keeper(box, [pod], "evidence")
        await keeper.guard()
        return keeper, pod

    return runner.run(build())


@pytest.fixture(autouse=True)
def healed(scene: tuple[Keeper, Pod], runner: asyncio.Runner) -> Iterator[None]:
    yield

    async def heal() -> None:
        await scene[0].heal()
        await scene[0].until_rest(scene[1])

    runner.run(heal())


async def evidence_of(keeper: Keeper, pod: Pod, make: Any) -> tuple[Entry, Path]:
    seen = len(keeper.entries(pod, "evidence"))
    await keeper.cause(make)
    entry = await keeper.until_entry(pod, "evidence", seen)
    assert entry.failed == ""
    return entry, Path(entry.evidence["directory"])


def plant(pod: Pod) -> None:
    with (pod.directory / "pilot.log").open("a") as log:
        log.write(PLANTED)


def has_no_secrets(directory: Path, pod: Pod) -> None:
    """Neither what was planted nor a line of the pod's private key."""
    key = (pod.proxy_directory / "certs" / "key.pem").read_text().splitlines()[1:-1]
    for file in directory.iterdir():
        text = file.read_text()
        assert [secret for secret in (SECRET, *key) if secret in text] == [], file.name


def test_a_killed_proxy(scene: tuple[Keeper, Pod], runner: asyncio.Runner) -> None:
    keeper, pod = scene

    async def run() -> None:
        plant(pod)
        entry, directory = await evidence_of(keeper, pod, pod.faults.kill())
        assert os.stat(directory).st_mode & 0o777 == 0o700
        proof = json.loads((directory / "proof.json").read_text())
        assert proof["diagnosis"]["fault"] == "dead"
        assert 8080 in {queue["port"] for queue in proof["facts"]["listeners"]["queues"]}
        assert "memory" in (directory / "cgroup.txt").read_text()
        assert "DB_PASSWORD=[redacted]" in (directory / "log.txt").read_text()
        assert "config_dump" not in entry.evidence["files"] and entry.evidence["no config_dump"]
        last = directory / "termination-message.txt"
        await until(lambda: last.exists() and "SIGKILL" in last.read_text(), "how it ended")
        has_no_secrets(directory, pod)

    runner.run(run())


def test_a_hung_admin_holds_nothing_up(scene: tuple[Keeper, Pod], runner: asyncio.Runner) -> None:
    keeper, pod = scene

    async def run() -> None:
        entry, _ = await evidence_of(keeper, pod, pod.faults.hang())
        names = [each.event for each in keeper.entries(pod)]
        opened = max(place for place, name in enumerate(names) if name == Act.OPEN)
        assert opened < len(names) - 1 - names[::-1].index("evidence")  # the gate first
        assert "no answer within" in entry.evidence["no stats"]
        assert "proof.json" in entry.evidence["files"]

    runner.run(run())


def test_a_proxy_that_still_answers_tells_its_configuration(scene: tuple[Keeper, Pod], runner: asyncio.Runner) -> None:
    keeper, pod = scene

    async def run() -> None:
        entry, directory = await evidence_of(keeper, pod, pod.faults.break_listener())
        assert "config_dump.json" in entry.evidence["files"], entry
        dump = json.loads((directory / "config_dump.json").read_text())
        assert "BlackHoleCluster" in json.dumps(dump)
        for name in ("stats.txt", "clusters.txt", "server_info.json", "certs.json", "listeners.txt"):
            assert (directory / name).stat().st_size > 0
        has_no_secrets(directory, pod)

    runner.run(run())


def test_people_can_list_and_read_it(scene: tuple[Keeper, Pod], runner: asyncio.Runner) -> None:
    keeper, pod = scene

    async def run() -> None:
        _, directory = await evidence_of(keeper, pod, pod.faults.kill())
        socket = ("--socket", str(keeper.config["socket"]))

        def said(*words: str) -> str:
            return CliRunner().invoke(app, ["evidence", *words, *socket], catch_exceptions=False).output

        listed = await asyncio.to_thread(said, pod.name)
        assert directory.name in listed and "proof.json" in listed
        shown = await asyncio.to_thread(said, "--name", directory.name, "--file", "proof.json")
        assert '"fault": "dead"' in shown
        assert str(directory) in await asyncio.to_thread(
            lambda: CliRunner().invoke(app, ["history", pod.name, *socket]).output
        )

    runner.run(run())
