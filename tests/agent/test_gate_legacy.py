"""An agent to which the kernel says that it has no nf_tables: a pod under iptables-legacy, switched and given back.

Only that answer is simulated, in the agent's process alone. The gate, Istio's rules, Envoy and the faults are real.
"""

from __future__ import annotations

import asyncio
import sys

import pytest
import yaml

from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper, rules, ruleset
from tests.agent.town import Town

pytestmark = pytest.mark.envoy

FAMILIES, WAYS = ("v4", "v6"), ("inbound", "outbound")
AGENT = """
import errno
from hotswitch.cli.main import app
from hotswitch.kernel import nf_tables

nf_tables.answer = lambda _netns=None: errno.EINVAL
app()
"""


class Old(Keeper):
    """Its agent takes the kernel for one without nf_tables."""

    def launch(self) -> Process:
        self.file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        argv = (sys.executable, "-c", AGENT, "agent", "--config", str(self.file))
        self._process = start(self._box.estate, argv, log=self._log, cgroups=self._cgroups())
        return self._process


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Town:
    async def build() -> Town:
        pod = await box.pod("old", backend="iptables-legacy")
        outside, client = await box.pod("outside", sidecar=False), await box.client("plain")
        await asyncio.gather(pod.ready(60), outside.ready(60))
        keeper = Old(box, [pod])
        await keeper.guard()
        return Town({"old": pod}, outside, client, keeper, 0.0)

    return runner.run(build())


async def _servers(town: Town, pod: Pod) -> set[str]:
    return {await town.server(way, pod, family) for way in WAYS for family in FAMILIES}


def _legacy(pod: Pod) -> str:
    texts = (run(Command((f"{tool}-legacy-save",), pod.netns), check=True).stdout for tool in ("iptables", "ip6tables"))
    return "\n".join(line.partition(" [")[0] for text in texts for line in text.splitlines() if line[:1] != "#")


def test_switched_by_order_and_rescued_from_death(town: Town, runner: asyncio.Runner) -> None:  # S4.2, S4.3, I4
    async def walk() -> None:
        pod, keeper = town.pods["old"], town.keeper
        closed, original = _legacy(pod), rules(pod).fingerprint
        assert "HOTSWITCH_IN" in closed and "hotswitch" not in ruleset(pod)
        for level in ("rescue", "direct"):
            await keeper.bypass(pod, level)
            assert await _servers(town, pod) == {level}
            await keeper.restore(pod)
            await keeper.until_rest(pod)
            assert await _servers(town, pod) == {"proxy"}
        seen = {event: len(keeper.entries(pod, event)) for event in ("open", "close", "verified")}
        fault = await keeper.cause(pod.faults.kill())
        assert (await keeper.until_entry(pod, "open", seen["open"])).evidence["fault"] == "dead"
        assert await _servers(town, pod) == {"rescue"}
        await fault.undo()
        await keeper.until_entry(pod, "close", seen["close"])
        proof = await keeper.until_entry(pod, "verified", seen["verified"])
        assert proof.evidence == {"istio_rules_unchanged": "True", "refusal": ""}
        assert await _servers(town, pod) == {"proxy"}
        assert (_legacy(pod), rules(pod).fingerprint) == (closed, original)

    runner.run(walk())
