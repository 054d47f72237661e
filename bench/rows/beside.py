"""The agents of a node and of a pod beside the standalone agent: the same fault, the same load, in turns, in one run,
with the API server stopped (S4.2, S4.4, I1).

Both act on pods of one cluster in miniature. The node's agent is the shipped DaemonSet's container: its capabilities,
pids and root of its own, within a standing grant; `shared`: the same with the node's pids (hostPID). The pod's agent is
in its pod as the injection template has it; `shared`: in one whose containers share their pids. Requests go straight to
the pod, each on a new connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import yaml

from bench.actors import Hotswitch
from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.podagent import PodAgent
from bench.settings import READY_S, Settings
from bench.trials import Say
from hotswitch.cluster.kinds import NAMESPACES
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.cluster.agents import OVERLAY
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.manifests import render
from hotswitch.sandbox.protector import POLICY

WHO: Mapping[str, str] = {
    "beside": "node agent",
    "beside-shared": "node agent, hostPID",
    "beside-pod": "pod agent",
    "beside-pod-shared": "pod agent, shareProcessNamespace",
}
NAMES = tuple(WHO)
ALONE = "standalone agent"
FAULTS = {"kill": 2.5, "hang": 4.0}  # seconds of load after the fault
RATE, BEFORE_S = 250.0, 0.5
MOST_TIMES = 1.5
QUICKLY = {"recover_after_s": 0.5, "hold_down_s": 0.5, "hold_down_max_s": 0.5}
Guards = Callable[[], Awaitable[None]]


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    for name in names:
        row = Row(name, f"the {WHO[name]} beside the standalone one, in turns; plain client, new connections")
        for (fault, actor), outages in (await _measured(name, settings, say)).items():
            row.figures.append(Figure("outage", fault, actor, "ms", Sample.of(outages)))
        row.tables.append(_table(row.figures))
        row.goals += _goals(row.figures, WHO[name])
        yield row


async def _measured(name: str, settings: Settings, say: Say) -> dict[tuple[str, str], list[float]]:
    """Outages in ms by fault and agent."""
    who = WHO[name]
    found: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(SandboxCluster(namespace="shop"))
        pods = {ALONE: await _pod(cluster, "alone-0", "off"), who: await _pod(cluster, "ours-0", "auto")}
        client = await cluster.box.client("caller")
        make = _pod_agent if name.startswith("beside-pod") else _node_agent
        guards = await make(cluster, pods[who], name, stack)
        keeper = Hotswitch(cluster.box, [pods[ALONE].pod], policy=QUICKLY)
        stack.push_async_callback(keeper.stop)
        await keeper.start()
        await cluster.api.stop()
        stack.push_async_callback(cluster.api.start)
        for fault in FAULTS:
            for _ in range(settings.ours):
                for actor, web in pods.items():
                    outage_ms = await _once(client, web, fault, settings)
                    found.setdefault((fault, actor), []).append(outage_ms)
                    say(f"{fault}, {actor}: {number(outage_ms)} ms")
                    await _at_rest(guards, keeper, web)
    return found


async def _pod(cluster: SandboxCluster, name: str, mode: str) -> Published:
    labels = {"hotswitch.io/mode": mode}
    web = await cluster.pod(name, labels=labels, families=("v4",), timings=Timings(scale=0.2), native=True)
    await web.pod.ready(READY_S)
    return web


async def _node_agent(cluster: SandboxCluster, web: Published, name: str, stack: AsyncExitStack) -> Guards:
    installed = await cluster.install("tier-0-observe", ())
    cluster.api.apply(render(OVERLAY))
    await cluster.cluster.patch_merge(NAMESPACES, None, "shop", {"metadata": {"labels": {"hotswitch.io/mode": "auto"}}})
    agent = installed.agent(HOTSWITCH_POLICY="/run/hotswitch/policy.yaml")
    agent.shares_pids = name == "beside-shared"
    agent.directory.mkdir()
    policy = {"policy": {**POLICY, **QUICKLY}, "budget": {"node": 10, "workload": 10}}
    Path(agent.directory / "policy.yaml").write_text(yaml.safe_dump(policy))
    agent.start()

    async def guards() -> None:
        await agent.guards(f"shop/{web.pod.name}", timeout_s=READY_S)

    await guards()
    return guards


async def _pod_agent(cluster: SandboxCluster, web: Published, name: str, stack: AsyncExitStack) -> Guards:
    agent = PodAgent(cluster.box, web.pod, {**POLICY, **QUICKLY}, shares_pids=name == "beside-pod-shared")
    agent.start()
    stack.push_async_callback(agent.stop)

    async def guards() -> None:
        await agent.guards(READY_S)

    await guards()
    return guards


async def _once(client: Client, web: Published, fault: str, settings: Settings) -> float:
    seconds = BEFORE_S + FAULTS[fault]
    load = client.load((web.pod.ip, 8080), rate=RATE * settings.load, seconds=seconds, timeout_s=2.0)
    await load.begun()
    await asyncio.sleep(BEFORE_S)
    made = await getattr(web.pod.faults, fault)()
    results = await load.results()
    await made.undo()
    return results.since(made.at_s).summary(made.at_s).outage_s * 1000


async def _at_rest(guards: Guards, keeper: Hotswitch, web: Published) -> None:
    await web.pod.ready(READY_S)
    web.pod.proxy.hurry()
    await guards()
    async with asyncio.timeout(READY_S):
        await keeper.look()
        while keeper.unrest():
            await asyncio.sleep(0.1)
            await keeper.look()


def _of(figures: Sequence[Figure], fault: str, who: str) -> Sample:
    return next(each.sample for each in figures if (each.case, each.who) == (fault, who))


def _table(figures: Sequence[Figure]) -> Table:
    lines = tuple(
        (each.case, each.who, number(each.sample.median), number(max(each.sample.values)), str(each.sample.n))
        for each in figures
    )
    return Table(("fault", "who", "outage, median, ms", "worst, ms", "n"), lines)


def _goals(figures: Sequence[Figure], who: str) -> list[Goal]:
    goals = []
    for fault in FAULTS:
        ours, alone = _of(figures, fault, who).median, _of(figures, fault, ALONE).median
        text = f"{fault}, {who}: outage within {MOST_TIMES:g} times the standalone agent's"
        measured = f"{number(ours)} ms against {number(alone)} ms"
        goals.append(Goal(text, "-", measured, ours <= MOST_TIMES * alone))
    return goals
