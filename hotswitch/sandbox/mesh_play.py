"""The demo of a mesh: three pods under load, a sidecar that crash-loops, one that hangs, an app that is sick.

What is expected: the first two are rescued and captured again, nothing is done about the third. Whoever stays may break
things by hand: everything is an ordinary process, and kubectl works on the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hotswitch.api.names import HELPER_CONTAINER
from hotswitch.cluster.exec import exec_in
from hotswitch.cluster.kinds import EVENTS, NAMESPACES, PODS, POLICIES
from hotswitch.cluster.watch import Watcher
from hotswitch.model import OPEN_LEVELS, Direction, Level
from hotswitch.sandbox.clients import LoadRun
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ROOT_NAMESPACE
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.faults import Fault
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.mesh_view import MeshView

SHOP = "shop"
PODS_MADE = 3
RATE = 50  # requests a second, of each client
ACTS_WITHIN_S, RESTORES_WITHIN_S, HELPERS_WITHIN_S = 30.0, 90.0, 120.0
FAULT_LASTS_S, QUIET_S = 6.0, 8.0
POLICY = {
    "metadata": {"name": "mesh", "namespace": ROOT_NAMESPACE},
    "spec": {
        "mode": "auto",
        "levels": {"inbound": ["rescue", "direct", "hold"], "outbound": ["rescue", "hold"]},
    },
}


@dataclass(frozen=True, slots=True)
class Step:
    """`acts`: is hotswitch to do something about it?"""

    happens: str
    pod: int
    begin: Callable[[Published], Awaitable[Fault]]
    acts: bool = True


STEPS = (
    Step("the sidecar of web-0 is killed, and again after each restart", 0, lambda web: web.pod.faults.crash_loop()),
    Step("the sidecar of web-1 hangs (SIGSTOP)", 1, lambda web: web.pod.faults.hang()),
    Step("the app of web-2 answers 500; its sidecar is well", 2, lambda web: web.pod.faults.sicken_app("error"), False),
)


@dataclass(frozen=True, slots=True)
class Stage:
    cluster: SandboxCluster
    webs: tuple[Published, ...]
    view: MeshView
    load: LoadRun


async def play(*, stay: bool) -> list[str]:
    """What did not go as it should, a sentence each."""
    view = MeshView(lambda line: print(line, flush=True))
    async with SandboxCluster(namespace=SHOP) as cluster:
        view.line("a cluster: an API, one node, nothing on it yet")
        async with _watched(cluster, view):
            stage = await _build(cluster, view)
            if stay:
                return await _stay(stage)
            problems, spans = [], []
            for step in STEPS:
                began_s = time.monotonic()
                problems += await _walk(stage, step)
                spans.append((step.happens, began_s, time.monotonic()))
            await _count(stage, spans)
            return problems


@contextlib.asynccontextmanager
async def _watched(cluster: SandboxCluster, view: MeshView) -> AsyncIterator[None]:
    watchers: tuple[Watcher[Any], ...] = (
        Watcher(cluster.cluster, PODS, dict, on_event=view.pod, namespace=SHOP),
        Watcher(cluster.cluster, EVENTS, dict, on_event=view.event, namespace=SHOP),
    )
    tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _build(cluster: SandboxCluster, view: MeshView) -> Stage:
    """Raises ControllerFailed, TimeoutError."""
    installed = await cluster.install()
    labels = {"metadata": {"labels": {"hotswitch.io/mode": "auto", "istio-injection": "enabled"}}}
    await cluster.cluster.patch_merge(NAMESPACES, None, SHOP, labels)
    await cluster.cluster.create(POLICIES, ROOT_NAMESPACE, POLICY)
    view.line("hotswitch's manifests: tier 2 (direct), helpers and exec; a policy that lets it act")
    controller = installed.controller("--lease", "4", "--probe-idle", "1")
    controller.start()
    webs = tuple([await _web(cluster, number) for number in range(PODS_MADE)])
    service = await cluster.service("web", webs)
    client = await cluster.box.client("plain")
    for web in webs:
        await web.pod.ready()
    await controller.ready()
    view.line(f"the controller is ready; to look for yourself: export KUBECONFIG={cluster.kubeconfig}")
    await _until(lambda: all(view.helped(web.pod.name) for web in webs), HELPERS_WITHIN_S, "not every pod has a helper")
    for web in webs:
        await _able(cluster, web)
    load = client.load([(web.pod.ip, 8080) for web in webs], rate=RATE, seconds=3600.0)
    await load.begun()
    view.line(f"every helper can rescue its pod; {RATE} requests a second go to the pods of Service {service.name}")
    return Stage(cluster, webs, view, load)


async def _able(cluster: SandboxCluster, web: Published) -> None:
    """Until the pod's helper has its rescue and an identity. Raises TimeoutError."""
    told = "it has not answered"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELPERS_WITHIN_S):
            while told:
                told = await _refusal(cluster, web)
                await asyncio.sleep(0.2 if told else 0.0)
    if told:
        raise TimeoutError(f"the helper of {web.pod.name} cannot rescue it: {told}")


