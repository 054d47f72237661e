"""Endpoints follow readiness, and istiod's clients follow the endpoints (facts/kubernetes.md 6b; facts/istio.md 7)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswitch.cluster.kinds import ENDPOINTSLICES, PODS, SERVICES
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.kubelet import Timings
from hotswitch.sandbox.registry import TLS_MODE_LABEL
from tests.sandbox.cluster.edsclient import subscribed
from tests.sandbox.cluster.watching import every_api, is_ready, shown

pytestmark = [pytest.mark.envoy, every_api]

SLOW = Timings(scale=10.0)  # after the second crash the sidecar stays away


async def _slices(cluster: SandboxCluster, service: str) -> list[dict[str, Any]]:
    selector = f"kubernetes.io/service-name={service}"
    return await cluster.cluster.list(ENDPOINTSLICES, "default", label_selector=selector)


async def _conditions(cluster: SandboxCluster, service: str) -> dict[str, dict[str, bool]]:
    found = await _slices(cluster, service)
    return {each["targetRef"]["name"]: each["conditions"] for one in found for each in one["endpoints"] or ()}


async def _until(cluster: SandboxCluster, service: str, wanted: dict[str, dict[str, bool]]) -> None:
    seen: dict[str, dict[str, bool]] = {}
    try:
        async with asyncio.timeout(10):
            while (seen := await _conditions(cluster, service)) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"{seen}, not {wanted}") from None


async def _ends(cluster: SandboxCluster, service: str, pod: str) -> None:
    """Until the pod's endpoint is a terminating one. How long it still serves is a matter of milliseconds."""
    async with asyncio.timeout(10):
        while not (await _conditions(cluster, service))[pod]["terminating"]:
            await asyncio.sleep(0.02)
    assert not (await _conditions(cluster, service))[pod]["ready"]


WELL, AWAY = ({"ready": is_well, "serving": is_well, "terminating": False} for is_well in (True, False))


def test_dead_sidecar_takes_the_endpoint_away(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pods = [await cluster.pod(f"web-{number}", timings=SLOW, grace_s=5) for number in (0, 1)]
        service = await cluster.service("web", pods)
        meshed = await cluster.box.meshed("web-client")
        for published in pods:
            await shown(cluster.cluster, published.pod.name, is_ready)
        await _until(cluster, "web", {"web-0": WELL, "web-1": WELL})
        await meshed.until_endpoints(service, 2)
        answer = await meshed.get(service, "/echo")
        assert answer.via == "sidecar" and "x-forwarded-client-cert" in answer.json()["headers"]

        name, (first, second) = "outbound|8080||web.default.svc.cluster.local", (each.pod.ip for each in pods)
        both = {(first, "istio"), (second, "istio")}
        async with (
            subscribed(cluster.eds.target, name) as whole,
            subscribed(cluster.eds.target, name, delta=True) as incremental,
        ):
            await asyncio.gather(whole.until(name, both), incremental.until(name, both))
            fault = await pods[0].pod.faults.crash_loop()
            await _until(cluster, "web", {"web-0": AWAY, "web-1": WELL})
            left = {(second, "istio")}
            await asyncio.gather(whole.until(name, left), incremental.until(name, left))
            await meshed.until_endpoints(service, 1)
            await fault.undo()
            await asyncio.gather(whole.until(name, both), incremental.until(name, both))

        await cluster.cluster.delete(PODS, "default", "web-1")
        await _ends(cluster, "web", "web-1")
        await pods[1].gone.wait()
        await _until(cluster, "web", {"web-0": WELL})

    runner.run(story())


def test_terminating_pod_is_not_ready_though_it_serves(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        published = await cluster.pod("ending-0", grace_s=20, termination_drain_s=1.0)
        await cluster.service("ending", [published], publishNotReadyAddresses=False)
        await shown(cluster.cluster, "ending-0", is_ready)
        await _until(cluster, "ending", {"ending-0": WELL})
        await cluster.cluster.delete(PODS, "default", "ending-0")
        await published.gone.wait()
        await _until(cluster, "ending", {})
        slices = await _slices(cluster, "ending")
        assert len(slices) == 1, "a Service without pods keeps a slice"

    runner.run(story())


def test_label_of_an_unready_pod_is_read_at_a_touch_only(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    """facts/istio.md 7.2: what `direct` relies on, and has to do in this order."""

    async def story() -> None:
        published = await cluster.pod("label-0", readiness_gates=("test/gate",))
        await cluster.service("label", [published], publishNotReadyAddresses=True)
        name, ip = "outbound|8080||label.default.svc.cluster.local", published.pod.ip
        async with subscribed(cluster.eds.target, name, delta=True) as eds:
            await eds.until(name, {(ip, "istio")})
            label = {"metadata": {"labels": {TLS_MODE_LABEL: "disabled"}}}
            await cluster.cluster.patch_strategic(PODS, "default", "label-0", label, "status")
            await shown(cluster.cluster, "label-0", lambda pod: pod["metadata"]["labels"][TLS_MODE_LABEL] == "disabled")
            with pytest.raises(TimeoutError):
                await eds.until(name, {(ip, "")}, timeout_s=0.4)
            touch = {"metadata": {"annotations": {"hotswitch.io/touched": "1"}}}
            managed = (await _slices(cluster, "label"))[0]["metadata"]["name"]
            await cluster.cluster.patch_merge(ENDPOINTSLICES, "default", managed, touch)
            await eds.until(name, {(ip, "")})

            gate = {"status": {"conditions": [{"type": "test/gate", "status": "True"}]}}
            await cluster.cluster.patch_strategic(PODS, "default", "label-0", gate, "status")
            await shown(cluster.cluster, "label-0", is_ready)
            label["metadata"]["labels"][TLS_MODE_LABEL] = "istio"
            await cluster.cluster.patch_strategic(PODS, "default", "label-0", label, "status")
            await eds.until(name, {(ip, "istio")})
        touched = (await _slices(cluster, "label"))[0]["metadata"]
        assert touched["annotations"]["hotswitch.io/touched"] == "1", "the controller leaves annotations alone"

    runner.run(story())


def test_service_without_selector_keeps_its_slices(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        published = await cluster.pod("kept-0", sidecar=False)
        await cluster.service("kept", [published])
        await _until(cluster, "kept", {"kept-0": WELL})
        await cluster.cluster.patch_merge(SERVICES, "default", "kept", {"spec": {"selector": None}})
        before = await _slices(cluster, "kept")
        await cluster.cluster.delete(PODS, "default", "kept-0")
        await published.gone.wait()
        await asyncio.sleep(0.3)
        assert await _slices(cluster, "kept") == before, "frozen, and still served"

    runner.run(story())
