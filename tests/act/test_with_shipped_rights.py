"""Everything an actuator does, done by the controller's own account with the rights and the admission policies that are
shipped: no right is missing, and no policy is in the way (S4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hotswitch.act import tlsmode
from hotswitch.act.eds_check import EdsCheck, Istiod
from hotswitch.act.execing import ExecActuator
from hotswitch.act.helper import HelperActuator
from hotswitch.act.order import Outcome
from hotswitch.act.steps import carry_out
from hotswitch.act.tlsmode import Meshed
from hotswitch.cluster.client import Cluster, connect
from hotswitch.model import Direction, Level
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ACCOUNT, HELPER_IMAGE, NAMESPACE, manifests
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubeapi.identity import service_account
from tests.act.targets import order, target, until_able

pytestmark = pytest.mark.envoy

INBOUND = Direction.INBOUND
WHO = service_account(NAMESPACE, ACCOUNT)


@pytest.fixture(scope="module")
def controller(cluster: SandboxCluster, runner: asyncio.Runner) -> Iterator[Cluster]:
    """The API as the controller's account sees it, with tier 2 and both opt-ins installed."""
    cluster.api.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}])
    cluster.api.apply(manifests())
    opened = connect(cluster.api.kubeconfig(WHO))
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def web(cluster: SandboxCluster, runner: asyncio.Runner) -> Published:
    async def build() -> Published:
        web = await cluster.pod("web-0", labels={"app": "web"}, native=True)
        await web.pod.ready()
        await cluster.service("web", [web])
        return web

    return runner.run(build())


async def noted(name: str) -> None:
    """Written down."""


def test_helper_is_put_there_and_ordered(
    cluster: SandboxCluster, controller: Cluster, web: Published, runner: asyncio.Runner
) -> None:
    async def story() -> None:
        helper = HelperActuator(controller, HELPER_IMAGE)
        able = await until_able(
            helper, lambda: target(cluster, web), lambda able: not able.rescue_refusal and able.levels
        )
        assert able.truth is not None
        opened = await helper.carry_out(await target(cluster, web), order(1, Level.RESCUE))
        assert opened.outcome is Outcome.DONE, opened
        closed = await helper.carry_out(await target(cluster, web), order(2))
        assert closed.outcome is Outcome.DONE, closed

    runner.run(story())


def test_clients_are_told(cluster: SandboxCluster, controller: Cluster, web: Published, runner: asyncio.Runner) -> None:
    async def story() -> None:
        mesh = Meshed(
            cluster=controller,
            clients=EdsCheck(Istiod(address=cluster.eds.target), 0.2),
            pod=(await target(cluster, web)).pod,
            addresses=frozenset(web.pod.addresses),
            label_before="istio",
            generation=1,
        )
        await carry_out(tlsmode.before_opening(mesh), noted)
        await carry_out(tlsmode.after_closing(mesh), noted)

    runner.run(story())


def test_istios_commands_are_run(cluster: SandboxCluster, controller: Cluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await cluster.pod("tproxy-0", interception="TPROXY")
        await pod.pod.ready()
        actuator = ExecActuator(controller)
        assert (await actuator.ability(await target(cluster, pod))).levels
        opened = await actuator.carry_out(await target(cluster, pod), order(1, Level.DIRECT))
        assert opened.outcome is Outcome.DONE, opened
        closed = await actuator.carry_out(await target(cluster, pod), order(2))
        assert closed.outcome is Outcome.DONE, closed

    runner.run(story())


def test_nothing_was_denied(cluster: SandboxCluster, controller: Cluster) -> None:
    assert [each for each in cluster.api.denied if each.user == WHO] == []
