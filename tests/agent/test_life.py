"""An agent's days: orders, its file read again, budgets, a rescue that dies, strangers' rules, a pod that goes (I3)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hotswitch.cli.ask import AgentError
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.estate import ProcessId
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import HOME
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, Keeper, Status, gate_text, rules, ruleset, until

pytestmark = pytest.mark.envoy

RESCUED = {"inbound": "rescue", "outbound": "rescue"}
DIRECT = {"inbound": "direct", "outbound": "direct"}
CAPTURED = {"inbound": "capture", "outbound": "capture"}
HELD = {"inbound": "hold", "outbound": "hold"}
FOREIGN = "table ip odd { chain c { type nat hook prerouting priority -150; tcp dport 8081 redirect to :9; }; }"
DOCUMENTED = Path(HOME, "docs/reference/metrics.md")


@dataclass
class House:
    """`web` and `pair-0`, `pair-1` (one workload, budget 1), `dies` (hold-down of an hour), `odd` (not in the file)."""

    box: Sandbox
    keeper: Keeper
    pods: dict[str, Pod]
    client: Client
    closed: dict[str, str] = field(default_factory=dict)

    async def at_rest(self) -> None:
        for each in self.keeper.config["pods"]:
            pod = self.box.pods[each["name"]]
            await pod.ready()
            await self.keeper.until_rest(pod)
            self.closed.setdefault(pod.name, gate_text(pod))
            assert gate_text(pod) == self.closed[pod.name]

    async def levels(self, pod: Pod, wanted: dict[str, str]) -> Status:
        return await self.keeper.until_status(pod, lambda status: status["levels"] == wanted, f"levels {wanted}")

    async def served(self, pod: Pod) -> str:
        answer = await self.client.ask(pod.ip, 8080, timeout_s=PATIENCE_S)
        assert answer.status == 200
        return answer.via or "rescue" if answer.json()["peer"].startswith("127.0.0.6:") else "direct"


@pytest.fixture(scope="module")
def home(box: Sandbox, runner: asyncio.Runner) -> House:
    async def build() -> House:
        pair = {"workload": "deploy/pair"}
        pods = {
            "web": await box.pod("web-0"),
            "pair-0": await box.pod("pair-0", **pair),
            "pair-1": await box.pod("pair-1", backend="nftables", **pair),
            "dies": await box.pod("dies-0", workload="deploy/dies"),
        }
        await asyncio.gather(*(pod.ready() for pod in pods.values()))
        keeper = Keeper(box, list(pods.values()))
        keeper.config["budget"] = {"node": 10, "workload": 1}
        keeper.config["metrics"] = {"address": "127.0.0.1", "port": free_port()}
        keeper.pod_config(pods["dies"])["policy"] |= {"hold_down_s": 3600.0, "hold_down_max_s": 3600.0}
        keeper.pod_config(pods["pair-0"])["policy"] |= {"inbound": ["rescue", "hold"], "outbound": ["rescue", "hold"]}
        await keeper.guard()
        return House(box, keeper, pods, await box.client("plain"))

    return runner.run(build())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def house(home: House, runner: asyncio.Runner) -> Iterator[House]:
    runner.run(home.at_rest())
    try:
        yield home
    finally:
        runner.run(home.keeper.heal())


# ---- orders ----


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"reason": ""}, "reason: is empty; say why, it is kept in the journal"),
        ({"reason": "  "}, "reason: is empty; say why, it is kept in the journal"),
        ({"for_s": 0.0}, "for: 0 s is not between 0 and 604800 s"),
        ({"for_s": -1.0}, "for: -1 s is not between 0 and 604800 s"),
        ({"for_s": 1e9}, "for: 1e+09 s is not between 0 and 604800 s"),
        ({"pod": "nobody"}, "pod 'nobody': not guarded here"),
        ({"directions": []}, "directions: names none"),
        ({"level": "capture"}, "Invalid enum value 'capture' - at `$.level`"),
        ({"directions": ["up"]}, "Invalid enum value 'up' - at `$.directions[0]`"),
        ({"colour": "red"}, "Object contains unknown field `colour`"),
    ],
)
def test_order_that_cannot_be_taken(
    house: House, runner: asyncio.Runner, request_: dict[str, Any], complaint: str
) -> None:
    pod = house.pods["web"]

    async def story() -> None:
        before, told = ruleset(pod), len(house.keeper.entries(pod))
        with pytest.raises(AgentError, match=re.escape(complaint)):
            order = {"pod": pod.name, "level": "rescue", "for_s": 60.0, "reason": "a test", **request_}
            await house.keeper.tell("bypass", **order)
        assert ruleset(pod) == before
        assert len(house.keeper.entries(pod)) == told
        assert (await house.keeper.status(pod))["override"] == ""

    runner.run(story())


def test_order_for_a_level_that_the_policy_does_not_list(house: House, runner: asyncio.Runner) -> None:
    pod, keeper = house.pods["pair-0"], house.keeper

    async def story() -> None:
        before = ruleset(pod)
        told = await keeper.bypass(pod, "direct")
        assert told["levels"] == CAPTURED
        assert {(each["act"], each["code"]) for each in told["done"]} == {("hold", "HSD027")}
        assert all("HSD047" in each["why"] for each in told["done"])
        assert ruleset(pod) == before
        await keeper.restore(pod)

    runner.run(story())


def test_dry_run_changes_nothing(house: House, runner: asyncio.Runner) -> None:
    pod, keeper = house.pods["web"], house.keeper

    async def story() -> None:
        before, said = ruleset(pod), len(keeper.entries(pod))
        plan = await keeper.tell("plan", pod=pod.name)
        assert plan["now"] == [] and [each["code"] for each in plan["if_proxy_dies"]] == ["HSD001"]
        told = await keeper.bypass(pod, "rescue", dry_run=True)
        assert [each["code"] for each in told["plan"]] == ["HSD005"]
        assert "nft -f -" in told["plan"][0]["commands"]
        assert (await keeper.status(pod))["levels"] == CAPTURED
        assert (ruleset(pod), len(keeper.entries(pod))) == (before, said)

        await keeper.bypass(pod, "rescue")
        opened, said = ruleset(pod), len(keeper.entries(pod))
        told = await keeper.restore(pod, dry_run=True)
        assert [each["code"] for each in told["plan"]] == ["HSD015"]
        assert (await keeper.status(pod))["levels"] == RESCUED
        assert (ruleset(pod), len(keeper.entries(pod))) == (opened, said)
        await keeper.restore(pod)
        assert ruleset(pod) == before

    runner.run(story())


def test_order_ends_by_itself(house: House, runner: asyncio.Runner) -> None:
    pod, keeper = house.pods["web"], house.keeper

    async def story() -> None:
        closed = len(keeper.entries(pod, "close"))
        told = await keeper.bypass(pod, "direct", "inbound", for_s=1.0)
        assert told["levels"] == {"inbound": "direct", "outbound": "capture"} and told["expires_in_s"] <= 1.0
        await until(lambda: gate_text(pod) == house.closed[pod.name], "open after its end")
        await house.levels(pod, CAPTURED)
        ended = [*keeper.entries(pod, "close")[closed:], *keeper.entries(pod, "hold")]
        assert ended[-1].code in ("HSD015", "HSD016"), "closed by us or, if that came first, by the kernel"

    runner.run(story())


def test_commands_are_refused_as_a_person_sees_it(house: House, runner: asyncio.Runner) -> None:
    pod, keeper = house.pods["web"], house.keeper

    def command(*words: str) -> tuple[int, str]:
        socket_ = ("--socket", keeper.config["socket"])
        argv = (sys.executable, "-m", "hotswitch.cli.main", *words, *socket_)
        outcome = run(Command(("env", f"PYTHONPATH={HOME}", "NO_COLOR=1", "COLUMNS=200", *argv)))
        return outcome.returncode, outcome.stderr

    async def story() -> None:
        before = ruleset(pod)
        code, said = await asyncio.to_thread(command, "bypass", pod.name, "--for", "1m")
        assert code == 2 and "Missing option '--reason'" in said
        code, said = await asyncio.to_thread(command, "bypass", pod.name, "--for", "0", "--reason", "a test")
        assert (code, said) == (1, "hotswitch: for: 0 s is not between 0 and 604800 s\n")
        assert ruleset(pod) == before

    runner.run(story())


# ---- its file ----


def test_bad_file_changes_nothing(house: House, runner: asyncio.Runner) -> None:
    pod, keeper = house.pods["web"], house.keeper

    async def story() -> None:
        await keeper.bypass(pod, "rescue")
        before, good = ruleset(pod), keeper.file.read_text()
        for spoilt, complaint in (
            (good.replace("mode: auto", "mode: sometimes", 1), "policy.mode"),
            ("pods: [", "not YAML"),
            (good.replace("- '*'", "- '!'", 1), "capture"),
        ):
            assert spoilt != good
            entry = await keeper.reload(spoilt)
            assert complaint in entry.failed, entry
            assert (await keeper.status(pod))["levels"] == RESCUED
            assert ruleset(pod) == before
        assert (await keeper.reload()).failed == ""
        await keeper.restore(pod)

    runner.run(story())


def test_mode_observe_closes_and_only_says(house: House, runner: asyncio.Runner) -> None:
    pod, keeper = house.pods["web"], house.keeper

    async def story() -> None:
        await keeper.bypass(pod, "rescue")
        closed, said = len(keeper.entries(pod, "close")), len(keeper.entries(pod, "hold"))
        keeper.pod_config(pod)["policy"] |= {"mode": "observe"}
        await keeper.reload()
        try:
            assert (await keeper.until_entry(pod, "close", closed)).code == "HSD014"
            await keeper.restore(pod)
            fault = await keeper.cause(pod.faults.kill())
            would = await keeper.until_entry(pod, "hold", said, code="HSD020")
            assert would.why.startswith("would be inbound to the rescue, outbound to the rescue: the proxy is d")
            assert gate_text(pod) == house.closed[pod.name]
            await fault.undo()
        finally:
            keeper.pod_config(pod)["policy"] |= {"mode": "auto"}
            await keeper.reload()

    runner.run(story())


# ---- budgets, and a rescue that dies ----


def test_second_pod_of_a_workload_waits_for_the_budget(house: House, runner: asyncio.Runner) -> None:
    """I3: one at a time; two within a minute call for a person."""
    first, second, keeper = house.pods["pair-0"], house.pods["pair-1"], house.keeper

    async def story() -> None:
        paged = len(keeper.entries(second, "page"))
        held = len(keeper.entries(second, "hold"))
        one = await keeper.cause(first.faults.hang())
        await house.levels(first, RESCUED)
        other = await keeper.cause(second.faults.hang())
        told = await keeper.until_entry(second, "hold", held, code="HSD021")
        assert told.evidence["not inbound rescue"] == "HSD051 1 of 1 open of the workload"
        assert told.evidence["not inbound direct"].split()[0] in ("HSD046", "HSD051")
        await house.levels(second, HELD)
        assert gate_text(second) == house.closed[second.name]
        page = await keeper.until_entry(second, "page", paged)
        assert page.code == "HSD031"
        await one.undo()
        await house.levels(first, CAPTURED)
        await house.levels(second, RESCUED)
        assert await house.served(second) == "rescue"
        await other.undo()
        await house.levels(second, CAPTURED)

    runner.run(story())


def test_rescue_dies_twice(house: House, runner: asyncio.Runner) -> None:
    """Once: the next level until it is back. Twice inside the hold-down: the next level, and a person."""
    pod, keeper = house.pods["dies"], house.keeper

    async def story() -> None:
        paged, died = len(keeper.entries(pod, "page")), len(keeper.entries(event="rescue-died"))
        fault = await keeper.cause(pod.faults.hang())
        await house.levels(pod, RESCUED)
        await _kill_rescue()
        await keeper.until_entry(None, "rescue-died", died)
        await keeper.until_status(pod, lambda status: status["rescue"] == "ready", "the rescue is back")
        await house.levels(pod, RESCUED)
        assert await house.served(pod) == "rescue"
        await _kill_rescue()
        await keeper.until_entry(None, "rescue-died", died + 1)
        await keeper.until_status(pod, lambda status: status["rescue"] == "ready", "the rescue is back")
        await house.levels(pod, DIRECT)
        assert (await keeper.until_entry(pod, "page", paged)).code == "HSD034"
        assert await house.served(pod) == "direct"
        await fault.undo()
        await house.levels(pod, CAPTURED)
        assert await house.served(pod) == "sidecar"

    async def _kill_rescue() -> None:
        rescue = ProcessId.of(keeper.rescue_pid)
        run(Command(("kill", "-KILL", str(rescue.pid))), check=True)
        await until(lambda: not rescue.alive, "the rescue does not end")
        await until(lambda: keeper.rescue_pid not in (0, rescue.pid), "no other rescue is started")

    runner.run(story())


# ---- other people's rules ----


def _nft(pod: Pod, script: str) -> None:
    run(Command(("nft", "-f", "-"), netns=pod.netns, stdin=script), check=True)


def test_foreign_rule_was_there_before(house: House, runner: asyncio.Runner) -> None:
    keeper = house.keeper

    async def story() -> None:
        pod = await house.box.pod("odd-0", workload="deploy/odd")
        await pod.ready()
        _nft(pod, FOREIGN)
        keeper.config["pods"].append(pod.agent_config(keeper.config["pods"][0]["policy"]))
        await keeper.reload()
        named = "the namespace has address translation that is not Istio's: ip odd"
        await keeper.until_status(pod, lambda status: status["gate"].startswith(named), "refused")
        await keeper.until_status(pod, lambda status: status["fault"] == "well", "well")
        fault = await keeper.cause(pod.faults.hang())
        held = await keeper.until_entry(pod, "hold", code="HSD021")
        assert held.evidence["not inbound rescue"].startswith(f"HSD040 {named}")
        assert keeper.entries(pod, "open") == [] and not rules(pod).openings
        _nft(pod, "delete table ip odd")
        await house.levels(pod, RESCUED)
        assert await house.served(pod) == "rescue"
        await fault.undo()
        await house.levels(pod, CAPTURED)

    runner.run(story())


def test_foreign_rule_comes_between_look_and_fault(house: House, runner: asyncio.Runner) -> None:
    """The kernel refuses the write, because the rules are not those that were looked at; then it is looked again."""
    pod, keeper = house.pods["web"], house.keeper

    async def story() -> None:
        held, failed = len(keeper.entries(pod, "hold")), len(keeper.entries(pod, "open"))
        _nft(pod, FOREIGN)
        try:
            fault = await keeper.cause(pod.faults.hang())
            fenced = await keeper.until_entry(pod, "open", failed)
            assert "rules changed since they were last inspected" in fenced.failed
            told = await keeper.until_entry(pod, "hold", held, code="HSD021")
            assert told.evidence["not inbound rescue"].startswith("HSD040 the namespace has address translation")
            assert not rules(pod).openings
        finally:
            _nft(pod, "delete table ip odd")
        await house.levels(pod, RESCUED)
        await fault.undo()
        await house.levels(pod, CAPTURED)

    runner.run(story())


def test_somebody_flushes_all_rules(house: House, runner: asyncio.Runner) -> None:
    """Istio's rules are gone: there is nothing to bypass, and that is said; our own table is put back."""
    pod, keeper = house.pods["pair-1"], house.keeper

    async def story() -> None:
        saved, verified = ruleset(pod), len(keeper.entries(pod, "verified"))
        _nft(pod, "flush ruleset")
        told = await keeper.bypass(pod, "rescue")
        assert told["levels"] == CAPTURED
        seen = await keeper.until_entry(pod, "verified", verified)
        assert seen.evidence["istio_rules_unchanged"] == "False"
        assert "capture is absent" in seen.evidence["refusal"]
        assert gate_text(pod) == house.closed[pod.name]
        assert run(Command(("nft", "list", "table", "inet", "istio-proxy-nat"), netns=pod.netns)).returncode != 0
        await keeper.restore(pod)
        _nft(pod, f"flush ruleset\n{saved}")
        await keeper.until_rest(pod)

    runner.run(story())