async def _refusal(cluster: SandboxCluster, web: Published) -> str:
    done = await exec_in(cluster.cluster, *web.key, HELPER_CONTAINER, ("hotswitch", "truth"))
    if done.code != 0:
        return done.stderr.decode(errors="replace").strip() or done.sentence
    truth = json.loads(done.stdout)
    return str(truth.get("refusal") or truth.get("rescue_refusal") or "")


async def _web(cluster: SandboxCluster, number: int) -> Published:
    timings = Timings(scale=0.2)  # back-off five times as fast
    said = {"hotswitch.io/trusts-proxy-headers": "false"}  # else nobody may come in past the proxy
    return await cluster.pod(
        f"web-{number}", native=True, workload="deploy/web", annotations=said, timings=timings, grace_s=10
    )


async def _until(holds: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    """Raises TimeoutError."""
    try:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"within {timeout_s:g} s: {complaint}") from None


async def _walk(stage: Stage, step: Step) -> list[str]:
    """One fault, from its beginning to its end."""
    web, view = stage.webs[step.pod], stage.view
    view.line(f"NOW: {step.happens}")
    fault = await step.begin(web)
    try:
        problems = await (_acted(stage, web, fault) if step.acts else _left_alone(stage, web))
    finally:
        await fault.undo()
    view.line("the fault has ended")
    return problems + await _restored(stage, web)


async def _acted(stage: Stage, web: Published, fault: Fault) -> list[str]:
    name = web.pod.name
    try:
        await _until(lambda: is_open(stage, name), ACTS_WITHIN_S, f"{name} was not opened")
    except TimeoutError as late:
        return [str(late)]
    stage.view.line(f"{name} is open {time.monotonic() - fault.at_s:.2f} s after the fault, as the API shows it")
    await asyncio.sleep(FAULT_LASTS_S)
    return []


async def _left_alone(stage: Stage, web: Published) -> list[str]:
    await asyncio.sleep(QUIET_S)
    return [f"{web.pod.name} was opened for a fault of its app"] if is_open(stage, web.pod.name) else []


async def _restored(stage: Stage, web: Published) -> list[str]:
    name = web.pod.name

    def well() -> bool:
        return stage.view.ready(name) and not is_open(stage, name)

    try:
        await _until(well, RESTORES_WITHIN_S, f"{name} was not put back")
    except TimeoutError as late:
        return [str(late)]
    stage.view.line(f"{name} is well and captured")
    return []


def is_open(stage: Stage, pod: str) -> bool:
    levels = stage.view.levels(pod)
    return levels.get(Direction.INBOUND, Level.CAPTURE) in OPEN_LEVELS


async def _count(stage: Stage, spans: Sequence[tuple[str, float, float]]) -> None:
    """What clients saw of each step."""
    stage.load.stop()
    results = await stage.load.results()
    for happens, began_s, ended_s in spans:
        stage.view.line(f"{happens}: of all requests to the pods {results.started_between(began_s, ended_s).summary()}")


async def _stay(stage: Stage) -> list[str]:
    """Until ^C."""
    view = stage.view
    for web in stage.webs:
        view.line(f"break it: kill -9 {web.pod.envoy_pid}   (the sidecar of {web.pod.name}; -STOP makes it hang)")
    view.line("kubectl works with the KUBECONFIG above; ^C ends and removes everything")
    await asyncio.Event().wait()
    return []
