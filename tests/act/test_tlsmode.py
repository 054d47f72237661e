"""`direct` inbound in a mesh: clients are told before the gate opens, and again after it has closed (S4.3, S4.5)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from hotswitch.act import tlsmode
from hotswitch.act.eds_check import EdsCheck, Istiod
from hotswitch.act.helper import HelperActuator
from hotswitch.act.steps import Step, StepFailed, carry_out
from hotswitch.act.tlsmode import Meshed
from hotswitch.api.names import TLS_MODE_LABEL, TOUCHED
from hotswitch.cluster.kinds import ENDPOINTSLICES, PODS
from hotswitch.model import Direction, Level, PodRef, PodUid
from hotswitch.sandbox.clients import MeshedClient
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.registry import Service
from tests.act.targets import IMAGE, order, target, until_able
from tests.agent.keeper import PATIENCE_S, until

pytestmark = pytest.mark.envoy

SETTLE_S = 0.3
INBOUND = Direction.INBOUND


@dataclass(frozen=True)
class Place:
    cluster: SandboxCluster
    web: Published
    service: Service
    client: MeshedClient

    def meshed(self, generation: int = 1, **changes: object) -> Meshed:
        istiod = Istiod(address=self.cluster.eds.target)
        pod = self.web.pod
        known = Meshed(
            cluster=self.cluster.cluster,
            clients=EdsCheck(istiod, SETTLE_S),
            pod=_ref(self.web),
            addresses=frozenset(pod.addresses),
            label_before="istio",
            generation=generation,
        )
        return replace(known, **changes)  # type: ignore[arg-type]

    def told(self) -> set[str]:
        """What istiod sends to clients now."""
        every = self.cluster.istiod.clusters()["outbound|8080||web.default.svc.cluster.local"]
        return {endpoint.tls_mode for endpoint in every}

    def serving(self) -> set[bool]:
        """What the slices say of it, as istiod has them. While that changes, a slice is read anew, with its labels."""
        every = self.cluster.istiod._slices.store.values()
        ours = (each for each in every if each["metadata"]["labels"]["kubernetes.io/service-name"] == "web")
        return {endpoint["conditions"]["serving"] for each in ours for endpoint in each["endpoints"]}

    def label_heard(self) -> str:
        """By istiod, whatever it makes of it."""
        pod = self.cluster.istiod._pods.store["default", "web-0"]
        label: str = pod["metadata"]["labels"][TLS_MODE_LABEL]
        return label

    async def label(self) -> str:
        pod = await self.cluster.cluster.get(PODS, "default", "web-0")
        label: str = pod["metadata"]["labels"][TLS_MODE_LABEL]
        return label


def _ref(web: Published) -> PodRef:
    return PodRef(web.pod.name, web.pod.namespace, PodUid(web.uid), web.pod.workload)


@pytest.fixture(scope="module")
def place(cluster: SandboxCluster, runner: asyncio.Runner) -> Place:
    async def build() -> Place:
        web = await cluster.pod("web-0", labels={"app": "web"})
        await web.pod.ready()
        service = await cluster.service("web", [web], publishNotReadyAddresses=True)
        client = await cluster.box.meshed("c0")
        await client.until_endpoints(service, 1)
        return Place(cluster, web, service, client)

    return runner.run(build())


async def noted(name: str) -> None:
    """Written down, before the step is begun."""


def test_dead_sidecar_and_a_meshed_client(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        helper = HelperActuator(place.cluster.cluster, IMAGE)
        able = await until_able(helper, lambda: target(place.cluster, place.web))
        assert able.truth is not None
        assert (await place.client.get(place.service)).via == "sidecar"
        fault = await place.web.pod.faults.crash_loop()
        await carry_out(tlsmode.before_opening(place.meshed()), noted)
        assert place.told() == {"disabled"}
        number = able.truth.generation
        await helper.carry_out(await target(place.cluster, place.web), order(number + 1, Level.DIRECT, INBOUND))
        answer = await place.client.get(place.service, timeout_s=10.0)
        assert (answer.status, answer.via) == (200, ""), "plaintext, past the dead proxy"

        await fault.undo()
        await place.web.pod.ready()
        await helper.carry_out(await target(place.cluster, place.web), order(number + 2))
        await carry_out(tlsmode.after_closing(place.meshed()), noted)
        assert place.told() == {"istio"}
        await place.client.restart()
        await place.client.until_endpoints(place.service, 1)
        assert (await place.client.get(place.service, timeout_s=10.0)).via == "sidecar"

    runner.run(story())


def test_label_of_a_pod_that_is_not_ready_is_read_at_a_touch(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await place.web.pod.faults.crash_loop()
        back_off = place.web.pod.proxy.status
        await place.web.pod.kubelet.until(lambda: back_off.waiting == "CrashLoopBackOff", PATIENCE_S)
        await until(lambda: place.serving() == {False}, "istiod has not heard that the pod is not Ready")
        label, touch, told = tlsmode.before_opening(place.meshed(2))
        await label.do()
        await until(lambda: place.label_heard() == "disabled", "istiod has not heard of the label")
        assert place.told() == {"istio"}, "nobody has heard of it"
        await touch.do()
        await told.do()
        assert place.told() == {"disabled"}
        await fault.undo()
        await place.web.pod.ready()
        await carry_out(tlsmode.after_closing(place.meshed(2)), noted)
        assert place.told() == {"istio"}

    runner.run(story())


class Crash(RuntimeError):
    pass


@pytest.mark.parametrize("at", range(6))
def test_controller_dies_at_any_step_and_goes_on_there(place: Place, runner: asyncio.Runner, at: int) -> None:  # I6
    """`at`: the step that was written down last; before an even count it was not done, and it is done twice else."""

    async def until_crash(steps: tuple[Step, ...], at: int) -> str:
        begun: list[str] = []

        async def begin(name: str) -> None:
            begun.append(name)
            if len(begun) == at // 2 + 1:
                if at % 2:
                    await next(step for step in steps if step.name == name).do()
                raise Crash

        try:
            await carry_out(steps, begin)
        except Crash:
            return begun[-1]
        raise AssertionError(begun)

    async def story() -> None:
        generation = 10 + at
        for steps, label in (
            (tlsmode.before_opening(place.meshed(generation)), "disabled"),
            (tlsmode.after_closing(place.meshed(generation)), "istio"),
        ):
            after = await until_crash(steps, at)
            await carry_out(steps, noted, after)
            assert (await place.label(), place.told()) == (label, {label})

    runner.run(story())


def test_what_was_begun_is_undone(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await tlsmode.before_opening(place.meshed(20))[0].do()
        await carry_out(tlsmode.after_closing(place.meshed(20)), noted)
        assert (await place.label(), place.told()) == ("istio", {"istio"})
        slices = await place.cluster.cluster.list(ENDPOINTSLICES, "default")
        assert {each["metadata"]["annotations"][TOUCHED] for each in slices} == {f"{place.web.uid}/20/mtls"}

    runner.run(story())


def test_pods_that_were_plaintext_before_are_left_alone(place: Place) -> None:
    assert tlsmode.before_opening(place.meshed(label_before=None)) == ()
    assert tlsmode.after_closing(place.meshed(label_before="disabled")) == ()


def test_another_pod_of_the_name(place: Place, runner: asyncio.Runner) -> None:  # I6
    async def story() -> None:
        other = place.meshed(pod=replace(_ref(place.web), uid=PodUid("of-the-one-before")))
        with pytest.raises(StepFailed, match="another pod") as failure:
            await carry_out(tlsmode.before_opening(other), noted)
        assert not failure.value.again
        assert await place.label() == "istio"

    runner.run(story())


def test_istiod_does_not_say_it(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        check = EdsCheck(Istiod(address=place.cluster.eds.target), SETTLE_S)
        known, addresses = "outbound|8080||web.default.svc.cluster.local", frozenset(place.web.pod.addresses)
        with pytest.raises(StepFailed, match="still sent mTLS"):
            await check.until((known,), addresses, tls=False, within_s=1.0)
        with pytest.raises(StepFailed, match="nothing of outbound"):
            await check.until((known, "outbound|1||no.such"), addresses, tls=True, within_s=1.0)
        await check.until((known,), frozenset({"192.0.2.1"}), tls=False, within_s=5.0)  # not there: nobody is told mTLS
        nobody = EdsCheck(Istiod(address="127.0.0.1:1"), SETTLE_S)
        with pytest.raises(StepFailed, match="UNAVAILABLE"):
            await nobody.until((known,), addresses, tls=True, within_s=5.0)

    runner.run(story())