# ---- the end of a pod ----


def test_namespace_is_deleted(house: House, runner: asyncio.Runner) -> None:
    """I6: the agent and the rescue let go of it, so that the kernel can."""
    box, keeper = house.box, house.keeper

    async def story() -> None:
        pod = await box.pod("brief-0", workload="deploy/brief")
        await pod.ready()
        keeper.config["pods"].append(pod.agent_config(keeper.config["pods"][0]["policy"]))
        await keeper.reload()
        await keeper.until_rest(pod)
        namespace, link = Path(pod.netns).stat(), _link_of(pod)
        assert _holds(keeper.pid, namespace)
        await pod.stop()
        await box.network.detach(pod.place)
        await keeper.until_entry(pod, "gone")
        held = "the agent holds on to the namespace, with no thread of it at work in there any more"
        await until(lambda: not _holds(keeper.pid, namespace), held)
        bridge = ("ip", "link", "show", link)
        what = f"{link} is still there: somebody holds a socket in the namespace"
        await until(lambda: run(Command(bridge, netns=box.network.node.netns)).returncode != 0, what)
        with pytest.raises(AgentError, match="'brief-0': not guarded here"):
            await keeper.status(pod)
        keeper.config["pods"].pop()
        del box.pods["brief-0"]
        assert [line for line in (await _metrics(keeper)).splitlines() if b"brief-0" in line] == []
        await keeper.reload()

    def _link_of(pod: Pod) -> str:
        """The other end of its cable, which the kernel removes together with the namespace."""
        shown = run(Command(("ip", "-o", "link", "show", "eth0"), netns=pod.netns), check=True).stdout
        index = re.search(r"eth0@if(\d+)", shown)
        assert index
        shown = run(Command(("ip", "-o", "link"), netns=box.network.node.netns), check=True).stdout
        return re.findall(rf"^{index[1]}: (\w+)@", shown, re.MULTILINE)[0]

    runner.run(story())


