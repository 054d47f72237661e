"""A real proxy's capture is taken out and put back: with each backend, in and out, both families (S4.3b, S4.5)."""

from __future__ import annotations

import asyncio

import pytest

from hotswitch.capture.apply import apply
from hotswitch.capture.clean import clean
from hotswitch.capture.inspect import inspect
from hotswitch.capture.spec import Backend
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy
SIDECAR, OUTWARD, NOBODY = "sidecar", "sidecar-outbound", ""


@pytest.mark.parametrize("interception", ["REDIRECT", "TPROXY"])
@pytest.mark.parametrize("backend", list(Backend), ids=str)
def test_captured_direct_captured(box: Sandbox, runner: asyncio.Runner, backend: Backend, interception: str) -> None:
    runner.run(_there_and_back(box, backend, interception))


async def _there_and_back(box: Sandbox, backend: Backend, interception: str) -> None:
    name = f"{backend}-{interception}".lower()
    pod = await box.pod(name, backend=str(backend), interception=interception)
    outside = box.pods.get("outside") or await box.pod("outside", sidecar=False)
    client = box.clients.get("plain") or await box.client("plain")
    await pod.ready()
    spec = pod.spec.capture()
    assert await _ways(pod, outside, client) == {SIDECAR, OUTWARD}
    done = await asyncio.to_thread(clean, pod.netns)
    assert done.changed and inspect(pod.netns).backends == () and not inspect(pod.netns).routing
    assert await _ways(pod, outside, client) == {NOBODY}
    assert await asyncio.to_thread(apply, pod.netns, spec, backend)
    assert inspect(pod.netns, spec).matches(spec, backend) == []
    assert await _ways(pod, outside, client) == {SIDECAR, OUTWARD}


async def _ways(pod: Pod, outside: Pod, client: Client) -> set[str]:
    """By whom requests are served besides the app, into the pod and out of it."""
    inward = [await client.ask(address, 8080) for address in pod.addresses]
    outward = [await pod.ask(address, 8080, uid=1000) for address in outside.addresses]
    assert {answer.status for answer in (*inward, *outward)} == {200}
    return {answer.via for answer in (*inward, *outward)}
