"""A pod whose workload socket gives nothing is rescued by what istiod issues to its agent (S4.2c, S4.3, I2)."""

from __future__ import annotations

import asyncio

import pytest

from hotswitch.model import Mtls
from hotswitch.sandbox.ca_service import SERVER_NAME, CertificateService
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, Keeper

pytestmark = pytest.mark.envoy
ACCOUNT, TOKEN = "hotswitch-agents/hotswitch-agent", "the-agents-own-token"


def test_refused_and_then_trusted(box: Sandbox, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod, friend = await box.pod("asked-0", mtls=Mtls.STRICT), await box.meshed("friend")
        service = await box.service("asked", [pod], port=8080, publish="all")
        await pod.ready()
        istiod = CertificateService(box.ca, {TOKEN: ACCOUNT}, set(), {pod.spiffe_id})
        keeper = Keeper(box, [pod])
        (keeper.home / "token").write_text(TOKEN)
        (keeper.home / "roots").write_bytes(box.ca.root_pem)
        async with istiod.serving() as address:
            files = {"roots": str(keeper.home / "roots"), "token": str(keeper.home / "token")}
            keeper.config["node_account"] = {"address": address, "server_name": SERVER_NAME, **files}
            entry = keeper.pod_config(pod)
            entry["policy"] |= {"mtls": "STRICT"}
            entry["identity"] |= {"socket": str(keeper.home / "no-socket")}
            await keeper.begin()
            status = await keeper.until_status(pod, lambda status: "CA_TRUSTED" in status["rescue"], "refused")
            assert "sds: " in status["rescue"] and status["identity"] == ""
            assert set((await keeper.bypass(pod, "rescue"))["levels"].values()) == {"capture"}, "the next level"
            await keeper.restore(pod)

            istiod.trusted.add(ACCOUNT)
            assert (await keeper.until_rest(pod))["identity"] == "node-account"
            told = keeper.entries(pod, "identity")[-1]
            assert told.evidence == {"way": "node-account", "spiffe_id": pod.spiffe_id}
            assert set((await keeper.bypass(pod, "rescue"))["levels"].values()) == {"rescue"}
            await friend.restart()
            answer = await friend.get(service, "/echo", timeout_s=PATIENCE_S)
            assert (answer.status, answer.via) == (200, ""), "not by the sidecar"
            await keeper.restore(pod)
        assert set(istiod.issued) == {pod.spiffe_id}
        assert TOKEN not in keeper.words() + (keeper.home / "journal.jsonl").read_text()
        await keeper.end()

    runner.run(story())
