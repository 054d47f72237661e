"""A real Envoy that rejects what it is sent, and one whose certificate has ended, by its admin interface (S4.2c)."""

from __future__ import annotations

import asyncio

import pytest

from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import Keeper

pytestmark = pytest.mark.envoy


def test_a_rejected_configuration_is_said_and_an_expired_certificate_is_seen(
    box: Sandbox, runner: asyncio.Runner
) -> None:
    async def scene() -> None:
        pod = await box.pod("supplied-0")  # PERMISSIVE: the app's probe passes in plain text and shows no certificate
        await pod.ready()
        keeper = Keeper(box, [pod], "supply", inbound=["rescue", "hold"], outbound=["hold"])
        keeper.pod_config(pod)["dependencies_s"] = 0.5
        await keeper.guard()
        try:
            await keeper.cause(pod.faults.reject_configuration())
            said = await keeper.until_entry(pod, "hold", code="HSD061")
            assert "listeners" in said.why
            assert keeper.entries(pod, "open") == []
            assert (await keeper.status(pod))["fault"] == "well"
            await keeper.heal()
            await keeper.cause(pod.faults.expire_certificate())
            await keeper.until_status(pod, lambda status: status["fault"] == "certificate-expired", "expired")
            await keeper.until_entry(pod, "open")
            await keeper.heal()
            await keeper.until_rest(pod)
        finally:
            await keeper.heal()
            await keeper.stop()

    runner.run(scene())
