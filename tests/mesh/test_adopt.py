"""The only pod of an ordinary Service loses its sidecar: the rescue serves, and the Service is taken over so that
clients find it (S4.4, S0.2, I6). Real controllers with the shipped rights; the leading one is killed in the middle."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from hotswitch.api.adopt import ADOPT, ADOPT_HOLD, ADOPTED
from hotswitch.cluster.kinds import ENDPOINTSLICES, SERVICES
from hotswitch.endpoints.hands import KUBERNETES
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from hotswitch.model import Level
from hotswitch.sandbox.kubeapi.request import Ask
from tests.mesh.stage import PATIENCE_S, SHOP, Stage, staged

pytestmark = pytest.mark.envoy
RATE = 20
NAME = "adopted"


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner) -> Iterator[Stage]:
    within = staged("tier-3-endpoints", adopt="when-below")
    stage = runner.run(within.__aenter__())
    try:
        for port in ("8181", "8182"):
            runner.run(stage.controller("--endpoints", "--roles-port", port))
        yield stage
    finally:
        runner.run(within.__aexit__(None, None, None))


async def managers(stage: Stage) -> list[str]:
    found = await stage.cluster.cluster.list(ENDPOINTSLICES, SHOP, label_selector=f"{SERVICE_NAME}={NAME}")
    return sorted(each["metadata"]["labels"][MANAGED_BY] for each in found)


async def until_written_by(stage: Stage, wanted: list[str], has_selector: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            service = await stage.cluster.cluster.get(SERVICES, SHOP, NAME)
            if await managers(stage) == wanted and ("selector" in service["spec"]) is has_selector:
                return
            await asyncio.sleep(0.05)


def _taking(ask: Ask) -> bool:
    return ask.user.name.endswith(":hotswitch-controller")


def test_the_only_sidecar_dies_and_the_leader_is_killed_while_it_takes_the_service_over(
    stage: Stage, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        web = await stage.web(f"{NAME}-0")
        service = await stage.cluster.service(NAME, [web])
        words = {"metadata": {"annotations": {ADOPT: "when-below", ADOPT_HOLD: "1s"}}}
        before = (await stage.cluster.cluster.patch_merge(SERVICES, SHOP, NAME, words))["spec"]
        meshed = await stage.cluster.box.meshed("meshed")
        await meshed.start([service])
        await meshed.until_endpoints(service, 1)
        load = meshed.load(service, rate=RATE, seconds=600.0)
        await load.begun()
        leader = await stage.leader()
        struck = stage.cluster.api.faults.fail(503, verb="patch", resource="services", when=_taking)
        async with await web.pod.faults.crash_loop() as fault:
            await stage.until(lambda: stage.is_open(web, Level.RESCUE), "rescued")
            async with asyncio.timeout(PATIENCE_S):
                while not struck.struck:
                    await asyncio.sleep(0.01)
            await leader.stop(0)
            struck.cancel()
            await until_written_by(stage, [MANAGER], has_selector=False)
            taken = await stage.cluster.cluster.get(SERVICES, SHOP, NAME)
            assert taken["metadata"]["annotations"][ADOPTED] == f"app={NAME}-0"
            await meshed.until_endpoints(service, 1)
            assert (await meshed.get(service, "/echo")).status == 200
        await stage.captured(web)
        await until_written_by(stage, [KUBERNETES], has_selector=True)
        after = await stage.cluster.cluster.get(SERVICES, SHOP, NAME)
        assert after["spec"] == before and ADOPTED not in after["metadata"]["annotations"]
        fresh = await stage.cluster.box.client("fresh")  # the mesh's client may keep its connection to the rescue
        assert (await fresh.ask(web.pod.ip, 8080)).via == "sidecar"
        load.stop()
        summary = (await load.results()).summary(fault.at_s)
        print(f"the whole story: {summary}", file=sys.stderr)
        assert not summary.still_failing
        assert "HSE021" in [each["reason"] for each in stage.events if each["involvedObject"]["name"] == NAME]

    runner.run(story())
