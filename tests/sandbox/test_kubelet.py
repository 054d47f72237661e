"""Kubelet and registry stand-ins: what Kubernetes and istiod do about a dead sidecar when nobody else acts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.registry import TLS_MODE_LABEL, Service
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy


async def _published(service: Service, wanted: Callable[[tuple[str, ...]], bool], timeout_s: float = 10.0) -> float:
    """When a version with these addresses was published (loop time)."""
    async with asyncio.timeout(timeout_s):
        while not wanted(service.changes[-1][1]):
            await asyncio.sleep(0.005)
    return service.changes[-1][0]


def test_back_off_is_the_kubelets() -> None:
    """facts/kubernetes.md 6g: at once, then 10 s, doubled, 300 s at most."""
    assert [Timings().backoff_s(crashes) for crashes in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert Timings(scale=0.1).backoff_s(2) == 1.0


def test_crash_loop_takes_the_endpoint_away(box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pods = [await box.pod(f"loop-{number}", timings=Timings(scale=0.1)) for number in (0, 1)]
        service = await box.service("loop", pods)
        meshed = await box.meshed("loop-client")
        await asyncio.gather(*(pod.ready() for pod in pods))
        await _published(service, lambda hosts: len(hosts) == 2)
        fault = await pods[0].faults.crash_loop()
        gone_s = await _published(service, lambda hosts: hosts == (pods[1].ip,))
        assert 0.1 < gone_s - fault.at_s < 1.6, "relist and debounce"
        await meshed.until_endpoints(service, 1)
        await pods[0].kubelet.until(lambda: pods[0].proxy.status.waiting == "CrashLoopBackOff")
        await pods[0].kubelet.until(lambda: pods[0].proxy.status.restart_count >= 2)
        assert not pods[0].is_ready
        await fault.undo()
        await _published(service, lambda hosts: len(hosts) == 2)
        await meshed.until_endpoints(service, 2)
        assert pods[0].is_ready

    runner.run(story())


def test_hang_is_noticed_by_readiness_only(box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await box.pod("hung-0", readiness_period_s=0.3, readiness_timeout_s=0.3, readiness_failures=2)
        await pod.ready()
        fault = await pod.faults.hang()
        await pod.kubelet.until(lambda: not pod.is_ready)
        assert pod.proxy.status.running and pod.proxy.status.restart_count == 0, "no liveness probe: never restarted"
        await fault.undo()
        await pod.ready()

    runner.run(story())


def test_service_keeps_a_pod_that_hotswitch_serves(box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        served: set[str] = set()
        pod = await box.pod("adopted-0")
        kept = await box.service("kept", [pod], publish="adopted", serves=served.__contains__)
        everyone = await box.service("everyone", [pod], publish="all")
        await pod.ready()
        await _published(kept, bool)
        fault = await pod.faults.kill()
        served.add("adopted-0")
        await pod.kubelet.until(lambda: not pod.is_ready)
        await asyncio.sleep(0.3)  # more than relist's announcement and debounce need
        assert kept.changes[-1][1] == everyone.changes[-1][1] == (pod.ip,)
        served.clear()
        if not pod.is_ready:
            await _published(kept, lambda hosts: hosts == ())
        assert everyone.changes[-1][1] == (pod.ip,)
        await fault.undo()
        await _published(kept, bool)

    runner.run(story())


def test_label_turns_clients_to_plaintext(box: Sandbox, runner: asyncio.Runner) -> None:
    """facts/istio.md 7.2: only tlsMode "istio" is mTLS; a NotReady pod's change is not heard."""

    async def story() -> None:
        pod = await box.pod("label-0")
        service = await box.service("label", [pod])
        meshed = await box.meshed("label-client")
        await pod.ready()
        await meshed.until_endpoints(service, 1)
        assert "x-forwarded-client-cert" in (await meshed.get(service, "/echo")).json()["headers"]
        published = len(service.changes)
        pod.label(TLS_MODE_LABEL, "disabled")
        await _published(service, lambda hosts: len(service.changes) > published)
        await meshed.restart()  # pooled connections would go on as they are
        await meshed.until_endpoints(service, 1)
        assert "x-forwarded-client-cert" not in (await meshed.get(service, "/echo")).json()["headers"]
        assert (await meshed.get(service, "/echo")).via == "sidecar", "PERMISSIVE takes it"

    runner.run(story())


def test_dead_sidecar_costs_a_healthy_app_its_life(box: Sandbox, runner: asyncio.Runner) -> None:
    """facts/istio.md 6: the app's own probes were rewritten to 15020, which is gone with Envoy."""

    async def story() -> None:
        pod = await box.pod("probed-0", liveness=True, app_period_s=0.3, timings=Timings(scale=0.5))
        await pod.ready()
        fault = await pod.faults.crash_loop()
        await pod.kubelet.until(lambda: pod.app.status.restart_count > 0)
        assert pod.app.status.last_state is not None
        await fault.undo()

    runner.run(story())


def test_termination_drains_first(box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await box.pod("ending-0", termination_drain_s=1.0)
        service = await box.service("ending", [pod])
        client = await box.client("ending-client")
        await pod.ready()
        await _published(service, bool)
        ending = asyncio.create_task(pod.kubelet.terminate(grace_s=10))
        await _published(service, lambda hosts: hosts == ())
        assert (await client.ask(pod.ip, 15021, "/healthz/ready")).status == 503
        assert pod.envoy_pid is not None
        await ending
        assert pod.envoy_pid is None
        assert pod.proxy.process is not None and pod.proxy.process.returncode == 0
        assert not pod.proxy.status.running

    runner.run(story())
