"""What the mesh enforces, and what a dead sidecar then gets: the right level or none, and the right code (I2, I3)."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.decide.codes import Code
from hotswitch.model import Diagnosis, Direction, Fault, Grade, Level
from tests.controller.town import POLICY, Town, now, town

pytestmark = pytest.mark.k8s

CAPTURE, RESCUE, DIRECT, HOLD = Level.CAPTURE, Level.RESCUE, Level.DIRECT, Level.HOLD
BOTH = {"inbound": ["rescue", "direct"], "outbound": ["rescue", "direct"]}


def policy(**spec: Any) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(POLICY)
    changed["spec"] |= spec
    return changed


def istio(kind: str, spec: dict[str, Any], *, namespace: str = "shop", name: str = "x") -> dict[str, Any]:
    version = {
        "EnvoyFilter": "networking.istio.io/v1alpha3",
        "WasmPlugin": "extensions.istio.io/v1alpha1",
        "DestinationRule": "networking.istio.io/v1",
        "Sidecar": "networking.istio.io/v1",
    }.get(kind, "security.istio.io/v1")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    whole = {"selector": {"app": "web"}, "ports": ports, "clusterIP": "10.96.0.10", **spec}
    metadata = {"name": "web", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": whole}


PATCH = {"configPatches": [{"applyTo": "HTTP_FILTER", "match": {"context": "SIDECAR_INBOUND"}, "patch": {"value": {}}}]}
PLAINTEXT = istio("PeerAuthentication", {"mtls": {"mode": "DISABLE"}})  # clients are plain already: nothing to be told
STRICT = istio("PeerAuthentication", {"mtls": {"mode": "STRICT"}})
DIRECT_ONLY = policy(levels={"inbound": ["direct"], "outbound": ["direct"]})


async def outcome(made: Town, name: str = "web-0") -> tuple[dict[Direction, Level], str]:
    """What stands once the fault was dealt with, and all that was said of it."""

    def dealt_with() -> bool:
        status = made.status(name)
        return status is not None and not status.under_way and bool(status.code or status.alerts)

    await made.until(dealt_with, "dealt with")
    status = made.status(name)
    assert status is not None
    await made.until(lambda: made.codes(name), "an Event")
    events = [each for each in made.api.admin.list("events", "shop") if each["involvedObject"]["name"] == name]
    return dict(status.levels), "\n".join(f"{each['reason']} {each['message']}" for each in events)


@pytest.mark.parametrize(
    ("given", "objects", "inbound", "outbound", "code"),
    [
        (POLICY, [], RESCUE, DIRECT, Code.OPENED),  # nothing is enforced: the fast yes
        (POLICY, [STRICT], RESCUE, DIRECT, Code.OPENED),  # STRICT stays STRICT by the rescue
        (DIRECT_ONLY, [STRICT], HOLD, DIRECT, "HSW0101"),
        (
            POLICY,
            [istio("AuthorizationPolicy", {"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]})],
            HOLD, DIRECT, "HSW0202",
        ),
        (
            POLICY,
            [istio("AuthorizationPolicy", {"rules": [{"from": [{"source": {"namespaces": ["shop"]}}]}]})],
            RESCUE, DIRECT, Code.OPENED,  # L4: the rescue keeps it
        ),
        (POLICY, [istio("RequestAuthentication", {"jwtRules": [{"issuer": "x"}]})], HOLD, DIRECT, "HSW0204"),
        (POLICY, [istio("EnvoyFilter", PATCH)], HOLD, None, "HSW0301"),
        (POLICY, [istio("WasmPlugin", {"url": "oci://x"})], HOLD, None, "HSW0302"),
        (
            DIRECT_ONLY,
            [service(), istio("DestinationRule", {
                "host": "web.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
            })],
            HOLD, HOLD, "HSW0403",
        ),
        (DIRECT_ONLY, [service(clusterIP="None")], HOLD, DIRECT, "HSW0401"),
        (POLICY, [istio("Sidecar", {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})], RESCUE, HOLD, "HSW0501"),
        (POLICY, [istio("PeerAuthentication", {"mtls": "nonsense"})], None, None, "HSW0901"),  # on doubt, no
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_mesh_enforces(
    given: dict[str, Any], objects: list[dict[str, Any]], inbound: Level | None, outbound: Level | None, code: str
) -> None:
    async def story() -> None:
        async with town(policy=given, objects=objects) as made:
            await made.pod("web-0", **{})
            made.api.admin.patch(
                "pods", "web-0", {"metadata": {"annotations": {"hotswitch.io/trusts-proxy-headers": "false"}}},
                namespace="shop",
            )  # fmt: skip
            async with made.controller():
                await made.kill("web-0")
                levels, said = await outcome(made)
        assert code in said, said
        assert inbound in (None, levels[Direction.INBOUND]) and outbound in (None, levels[Direction.OUTBOUND]), said

    asyncio.run(story())


@pytest.mark.parametrize(
    "annotations",
    [
        {"hotswitch.io/levels-inbound": "direct", "hotswitch.io/levels-outbound": "direct"},
        {"hotswitch.io/override": "direct", "hotswitch.io/override-reason": "mine"},
        {"hotswitch.io/override": "direct", "hotswitch.io/override-reason": "mine",
         "hotswitch.io/override-accept": "HSW0101"},
        {"hotswitch.io/budget": "100"},
    ],
)  # fmt: skip
def test_owner_of_a_workload_asks_for_more_than_the_mesh_gave(annotations: dict[str, str]) -> None:  # I2
    """Inbound `direct` was given to nobody; STRICT besides."""

    async def story() -> None:
        async with town(objects=[STRICT]) as made:
            await made.pod("web-0")
            until = {names.OVERRIDE_UNTIL: "2099-01-01T00:00:00Z"} if names.OVERRIDE in annotations else {}
            said = {**annotations, **until}
            made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": said}}, namespace="shop")
            async with made.controller():
                await made.kill("web-0")
                levels, _ = await outcome(made)
                assert levels[Direction.INBOUND] is not Level.DIRECT

    asyncio.run(story())


def test_only_the_app_is_sick() -> None:  # I2
    async def story() -> None:
        async with town() as made:
            await made.pod("web-0")
            await made.pod("web-1", "other")
            async with made.controller():
                await made.kill("web-0")
                known = made.api.admin.get("pods", "web-0", "shop")
                down = {**known["status"]["containerStatuses"][0], "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
                down |= {"restartCount": 1}
                made.api.admin.replace({**known, "status": {**known["status"], "containerStatuses": [down]}}, "status")
                await made.until(lambda: Code.APP_SICK in made.codes("web-0"), "said")
                status = made.status("web-0")
                assert status is None or status.levels[Direction.INBOUND] is not Level.RESCUE or status.code

    asyncio.run(story())


@pytest.mark.parametrize(
    "ending",
    [
        {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]},
        {"phase": "Succeeded"},
        {"reason": "NodeShutdown"},
    ],
    ids=["node-shutdown", "completed", "evicted"],
)
def test_pod_ends_without_a_timestamp(ending: dict[str, Any]) -> None:  # I2
    async def story() -> None:
        async with town() as made:
            uid = await made.pod("web-0")
            await made.pod("web-1", "other")
            async with made.controller() as controller:
                await made.until(lambda: controller.elector.leading, "leads")
                known = made.api.admin.get("pods", "web-0", "shop")
                made.api.admin.replace({**known, "status": {**known["status"], **ending}}, "status")
                await made.kill("web-0")
                await made.kill("web-1")  # and its own fault is dealt with, so the other one's was seen too
                await made.until(lambda: (status := made.status("web-1")) is not None and status.levels, "the other")
                assert made.kernel.truth(uid).levels == dict.fromkeys(Direction, CAPTURE)

    asyncio.run(story())


def test_job_is_completed_and_only_its_proxy_is_left() -> None:  # I2
    async def story() -> None:
        async with town() as made:
            uid = await made.pod("web-0")
            async with made.controller() as controller:
                await made.until(lambda: controller.elector.leading, "leads")
                known = made.api.admin.get("pods", "web-0", "shop")
                ended = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now(), "startedAt": now()}}
                app = {**known["status"]["containerStatuses"][0], "state": ended, "ready": False}
                made.api.admin.replace({**known, "status": {**known["status"], "containerStatuses": [app]}}, "status")
                await made.kill("web-0")
                await made.until(lambda: controller.picture.ill(uid), "seen")
                await asyncio.gather(*(worker.turn() for worker in list(controller.fleet.workers.values())))
                assert made.kernel.truth(uid).levels == dict.fromkeys(Direction, CAPTURE)

    asyncio.run(story())


def test_second_fault_inside_the_hold_down_is_never_direct_inbound() -> None:  # I3
    async def story() -> None:
        timings = {"expiry": "60s", "recoverAfter": "0.1s", "holdDown": "10m"}
        given = policy(levels={"inbound": ["direct"], "outbound": ["direct"]}, timings=timings)
        async with town(policy=given, objects=[PLAINTEXT]) as made:
            uid = await made.pod("web-0")
            made.api.admin.patch(
                "pods", "web-0", {"metadata": {"annotations": {"hotswitch.io/trusts-proxy-headers": "false"}}},
                namespace="shop",
            )  # fmt: skip
            async with made.controller():
                for again in (False, True):
                    await made.kill("web-0")
                    if again:
                        await made.until(lambda: Code.FAULT_AGAIN in made.codes("web-0"), "a person is called")
                        assert made.kernel.truth(uid).levels[Direction.INBOUND] is CAPTURE
                    else:
                        await made.until(
                            lambda: made.kernel.truth(uid).levels[Direction.INBOUND] is DIRECT, "opened directly"
                        )
                    await made.heal("web-0")
                    await made.until(
                        lambda: made.kernel.truth(uid).levels == dict.fromkeys(Direction, CAPTURE), "restored"
                    )

    asyncio.run(story())


def test_controller_alone_thinks_that_everything_hangs() -> None:  # I3, S4.2b
    """Its network is cut: 15021 answers nobody from afar, and every observer beside a proxy finds it well."""

    async def story() -> None:
        async with town() as made:
            uids = [await made.pod(f"web-{n}", f"w{n}") for n in range(5)]
            made.kernel.beside = Diagnosis(Fault.WELL, Grade.NONE, "well")
            async with made.controller() as controller:
                await made.until(lambda: controller.elector.leading, "leads")
                for name in list(made.servers):
                    made.silence(name)
                await made.until(lambda: len(controller.fleet.workers) == len(uids), "suspected")
                for _ in range(5):
                    await asyncio.gather(*(worker.turn() for worker in list(controller.fleet.workers.values())))
                closed = dict.fromkeys(Direction, CAPTURE)
                assert [made.kernel.truth(uid).levels for uid in uids] == [closed] * len(uids)

    asyncio.run(story())
