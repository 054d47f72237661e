"""Steps towards `direct` while the API server cannot do what is asked at that moment: a step that fails takes back all
before it, so none fails for what passes within seconds (S4.3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from hotswitch.act import slices, tlsmode
from hotswitch.act.steps import StepFailed, carry_out
from hotswitch.act.tlsmode import Meshed
from hotswitch.api.names import TLS_MODE_LABEL, TOUCHED
from hotswitch.cluster.kinds import ENDPOINTSLICES, PODS, SERVICES
from hotswitch.model import PodRef, PodUid
from hotswitch.sandbox.kubeapi.faults import Faults, Which
from tests.cluster import apis

pytestmark = pytest.mark.k8s
MARK = "mark"
ASKED: dict[str, Which] = {
    "pod": {"verb": "get", "resource": "pods"},
    "label": {"verb": "patch", "resource": "pods/status"},
    "slices": {"verb": "list", "resource": "endpointslices"},
    "touch": {"verb": "patch", "resource": "endpointslices"},
    "service": {"verb": "get", "resource": "services"},
}
POOR: dict[str, Callable[[Faults, Which], object]] = {
    "500": lambda faults, which: faults.fail(500, **which | {"times": 2}),
    "429": lambda faults, which: faults.fail(429, retry_after_s=1, **which | {"times": 1}),
    "cut": lambda faults, which: faults.cut(**which | {"times": 2}),
    "cut after": lambda faults, which: faults.cut(after=True, **which | {"times": 2}),
    "garbled": lambda faults, which: faults.garble(**which | {"times": 2}),
    "garbled after": lambda faults, which: faults.garble(after=True, **which | {"times": 2}),
}


class Clients:
    """istiod says at once what is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def until(self, clusters: tuple[str, ...], addresses: frozenset[str], *, tls: bool, within_s: float) -> None:
        self.asked.append(clusters)


async def built(place: apis.Place) -> Meshed:
    cluster, namespace = place.cluster, place.namespace
    pod = await apis.make_pod(cluster, namespace, "web-0", labels={TLS_MODE_LABEL: "istio"})
    uid = pod["metadata"]["uid"]
    spec = {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "selector": {"app": "web"}}
    await cluster.create(SERVICES, namespace, {"metadata": {"name": "web"}, "spec": spec})
    for name in ("web-a", "web-b"):
        target = {"kind": "Pod", "name": "web-0", "namespace": namespace, "uid": uid}
        body: dict[str, Any] = {
            "metadata": {"name": name, "labels": {slices.SERVICE_LABEL: "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"], "targetRef": target}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }
        await cluster.create(ENDPOINTSLICES, namespace, body)
    return Meshed(
        cluster=cluster,
        clients=Clients(),
        pod=PodRef("web-0", namespace, PodUid(uid), "deploy/web"),
        addresses=frozenset({"192.0.2.1"}),
        label_before="istio",
        generation=1,
    )


async def noted(_: str) -> None:
    """Written down, before the step is begun."""


async def told(mesh: Meshed) -> tuple[str, set[str]]:
    pod = await mesh.cluster.get(PODS, mesh.pod.namespace, mesh.pod.name)
    every = await mesh.cluster.list(ENDPOINTSLICES, mesh.pod.namespace)
    return pod["metadata"]["labels"][TLS_MODE_LABEL], {each["metadata"]["annotations"][TOUCHED] for each in every}


@pytest.mark.parametrize("fail", POOR.values(), ids=POOR)
@pytest.mark.parametrize("which", ASKED.values(), ids=ASKED)
def test_what_passes_fails_no_step(which: Which, fail: Callable[[Faults, Which], Any]) -> None:
    async def story() -> None:
        async with apis.embedded() as place:
            assert place.embedded is not None
            mesh = await built(place)
            fault = fail(place.embedded.faults, which)
            await carry_out(tlsmode.before_opening(mesh), noted)
            assert fault.struck
            place.embedded.faults.clear()
            label, marks = await told(mesh)
            assert label == tlsmode.DISABLED and len(marks) == 1
            assert isinstance(mesh.clients, Clients) and mesh.clients.asked == [
                (f"outbound|80||web.{place.namespace}.svc.cluster.local",)
            ]

    asyncio.run(story())


def test_slice_that_others_write_in_the_same_moment_is_touched_all_the_same() -> None:
    """istiod reads the pod's label at no other event of a pod that is not Ready."""

    async def story() -> None:
        async with apis.embedded() as place:
            assert place.embedded is not None
            mesh = await built(place)
            place.embedded.faults.fail(409, **ASKED["touch"] | {"times": 2})
            await slices.touch(mesh.cluster, mesh.pod, MARK)
            place.embedded.faults.clear()
            assert (await told(mesh))[1] == {MARK}
            place.embedded.faults.fail(409, **ASKED["touch"])
            with pytest.raises(StepFailed, match="change all the time"):
                await slices.touch(mesh.cluster, mesh.pod, "another")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("pod", "get pods in"),
        ("label", "patch pods/status (label security.istio.io/tlsMode) in"),
        ("slices", "list endpointslices.discovery.k8s.io in"),
        ("touch", "patch endpointslices.discovery.k8s.io (annotation hotswitch.io/touched) in"),
        ("service", "get services in"),
    ],
)
def test_right_is_missing(name: str, right: str) -> None:
    """Asked once, and told as what it is."""

    async def story() -> None:
        async with apis.embedded() as place:
            assert place.embedded is not None
            mesh = await built(place)
            fault = place.embedded.faults.fail(403, **ASKED[name])
            with pytest.raises(StepFailed, match=re.escape(f"hotswitch may not {right} namespace")) as failure:
                await carry_out(tlsmode.before_opening(mesh), noted)
            assert fault.struck == 1 and failure.value.is_refused

    asyncio.run(story())