def _holds(pid: int, file: os.stat_result) -> bool:
    """Has the process a descriptor of that file?"""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.path.samestat(entry.stat(), file):
                return True
    return False


# ---- what it tells ----


async def _metrics(keeper: Keeper) -> bytes:
    where = keeper.config["metrics"]
    url = f"http://{where['address']}:{where['port']}/metrics"

    def get() -> bytes:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            content: bytes = answer.read()
            return content

    return await asyncio.to_thread(get)


def test_metrics_have_their_documented_names(house: House, runner: asyncio.Runner) -> None:
    agents_part = DOCUMENTED.read_text().partition("## The controller")[0]
    documented = dict(re.findall(r"^\| `(hotswitch_\w+)` \| (\w+) \|", agents_part, re.MULTILINE))
    told = runner.run(_metrics(house.keeper)).decode()
    exposed = dict(re.findall(r"^# TYPE (hotswitch_\w+) (\w+)$", told, re.MULTILINE))
    exposed = {name: kind for name, kind in exposed.items() if not name.endswith("_created")}
    assert exposed == documented
    pods = len(house.keeper.config["pods"])
    assert f"hotswitch_pods {pods}.0" in told
    for name in ("web-0", "pair-1"):
        assert f'hotswitch_fault{{fault="well",pod="default/{name}"}} 1.0' in told
        assert f'hotswitch_level{{direction="inbound",pod="default/{name}"}} 0.0' in told


def test_keys_are_never_told(house: House, runner: asyncio.Runner) -> None:
    """Of every pod: neither in journal, status, plan, history, metrics and log, nor in the rescue's files."""
    keeper, box = house.keeper, house.box

    async def story() -> None:
        keys = [key for pod in box.pods.values() for key in _key_lines(pod)]
        assert len(keys) >= 3 * len(box.pods)
        said = [await _metrics(keeper), Path(keeper.config["journal"]).read_bytes(), keeper.words().encode()]
        for verb in ("status", "history"):
            said.append(str(await keeper.tell(verb)).encode())
        said += [str(await keeper.tell("plan", pod=pod)).encode() for pod in ("web-0", "pair-1")]
        files = [path for path in (keeper.home / "rescue").rglob("*") if path.is_file()]
        said += [path.read_bytes() for path in files]
        assert files and all(len(each) for each in said[:3])
        for each in said:
            assert b"PRIVATE KEY" not in each
            assert not any(key in each for key in keys)

    def _key_lines(pod: Pod) -> list[bytes]:
        lines = (pod.proxy_directory / "certs" / "key.pem").read_bytes().splitlines()
        return [line for line in lines if line and not line.startswith(b"-----")]

    runner.run(story())
