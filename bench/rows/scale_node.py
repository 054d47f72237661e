"""What the agent of a node costs at rest, as shipped, with a whole node's pods; and whether it still sees right (S4.2).

All but REAL pods are one Envoy's (see herd); everything else of them is real: objects in the API, namespaces, rules,
cgroups, identities. After the rest one real sidecar is killed and one is stopped: both are to be opened, and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import yaml

from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.fleet import BenchFailed
from bench.nodeherd import NodeHerd
from bench.settings import READY_S, Settings
from bench.trials import Say
from bench.usage import usage
from hotswitch.cluster.kinds import NAMESPACES
from hotswitch.model import Act
from hotswitch.sandbox.cluster.agents import OVERLAY, NodeAgent
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.manifests import render
from hotswitch.sandbox.protector import POLICY

NAMES = ("scale-node",)
WHO = "node agent"
REAL = 4
MOST_AGENT_MB, MOST_ENVOY_MB, MOST_CPU = 80.0, 120.0, 5.0
READY_TIMEOUT_S, SETTLE_S = 240.0, 3.0
AGENT_MB, ENVOY_MB, AGENT_CPU, ENVOY_CPU = "agent memory", "rescue Envoy memory", "agent CPU", "rescue Envoy CPU"
STARTED_S, OPENED, OTHERS = "start to all pods guarded", "faulty pods opened", "other pods touched"
UNITS = {
    AGENT_MB: "MB", ENVOY_MB: "MB", AGENT_CPU: "% of a core", ENVOY_CPU: "% of a core", STARTED_S: "s",
    OPENED: "of 2", OTHERS: "pods",
}  # fmt: skip


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    count = settings.pods[-1]
    row = Row("scale-node", "the agent of a node at rest, as shipped; then one sidecar is killed and one is stopped")
    found = await _measured(count, settings.idle_s, say)
    case = f"{count} pods"
    row.figures += [Figure(what, case, WHO, UNITS[what], Sample.of([each])) for what, each in found.items()]
    row.tables.append(
        Table(("", case), tuple((f"{what}, {UNITS[what]}", number(each)) for what, each in found.items()))
    )
    row.goals += _goals(found, case)
    yield row


async def _measured(count: int, idle_s: float, say: Say) -> dict[str, float]:
    async with SandboxCluster(namespace="shop") as cluster:
        herd = NodeHerd(cluster)
        try:
            say(f"making {count} pods")
            await herd.start(count - REAL)
            pods = [await _pod(cluster, f"real-{index}") for index in range(REAL)]
            agent = await _agent(cluster)
            began_s = time.monotonic()
            agent.start()
            await _until_ready(agent, count)
            started_s = time.monotonic() - began_s
            say(f"guarded after {number(started_s)} s")
            await asyncio.sleep(SETTLE_S)
            rest = await _at_rest(agent, idle_s)
            return {**rest, STARTED_S: started_s, **await _faults(agent, pods)}
        finally:
            await asyncio.shield(herd.stop())


async def _pod(cluster: SandboxCluster, name: str) -> Published:
    web = await cluster.pod(name, families=("v4",), timings=Timings(scale=0.2), native=True)
    await web.pod.ready(READY_S)
    return web


async def _agent(cluster: SandboxCluster) -> NodeAgent:
    installed = await cluster.install("tier-0-observe", ())
    cluster.api.apply(render(OVERLAY))
    await cluster.cluster.patch_merge(NAMESPACES, None, "shop", {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}})
    agent = installed.agent(HOTSWITCH_POLICY="/run/hotswitch/policy.yaml")
    agent.directory.mkdir()
    standing = {"policy": dict(POLICY), "budget": {"node": 10, "workload": 10}}
    Path(agent.directory / "policy.yaml").write_text(yaml.safe_dump(standing))
    return agent


async def _until_ready(agent: NodeAgent, count: int) -> None:
    """Every pod is guarded and well, and its rescue is ready. Raises BenchFailed."""
    late: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_TIMEOUT_S):
            while agent.process is not None and agent.process.running:
                with contextlib.suppress(OSError, ValueError):
                    status = await agent.status()
                    late = [
                        f"{name}: {each['fault']}, rescue {each['rescue']}, gate {each['gate']}"
                        for name, each in status.items()
                        if each["fault"] != "well" or {each["rescue"], each["gate"]} != {"ready"}
                    ]
                    if not late and len(status) == count:
                        return
                    late.append(f"{len(status)} of {count} are guarded")
                await asyncio.sleep(0.5)
    raise BenchFailed(f"not ready after {READY_TIMEOUT_S:g} s: {late[:3]}, {late[-1:]}; {agent.words()}")


async def _at_rest(agent: NodeAgent, seconds: float) -> dict[str, float]:
    pids = (agent.agent_pid(), _rescue(agent))
    before, began_s = [usage(pid) for pid in pids], time.monotonic()
    await asyncio.sleep(seconds)
    after, took_s = [usage(pid) for pid in pids], time.monotonic() - began_s
    cpu = [100 * (late.cpu_s - early.cpu_s) / took_s for early, late in zip(before, after, strict=True)]
    return {AGENT_CPU: cpu[0], AGENT_MB: after[0].rss_mb, ENVOY_CPU: cpu[1], ENVOY_MB: after[1].rss_mb}


def _rescue(agent: NodeAgent) -> int:
    """Raises BenchFailed."""
    for pid in agent.pids():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "envoy":
                return pid
    raise BenchFailed(f"no rescue Envoy runs: {agent.words()}")


async def _faults(agent: NodeAgent, pods: Sequence[Published]) -> dict[str, float]:
    """One is killed and one stopped; which pods were opened until both are put back."""
    faulty = [f"shop/{web.pod.name}" for web in pods[:2]]
    made = [await pods[0].pod.faults.kill(), await pods[1].pod.faults.hang()]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            while not _opened(agent).issuperset(faulty):
                await asyncio.sleep(0.05)
    for fault in made:
        await fault.undo()
    for web in pods:
        await web.pod.ready(READY_S)
    await agent.guards(*(f"shop/{web.pod.name}" for web in pods), timeout_s=READY_S)
    opened = _opened(agent)
    return {OPENED: len(opened & set(faulty)), OTHERS: len(opened - set(faulty))}


def _opened(agent: NodeAgent) -> set[str]:
    return {each.pod for each in agent.entries() if each.event == Act.OPEN and not each.failed}


def _goals(found: dict[str, float], case: str) -> list[Goal]:
    agent_mb, envoy_mb, cpu = found[AGENT_MB], found[ENVOY_MB], found[AGENT_CPU]
    right = (found[OPENED], found[OTHERS]) == (2, 0)
    goals = [
        (f"agent below {MOST_AGENT_MB:g} MB", f"{number(agent_mb)} MB", agent_mb < MOST_AGENT_MB),
        (f"agent at most {MOST_CPU:g} % of a core, idle", f"{number(cpu)} %", cpu <= MOST_CPU),
        (f"rescue Envoy below {MOST_ENVOY_MB:g} MB", f"{number(envoy_mb)} MB", envoy_mb < MOST_ENVOY_MB),
        ("both faulty pods opened, no other one", f"{found[OPENED]:g}, {found[OTHERS]:g}", right),
    ]
    return [Goal(f"{case} of a node: {text}", "-", measured, met) for text, measured, met in goals]
