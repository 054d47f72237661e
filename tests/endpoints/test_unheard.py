"""An active pod that was fenced without hearing of it, and is promoted again: nothing of its earlier generation (I7).

The order of faults in which a deposed pod was once seen to answer, made to last: real processes, and the storage stands
still while the app would begin its new generation, so that it believes for a second what it believed before.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from hotswitch.api import service as said
from hotswitch.kernel import sockdiag
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.sandbox.ask import Answer, ask
from hotswitch.sandbox.failover.client import Client
from hotswitch.sandbox.failover.pod import RegisterPod
from hotswitch.sandbox.failover.stage import Failover, until
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.register import PORT, STORAGE_PORT
from tests.endpoints.town import story

pytestmark = [pytest.mark.netns, pytest.mark.k8s]
TRIES = 4  # of the app to begin its generation: the keeper had heard of it long before


@story
async def test_a_pod_that_was_cut_off_and_serves_again_answers_nothing_of_before() -> None:  # S0.5, I7
    """The kubelet decides who is available, so that one that is cut off can be promoted, and hears of nothing between
    its generations."""
    stage = Failover(pods=2, controllers=1, ttl_s=3, lease_s=3, words={said.CHECK: "kubelet"})
    async with stage, stage.client() as client:
        await stage.serving(client)
        first = stage.pods[await _active(stage)]
        second = next(pod for pod in stage.pods.values() if pod is not first)
        before = await _answer(client, first, "/write?n=1")
        first.cut()
        between = await _answer(client, second, "/write?n=2")
        assert between["generation"] > before["generation"]
        stage.store.freeze()
        await second.app.kill()
        await until(lambda: _is_active(stage, first), "the first one is promoted, and cannot hear of it")
        first.join()
        while _waiting(stage.storage) < TRIES:  # it has heard, and would begin
            answer = await _direct(first, client)
            assert answer is None or answer.status != 200, answer.json()
        stage.store.thaw()
        after = await _answer(client, first, "/read")
        assert after["generation"] > between["generation"] and after["seq"] >= between["seq"]


async def _active(stage: Failover) -> str:
    active = (await stage.election()).active
    return "" if active is None else active.name


async def _is_active(stage: Failover, pod: RegisterPod) -> bool:
    return await _active(stage) == pod.name


async def _answer(client: Client, pod: RegisterPod, path: str) -> dict[str, Any]:
    """The first that this pod gives, by way of the slices."""
    found: list[dict[str, Any]] = []

    async def is_answered() -> bool:
        with contextlib.suppress(OSError):
            answer = await client.ask(path)
            found.extend([answer.json()] if answer.status == 200 and answer.json()["pod"] == pod.name else [])
        return bool(found)

    await until(is_answered, f"{pod.name} answers {path}")
    return found[0]


async def _direct(pod: RegisterPod, client: Client) -> Answer | None:
    """Whatever slices say; None: nobody answers."""
    try:
        return await ask(pod.address, PORT, "/read", netns=client.place.netns, timeout_s=0.5)
    except OSError:
        return None


def _waiting(storage: Attachment) -> int:
    """How many connections the storage has not taken yet."""
    sock = NetlinkSocket(NETLINK_SOCK_DIAG, storage.netns)
    try:
        return max((each.waiting for each in sockdiag.accept_queues(sock) if each.port == STORAGE_PORT), default=0)
    finally:
        sock.close()
