"""A drill beside a running agent: with a rescue that works, and with rescues and proxies that do not (S4.4, S4.5, I4).

Requests go on all the while, from outside and from the mesh; what the drill says of itself is compared with what they
met, and with the kernel's own word.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from typer.testing import CliRunner

from hotswitch.cli.main import app
from hotswitch.config.agentfile import DrillSettings
from hotswitch.decide.drill import Schedule, first_s
from hotswitch.model import RESCUE_INBOUND, Mtls
from hotswitch.sandbox.clients import Client, LoadRun, MeshedClient
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, Keeper, gate_text, redirected, rules, until
from tests.agent.load import ending, flows, lost
from tests.agent.test_life import free_port
from tests.agent.town import nothing_of_ours_is_left

pytestmark = pytest.mark.envoy

CAPTURED = {"inbound": "capture", "outbound": "capture"}
DRILLED = {"inbound": "rescue", "outbound": "capture"}
SOON = DrillSettings(every_s=60.0, for_s=1.0)
RATE = 50.0


def _soon_due() -> str:
    """A workload whose first turn comes at once."""
    schedule = Schedule(SOON.every_s, SOON.jitter)
    names = (f"deploy/w{number}" for number in itertools.count())
    return next(name for name in names if first_s(schedule, f"default/{name}", 0.0) < 0.5)


@dataclass
class Yard:
    """`web` takes plaintext too, `vault` is STRICT with native nftables, `tproxy` is captured by TPROXY; `pair-0` and
    `pair-1` are of one workload."""

    keeper: Keeper
    pods: dict[str, Pod]
    plain: Client
    friend: MeshedClient
    service: Service
    port: int
    closed: dict[str, str] = field(default_factory=dict)
    original: dict[str, str] = field(default_factory=dict)

    async def at_rest(self) -> None:
        for name, pod in self.pods.items():
            await pod.ready()
            await self.keeper.until_rest(pod)
            self.closed.setdefault(name, gate_text(pod))
            self.original.setdefault(name, rules(pod).fingerprint)
            nothing_of_ours_is_left(pod, self.closed[name], self.original[name])

    async def drill(self, name: str, for_s: float = 2.0, **more: Any) -> dict[str, Any]:
        return await self.keeper.tell("drill", 120.0 + for_s, pod=self.pods[name].name, for_s=for_s, **more)

    def load(self, name: str, pod: str) -> LoadRun:
        to = (self.pods[pod].ip, 8080) if name == "plain" else self.service
        client = self.plain if name == "plain" else self.friend
        return client.load(to, rate=RATE, seconds=PATIENCE_S, timeout_s=PATIENCE_S)

    async def stopped_rescue(self) -> None:
        os.kill(self.keeper.rescue_pid, signal.SIGSTOP)

    async def served(self, name: str) -> str:
        answer = await self.plain.ask(self.pods[name].ip, 8080, timeout_s=PATIENCE_S)
        assert answer.status == 200
        return answer.via or "rescue"


@pytest.fixture(scope="module")
def home(box: Sandbox, runner: asyncio.Runner) -> Yard:
    async def build() -> Yard:
        pair = {"workload": "deploy/pair"}
        pods = {
            "web": await box.pod("web-0", workload="deploy/web"),
            "vault": await box.pod("vault-0", mtls=Mtls.STRICT, backend="nftables", workload="deploy/vault"),
            "tproxy": await box.pod("tproxy-0", interception="TPROXY", workload="deploy/tproxy"),
            "pair-0": await box.pod("pair-0", **pair),
            "pair-1": await box.pod("pair-1", **pair),
        }
        service = await box.service("vault", [pods["vault"]], port=8080, protocol="http", publish="all")
        await asyncio.gather(*(pod.ready() for pod in pods.values()))
        keeper, port = Keeper(box, list(pods.values())), free_port()
        keeper.config["metrics"] = {"address": "127.0.0.1", "port": port}
        keeper.pod_config(pods["vault"])["policy"] |= {"mtls": "STRICT", "inbound": ["rescue", "hold"]}
        await keeper.guard()
        return Yard(keeper, pods, await box.client("plain"), await box.meshed("friend"), service, port)

    return runner.run(build())


@pytest.fixture
def yard(home: Yard, runner: asyncio.Runner) -> Iterator[Yard]:
    runner.run(home.at_rest())
    try:
        yield home
    finally:
        if home.keeper.rescue_pid:
            os.kill(home.keeper.rescue_pid, signal.SIGCONT)
        runner.run(home.keeper.heal())


@pytest.mark.parametrize(("client", "pod"), [("plain", "web"), ("meshed", "vault"), ("plain", "tproxy")])
def test_healthy_pod_loses_no_request(yard: Yard, runner: asyncio.Runner, client: str, pod: str) -> None:
    async def story() -> None:
        before, rescued = len(yard.keeper.entries(yard.pods[pod])), redirected(yard.pods[pod], RESCUE_INBOUND)
        async with ending(yard.load(client, pod)) as (run,):
            await flows(run, 20)
            report = await yard.drill(pod)
            assert redirected(yard.pods[pod], RESCUE_INBOUND) > rescued + report["served"]  # clients were there too
            await flows(run, 20)
            run.stop()
            results = await run.results()
        assert lost(results.rows) == []
        assert (report["result"], report["lost"]) == ("passed", 0), report
        assert report["served"] >= 1 and set(report["durations_s"]) == {"open", "restore"}
        nothing_of_ours_is_left(yard.pods[pod], yard.closed[pod], yard.original[pod])
        told = yard.keeper.entries(yard.pods[pod])[before:]
        assert [(each.event, each.code) for each in told] == [
            ("open", "HSD005"), ("close", "HSD015"), ("verified", ""), ("drill", "HSD070"),
        ]  # fmt: skip
        assert told[0].rules_after == "inbound rescue, outbound capture"
        assert told[2].evidence["istio_rules_unchanged"] == "True"

    runner.run(story())


def test_rescue_is_stuck_before_the_drill(yard: Yard, runner: asyncio.Runner) -> None:
    """No client ever meets it: nothing is opened."""

    async def story() -> None:
        await yard.stopped_rescue()
        opened = len(yard.keeper.entries(yard.pods["web"], "open"))
        report = await yard.drill("web")
        assert (report["result"], report["served"]) == ("failed", 0)
        assert report["why"].startswith("nothing was opened: the rescue does not serve: no answer within")
        assert len(yard.keeper.entries(yard.pods["web"], "open")) == opened
        assert yard.keeper.entries(yard.pods["web"], "drill")[-1].failed == report["why"]
        assert 'hotswitch_drill_failed{workload="default/deploy/web"} 1.0' in await _metrics(yard)
        assert 'hotswitch_pages_total{code="HSD071"} ' in await _metrics(yard)

    runner.run(story())


def test_rescue_gets_stuck_in_the_middle(yard: Yard, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = yard.pods["web"]
        drilled = asyncio.create_task(yard.drill("web", 60.0))
        await yard.keeper.until_status(pod, lambda status: status["levels"] == DRILLED, "drilled")
        assert await yard.served("web") == "rescue"
        await yard.stopped_rescue()
        report = await drilled
        assert (report["result"], report["lost"]) == ("failed", 1), report
        assert report["why"].startswith("a request through the rescue failed: ")
        assert await yard.served("web") == "sidecar"  # while the rescue is stuck still
        nothing_of_ours_is_left(pod, yard.closed["web"], yard.original["web"])

    runner.run(story())


def test_proxy_dies_during_a_drill(yard: Yard, runner: asyncio.Runner) -> None:
    """From then on the evidence decides: nothing is taken away from under the clients."""

    async def story() -> None:
        pod = yard.pods["web"]
        drilled = asyncio.create_task(yard.drill("web", 60.0))
        await yard.keeper.until_status(pod, lambda status: status["levels"] == DRILLED, "drilled")
        closed = len(yard.keeper.entries(pod, "close"))
        await yard.keeper.cause(pod.faults.kill())
        report = await drilled
        assert (report["result"], report["lost"]) == ("interrupted", 0), report
        status = await yard.keeper.until_status(pod, lambda status: status["fault"] == "dead", "dead")
        assert status["levels"]["inbound"] == "rescue" and status["override"] == ""
        assert await yard.served("web") == "rescue"
        assert len(yard.keeper.entries(pod, "close")) == closed

    runner.run(story())


def test_no_drill_where_something_is_wrong(yard: Yard, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await yard.keeper.cause(yard.pods["pair-0"].faults.kill())
        await yard.keeper.until_entry(yard.pods["pair-0"], "open")
        for name, why in (("pair-0", "the pod is not well"), ("pair-1", "another pod of the workload is bypassed")):
            asked = await yard.drill(name, dry_run=True)
            assert why in asked["refusal"]
            report = await yard.drill(name)
            assert report["result"] == "refused" and why in report["why"]
        assert yard.keeper.entries(yard.pods["pair-1"], "open") == []

    runner.run(story())


def test_two_at_once_take_turns(yard: Yard, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await until(lambda: _may_be_drilled(yard, "pair-1"), "the hold-down of the pair does not end")
        reports = await asyncio.gather(yard.drill("pair-1", 1.0), yard.drill("pair-0", 1.0))
        assert {each["result"] for each in reports} == {"passed"}, reports
        acts = [each for each in yard.keeper.entries() if each.event in ("open", "close") and "pair" in each.pod][-4:]
        assert [each.event for each in acts] == ["open", "close", "open", "close"]

    runner.run(story())


async def _may_be_drilled(yard: Yard, name: str) -> bool:
    return not (await yard.drill(name, dry_run=True))["refusal"]


def test_command_tells_it_to_a_person(yard: Yard) -> None:
    cli, where = CliRunner(), ["--socket", yard.keeper.config["socket"]]
    dry = cli.invoke(app, ["drill", "web-0", "--dry-run", *where])
    assert (dry.exit_code, dry.stdout) == (0, "would be drilled\n")
    done = cli.invoke(app, ["drill", "web-0", "--for", "1s", *where])
    assert done.exit_code == 0 and done.stdout.startswith("default/web-0: PASSED: requests went through the rescue")
    wrong = cli.invoke(app, ["drill", "web-0", "--for", "2m", *where])
    assert (wrong.exit_code, wrong.stderr) == (1, "hotswitch: for: 120 s is not between 0 and 60 s\n")


def test_workloads_are_drilled_in_their_turn(yard: Yard, runner: asyncio.Runner) -> None:
    """Last of all: the agent is ended and begins again with a schedule, in which one workload is due at once."""

    async def story() -> None:
        keeper, workload = yard.keeper, _soon_due()
        assert await keeper.end() == 0
        for each in keeper.config["pods"]:
            each["drill"] = each["name"] == "vault-0"
        keeper.pod_config(yard.pods["vault"])["workload"] = workload
        keeper.config["drill"] = structs.asdict(SOON)
        await keeper.begin()
        passed = await keeper.until_entry(yard.pods["vault"], "drill", len(keeper.entries(yard.pods["vault"], "drill")))
        assert (passed.code, passed.who) == ("HSD070", "schedule")
        shown = await _metrics(yard)
        success = _value(shown, "hotswitch_drill_last_success_timestamp_seconds", f"default/{workload}")
        assert _value(shown, "hotswitch_drill_overdue_timestamp_seconds", f"default/{workload}") > success
        assert 'workload="default/deploy/web"' not in shown  # it is not to be drilled
        assert await keeper.end() == 0
        await keeper.begin()
        known = await until(lambda: _shown(yard, f"default/{workload}"), "the last success is not remembered")
        assert known == pytest.approx(success, abs=1.0)
        nothing_of_ours_is_left(yard.pods["vault"], yard.closed["vault"], yard.original["vault"])

    runner.run(story())


async def _shown(yard: Yard, workload: str) -> float:
    return _value(await _metrics(yard), "hotswitch_drill_last_success_timestamp_seconds", workload)


def _value(shown: str, name: str, workload: str) -> float:
    head = f'{name}{{workload="{workload}"}} '
    return next((float(line.removeprefix(head)) for line in shown.splitlines() if line.startswith(head)), 0.0)


async def _metrics(yard: Yard) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{yard.port}/metrics", timeout=PATIENCE_S) as answer:
            return bytes(answer.read()).decode()

    return await asyncio.to_thread(read)


def test_agent_is_replaced_in_the_middle(yard: Yard, runner: asyncio.Runner) -> None:
    """What a drill opened ends with the agent, not with its expiry."""

    async def story() -> None:
        pod, keeper = yard.pods["vault"], yard.keeper
        drilled = asyncio.create_task(yard.drill("vault", 60.0))
        await keeper.until_status(pod, lambda status: status["levels"] == DRILLED, "drilled")
        assert await keeper.end() == 0
        await asyncio.gather(drilled, return_exceptions=True)
        assert rules(pod).openings == ()
        await keeper.begin()
        await keeper.until_rest(pod)
        assert Path(keeper.config["journal"]).exists()

    runner.run(story())
