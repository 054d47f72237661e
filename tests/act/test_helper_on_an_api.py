"""The helper's container, the label and the slices, as an API server takes them: the embedded one, and a real one where
KUBECONFIG names it (S4.2, I6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act import slices
from hotswitch.act.eds_check import EdsCheck, Istiod
from hotswitch.act.helper import BEING_STARTED, HelperActuator
from hotswitch.act.order import Target
from hotswitch.act.steps import StepFailed
from hotswitch.act.tlsmode import Meshed, after_closing, before_opening
from hotswitch.api.names import HELPER_CONTAINER
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import ENDPOINTSLICES, PODS, SERVICES
from hotswitch.model import PodRef, PodUid, Policy
from hotswitch.sandbox.cluster import manifest
from hotswitch.sandbox.cluster.manifest import Injected
from hotswitch.sandbox.podspec import PodSpec
from tests.cluster import apis

pytestmark = pytest.mark.k8s

IMAGE = "registry.test/hotswitch-agent:1"
SERVERS = [
    pytest.param(apis.embedded, id="embedded"),
    pytest.param(apis.real, marks=pytest.mark.e2e, id="real"),
]


async def made(cluster: Cluster, namespace: str, *, native: bool) -> Target:
    """A pod as Istio's injector leaves it, with addresses; nobody runs it."""
    body = manifest.pod(Injected(name="web-0", spec=PodSpec(namespace=namespace, native=native), node="node-a"))
    pod = await cluster.create(PODS, namespace, body)
    status = {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "phase": "Running"}
    known = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
    pod = await cluster.patch_strategic(PODS, namespace, "web-0", known, "status")
    who = PodRef("web-0", namespace, PodUid(pod["metadata"]["uid"]), "deploy/web")
    return Target(pod=who, manifest=pod, policy=Policy())


async def ephemeral(cluster: Cluster, which: Target) -> list[dict[str, Any]]:
    pod = await cluster.get(PODS, which.pod.namespace, which.pod.name)
    found: list[dict[str, Any]] = pod["spec"].get("ephemeralContainers") or []
    return found


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("server", SERVERS)
def test_one_helper_and_never_a_second(server: apis.Api, native: bool) -> None:
    async def story() -> None:
        async with server() as place:
            cluster, namespace = place.cluster, place.namespace
            which = await made(cluster, namespace, native=native)
            stranger = replace(which, pod=replace(which.pod, uid=PodUid("of-the-one-before")))
            assert "does not take" in await HelperActuator(cluster, IMAGE).prepare(stranger)
            assert await ephemeral(cluster, which) == []
            assert await HelperActuator(cluster, IMAGE).prepare(which) == BEING_STARTED
            again = await HelperActuator(cluster, IMAGE).prepare(which)  # by a look from before
            newer = await HelperActuator(cluster, f"{IMAGE}.1").prepare(which)
            assert (again, newer) == (BEING_STARTED, BEING_STARTED)
            (container,) = await ephemeral(cluster, which)
            assert (container["name"], container["image"]) == (HELPER_CONTAINER, IMAGE)

    asyncio.run(story())


@pytest.mark.parametrize("server", SERVERS)
def test_label_and_slices_there_and_back(server: apis.Api) -> None:
    async def story() -> None:
        async with server() as place:
            cluster, namespace = place.cluster, place.namespace
            which = await made(cluster, namespace, native=False)
            await with_service(cluster, which)
            mesh = Meshed(
                cluster=cluster,
                clients=EdsCheck(Istiod(address="127.0.0.1:1"), 0.1),
                pod=which.pod,
                addresses=frozenset({"10.1.2.3"}),
                label_before="istio",
                generation=1,
            )
            assert await slices.eds_clusters(cluster, which.pod) == (f"outbound|80||web.{namespace}.svc.cluster.local",)
            for label, touch, told in (before_opening(mesh), after_closing(mesh)):
                for step in (label, touch):
                    assert not await step.done()
                    await step.do()
                    await step.do()
                    assert await step.done()
                with pytest.raises(StepFailed, match="UNAVAILABLE"):
                    await told.do()

    asyncio.run(story())


async def with_service(cluster: Cluster, which: Target) -> None:
    namespace = which.pod.namespace
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    await cluster.create(SERVICES, namespace, {"metadata": {"name": "web"}, "spec": {"ports": [port]}})
    reference = {"kind": "Pod", "name": which.pod.name, "namespace": namespace, "uid": which.pod.uid}
    await cluster.create(
        ENDPOINTSLICES,
        namespace,
        {
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.2.3"], "targetRef": reference, "conditions": {"ready": False}}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        },
    )
