"""What the API shows of pods whose sidecars fail, and of pods that end (S4.2a; facts/kubernetes.md 6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswitch.cluster.client import STRATEGIC
from hotswitch.cluster.kinds import PODS, REPLICASETS
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.kubelet import Restart, Timings
from tests.sandbox.cluster.watching import condition, container, every_api, is_ready, shown, waits

pytestmark = [pytest.mark.envoy, every_api]

FAST = Timings(scale=0.05)  # the second crash waits half a second
QUICK: dict[str, Any] = {"timings": FAST, "termination_drain_s": 0.2, "grace_s": 5}


def test_sidecar_crash_loops(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        web = await cluster.pod("loop-0", native=True, timings=Timings(scale=0.3))
        pod = await shown(cluster.cluster, "loop-0", is_ready)
        assert condition(pod, "Initialized") == "True" and pod["status"]["phase"] == "Running"
        assert pod["status"]["podIP"] == web.pod.ip and len(pod["status"]["podIPs"]) == 2
        mine = {"status": {"conditions": [{"type": "hotswitch.io/Capture", "status": "False"}]}}
        await cluster.cluster.patch_strategic(PODS, "default", "loop-0", mine, "status")

        fault = await web.pod.faults.crash_loop()
        pod = await shown(cluster.cluster, "loop-0", lambda pod: waits(pod) == "CrashLoopBackOff")
        assert not is_ready(pod) and condition(pod, "ContainersReady") == "False"
        last = container(pod, "istio-proxy")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (0, "Completed")
        assert "SIGKILL" in last["message"] and last["startedAt"] <= last["finishedAt"]
        assert container(pod, "istio-proxy")["restartCount"] == 1
        assert "running" in container(pod, "app")["state"]
        assert condition(pod, "hotswitch.io/Capture") == "False", "the kubelet keeps conditions of others"
        await fault.undo()
        pod = await shown(cluster.cluster, "loop-0", is_ready)
        assert pod["spec"]["initContainers"][1]["restartPolicy"] == "Always"

    runner.run(story())


def test_sidecar_hangs(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        web = await cluster.pod("hung-0", readiness_period_s=0.3, readiness_timeout_s=0.3, readiness_failures=2)
        await shown(cluster.cluster, "hung-0", is_ready)
        async with await web.pod.faults.hang():
            pod = await shown(cluster.cluster, "hung-0", lambda pod: not is_ready(pod))
            entry = container(pod, "istio-proxy")
            assert "running" in entry["state"] and entry["restartCount"] == 0 and entry["started"]
        await shown(cluster.cluster, "hung-0", is_ready)

    runner.run(story())


def test_pod_is_deleted(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        web = await cluster.pod("gone-0", native=True, workload="deploy/gone", **QUICK)
        await shown(cluster.cluster, "gone-0", is_ready)
        owner = web.manifest["metadata"]["ownerReferences"][0]
        replicas = await cluster.cluster.get(REPLICASETS, "default", owner["name"])
        assert replicas["metadata"]["uid"] == owner["uid"]
        assert replicas["metadata"]["ownerReferences"][0]["name"] == "gone"

        await cluster.cluster.delete(PODS, "default", "gone-0")
        pod = await shown(cluster.cluster, "gone-0", lambda pod: "terminated" in container(pod, "app")["state"])
        assert pod["metadata"]["deletionTimestamp"] and not is_ready(pod)
        await asyncio.wait_for(web.gone.wait(), 10)
        assert all(each["metadata"]["name"] != "gone-0" for each in await cluster.cluster.list(PODS, "default"))
        assert web.pod.envoy_pid is None
        again = await cluster.pod("gone-0", sidecar=False)
        assert again.uid != web.uid, "a name may come again, a uid does not"

    runner.run(story())


def test_pod_is_evicted_without_a_timestamp(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        web = await cluster.pod("evicted-0", **QUICK)
        await shown(cluster.cluster, "evicted-0", is_ready)
        ending = asyncio.create_task(web.evict())
        await web.pod.kubelet.until(lambda: not web.pod.app.status.running)
        held = await cluster.cluster.get(PODS, "default", "evicted-0")
        assert is_ready(held), "the status is held back until everything has ended"
        await ending
        pod = await shown(cluster.cluster, "evicted-0", lambda pod: pod["status"]["phase"] == "Failed")
        assert pod["status"]["reason"] == "Evicted" and "deletionTimestamp" not in pod["metadata"]
        assert "terminated" in container(pod, "istio-proxy")["state"]

    runner.run(story())


@pytest.mark.parametrize("native", [True, False])
def test_job_completes(cluster: SandboxCluster, runner: asyncio.Runner, native: bool) -> None:
    async def story() -> None:
        name = f"job-{native}".lower()
        job = await cluster.pod(name, native=native, workload=f"job/{name}", restart=Restart.NEVER, **QUICK)
        await shown(cluster.cluster, name, is_ready)
        await job.pod.tell_app("/sick?kind=exit&code=0")
        await shown(cluster.cluster, name, lambda pod: "terminated" in container(pod, "app")["state"])
        if not native:  # a classic sidecar has to be told
            await job.pod.ask("127.0.0.1", 15020, "/quitquitquit", method="POST")
        pod = await shown(cluster.cluster, name, lambda pod: pod["status"]["phase"] == "Succeeded")
        proxy = container(pod, "istio-proxy")
        assert proxy["state"]["terminated"]["exitCode"] == 0 and proxy["restartCount"] == 0
        assert proxy["state"]["terminated"]["reason"] == "Completed" and not is_ready(pod)

    runner.run(story())


def test_pod_never_becomes_ready(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await asyncio.gather(
            cluster.pod("unconfigured-0", configured=False), cluster.pod("gated-0", readiness_gates=("test/gate",))
        )
        running = await shown(
            cluster.cluster, "unconfigured-0", lambda pod: "running" in container(pod, "app")["state"]
        )
        assert not container(running, "istio-proxy")["started"] and not is_ready(running)
        gated = await shown(cluster.cluster, "gated-0", lambda pod: condition(pod, "ContainersReady") == "True")
        assert not is_ready(gated)
        opened = {"status": {"conditions": [{"type": "test/gate", "status": "True"}]}}
        path = PODS.path("default", "gated-0", "status")
        await cluster.cluster.request("PATCH", path, None, opened, STRATEGIC)
        await shown(cluster.cluster, "gated-0", is_ready)

    runner.run(story())


def test_namespace_outlives_its_pod(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        web = await cluster.pod("forced-0", sidecar=False)
        await shown(cluster.cluster, "forced-0", is_ready)
        await cluster.cluster.request("DELETE", PODS.path("default", "forced-0"), None, {"gracePeriodSeconds": 0})
        await asyncio.wait_for(web.gone.wait(), 10)
        assert web.pod.place.name not in run(Command(("ip", "netns", "list"))).stdout
        assert web.pod.app.process is not None and not web.pod.app.process.running

    runner.run(story())
