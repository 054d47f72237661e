"""The controller before an API server with the shipped rights: what it sees, writes and says (S4.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.watch import Change, Watcher
from hotswitch.controller import preparing
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from tests.controller.stories import is_closed, is_open, run
from tests.controller.town import OPEN, POLICY, Town, now

pytestmark = pytest.mark.k8s


def test_sidecar_dies_and_comes_back() -> None:  # S4.2a, S4.4, S4.5, S4.6
    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller():
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            assert made.kernel.truth(uid).levels == OPEN
            conditions = made.api.admin.get("pods", "web-0", "shop")["status"]["conditions"]
            ours = next(each for each in conditions if each["type"] == names.CONDITION)
            assert ours["status"] == "False" and any(each["type"] == "Ready" for each in conditions)
            await made.until(lambda: Code.OPENED in made.codes("web-0"), "Event")
            await made.heal("web-0")
            await made.until(lambda: is_closed(made, "web-0"), "restored")
            await made.until(lambda: Code.RESTORED in made.codes("web-0"), "Event of the end")

    run(story)


def test_pod_opened_by_exec_leaves_the_mesh_and_another_controller_leads() -> None:  # S4.3b, I1
    """No watch of the mesh shows it to the next leader, and nothing in its kernel closes it."""

    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        made.kernel.name, made.kernel.expires = "exec", False

        def labels() -> dict[str, str]:
            found: dict[str, str] = made.api.admin.get("pods", "web-0", "shop")["metadata"]["labels"]
            return found

        async with made.controller():
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            assert labels()[names.OPENED_BY_LABEL] == "exec"
        made.api.admin.patch("pods", "web-0", {"metadata": {"labels": {names.TLS_MODE_LABEL: None}}}, namespace="shop")
        assert made.kernel.truth(uid).levels == OPEN
        async with made.controller("c1") as controller:
            await made.until(lambda: names.OPENED_BY_LABEL not in labels(), "found and closed")
            assert made.kernel.truth(uid).levels == dict.fromkeys(Direction, Level.CAPTURE)
            status = made.status("web-0")
            assert status is not None and not status.may_be_open
            await made.until(lambda: not controller.picture.left and not controller.fleet.workers, "forgotten")

    run(story, policy={**POLICY, "spec": {**POLICY["spec"], "actuators": ["exec"]}})


def test_manifest_that_actuators_see_is_from_before_the_helper() -> None:  # S4.2
    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        helper = {"ephemeralContainers": [{"name": names.HELPER_CONTAINER, "image": "hotswitch-agent:latest"}]}
        async with made.controller() as controller:
            await made.until(lambda: controller.picture.pod(uid), "seen")
            seen = controller.picture.pod(uid)
            assert seen is not None
            assert "ephemeralContainers" not in (await controller.picture.protection(seen)).manifest["spec"]
            made.api.admin.patch("pods", "web-0", {"spec": helper}, namespace="shop", sub="ephemeralcontainers")
            await made.until(lambda: (seen := controller.picture.pod(uid)) and seen.helper, "the helper is seen")
            assert (await controller.picture.protection(seen)).manifest["spec"]["ephemeralContainers"]

    run(story)


def test_pod_that_becomes_ready_is_prepared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:  # S4.2
    """One that starts is looked at again after a while, which must not be waited for."""
    monkeypatch.setattr(preparing, "AGAIN_S", 3600.0)

    def shows(made: Town, app: dict[str, Any], *, is_ready: bool) -> None:
        """As the kubelet writes it: all at once."""
        known = made.api.admin.get("pods", "web-0", "shop")
        status = known["status"]
        status["initContainerStatuses"][0]["ready"] = is_ready
        status["containerStatuses"][0] |= {"state": app, "ready": is_ready}
        status["conditions"] = [{"type": "Ready", "status": str(is_ready), "lastTransitionTime": now()}]
        made.api.admin.replace(known, sub="status")

    def has_helper(made: Town) -> bool:
        spec = made.api.admin.get("pods", "web-0", "shop")["spec"]
        return [each["name"] for each in spec.get("ephemeralContainers", [])] == [names.HELPER_CONTAINER]

    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        shows(made, {"waiting": {"reason": "PodInitializing"}}, is_ready=False)
        async with made.controller(helper_image="hotswitch-agent:1", helper=True) as controller:
            await made.until(lambda: uid in controller.preparing._again, "looked at, and put off")
            assert not has_helper(made)
            shows(made, {"running": {"startedAt": now()}}, is_ready=True)
            await made.until(lambda: has_helper(made), "prepared")

    run(story)


def test_pod_is_deleted_while_it_is_open() -> None:
    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller() as controller:
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            made.api.admin.delete("pods", "web-0", "shop", grace_s=0)
            await made.until(lambda: uid not in controller.fleet.workers, "forgotten")
            assert controller.picture.pod(uid) is None

    run(story)


def test_metrics_and_health_are_served() -> None:  # S4.6
    import aiohttp

    from hotswitch.controller.health import serve

    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller, serve(controller) as port, aiohttp.ClientSession() as session:
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            workers = controller.fleet.workers
            await made.until(lambda: any(each.standing.is_open for each in workers.values()), "its worker knows, too")

            async def get(path: str) -> tuple[int, str]:
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    return answer.status, await answer.text()

            assert (await get("/healthz"))[0] == 200 and (await get("/readyz"))[0] == 200
            text = (await get("/metrics"))[1]
            assert 'hotswitch_bypassed_pods{level="direct",reason="dead"} 1.0' in text
            assert 'hotswitch_budget_used{of="",scope="mesh"} 1.0' in text and "hotswitch_leader 1.0" in text

    run(story)


def meshed_service(made: Town, uid: str) -> None:
    """A Service with this pod among its endpoints."""
    about = {"name": "web", "namespace": "shop"}
    spec = {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "web"}, "clusterIP": "10.96.0.10"}
    made.api.admin.create({"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec})
    target = {"kind": "Pod", "name": "web-0", "namespace": "shop", "uid": uid}
    made.api.admin.create(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**about, "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.7"], "targetRef": target}],  # no address of loopback is allowed
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
    )


def test_istiod_is_away_and_the_label_goes_back_once() -> None:  # S4.3
    """Clients cannot be told to speak plaintext: the label does not go back and forth meanwhile."""
    levels = {"inbound": ["direct"], "outbound": ["hold"]}
    policy = {**POLICY, "spec": {**POLICY["spec"], "levels": levels}}

    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        meshed_service(made, uid)
        headers = {"hotswitch.io/trusts-proxy-headers": "false"}
        made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": headers}}, namespace="shop")
        seen: list[str] = []

        def changed(change: Change[Any]) -> None:
            label = change.object["metadata"]["labels"].get(names.TLS_MODE_LABEL, "")
            if not seen or seen[-1] != label:
                seen.append(label)

        async with made.controller(istiod="127.0.0.1:9") as controller:
            watch = asyncio.create_task(
                Watcher(controller.cluster, PODS, dict, on_event=changed, namespace="shop").run()
            )
            await made.kill("web-0")
            await made.until(lambda: seen[-2:] == ["disabled", "istio"], "tried, and taken back")
            worker = controller.fleet.workers[uid]
            for _ in range(6):
                worker.nudge()
                await made.until(lambda: not worker.nudged, "another turn")
            assert seen == ["istio", "disabled", "istio"] and "HSC003" in made.codes("web-0")
            assert made.kernel.truth(uid).levels[Direction.INBOUND] is Level.CAPTURE
            watch.cancel()

    run(story, policy=policy, tier="tier-2-direct")


def test_nothing_is_asked_of_the_api_server_between_evidence_and_decision() -> None:  # S4.4
    """The whole of a pod that falls ill is in the event that says so."""

    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller() as controller:
            await made.until(lambda: controller.elector.leading and controller.picture.pod(uid), "leads")
            made.api.faults.fail(500, verb="get", resource="pods", times=1000)
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            seen = controller.picture.pod(uid)
            assert seen is not None
            protection = await controller.picture.protection(seen)
            made.api.faults.clear()
            whole = made.api.admin.get("pods", "web-0", "shop")
            assert protection.manifest["spec"] == whole["spec"] and protection.manifest["kind"] == "Pod"

    run(story)
