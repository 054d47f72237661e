"""The controller before an API server with the shipped rights: what it sees, writes and says; faults of both (S4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hotswitch.api import names
from hotswitch.api.status import PodStatus, encode
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.watch import Change, Watcher
from hotswitch.controller import preparing
from hotswitch.controller.writer import Stale, StatusWriter
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from hotswitch.report.notice import Notice, Severity
from hotswitch.sandbox.kubeapi.faults import Faults
from tests.controller.town import OPEN, POLICY, Town, now, town

pytestmark = pytest.mark.k8s

Story = Callable[[Town], Coroutine[Any, Any, None]]


def run(story: Story, **more: Any) -> None:
    async def within() -> None:
        async with town(**more) as made:
            await story(made)
            assert not made.api.denied, made.api.denied

    asyncio.run(within())


def is_open(made: Town, name: str) -> bool:
    status = made.status(name)
    return status is not None and not status.under_way and status.levels == OPEN


def is_closed(made: Town, name: str) -> bool:
    status = made.status(name)
    captured = {way: Level.CAPTURE for way in Direction}
    return status is not None and not status.under_way and status.levels == captured


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


def test_default_install_only_observes() -> None:  # S4.6
    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller():
            await made.kill("web-0")
            await made.until(lambda: Code.WOULD_OPEN in made.codes("web-0"), "says what it would do")
            assert made.status("web-0") is None

    run(story, tier="tier-0-observe", policy=None)


@pytest.mark.parametrize("label", ["off", "observe"])
def test_workload_asks_for_less_and_gets_it(label: str) -> None:  # I2
    async def story(made: Town) -> None:
        await made.pod("web-0", **{names.MODE_LABEL: label})
        await made.pod("web-1", "other")
        async with made.controller():
            await made.kill("web-0")
            await made.kill("web-1")
            await made.until(lambda: is_open(made, "web-1"), "the other one opened")
            assert made.status("web-0") is None

    run(story)


def test_invalid_annotation_is_said_and_changes_nothing() -> None:  # S4.6
    async def story(made: Town) -> None:
        await made.pod("web-0")

        def order(word: str | None) -> None:
            made.api.admin.patch(
                "pods", "web-0", {"metadata": {"annotations": {names.OVERRIDE: word}}}, namespace="shop"
            )

        async with made.controller() as controller:

            def counted() -> float | None:
                controller.refresh_metrics()
                return controller.metrics.registry.get_sample_value("hotswitch_invalid_objects", {"kind": "Pod"})

            order("sideways")
            await made.until(lambda: "HSC010" in made.codes("web-0"), "Event about the value")
            assert counted() == 1
            order(None)
            await made.until(lambda: not counted(), "it was mended, and counts no more")
            order("sideways")
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened all the same")

    run(story)


def valid(made: Town) -> str:
    status = made.api.admin.get("hotswitchpolicies", "mesh", "istio-system").get("status", {})
    found = [each["status"] for each in status.get("conditions", []) if each["type"] == "Valid"]
    return found[0] if found else ""


def test_policy_becomes_invalid_and_the_last_valid_one_stays() -> None:
    """The API server's schema would refuse it; it may come from before the schema."""

    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller:
            await made.until(lambda: valid(made) == "True", "read, and said so: nothing of it comes by the watch again")
            key = ("istio-system", "mesh")
            await made.until(lambda: "status" in controller.watching.policies.get(key, {}), "and that was seen")
            content = made.api.admin.get("hotswitchpolicies", "mesh", "istio-system")
            broken = {**content["spec"], "timings": {"expiry": "60s", "openAtMost": "1s"}}
            controller.picture.policy_there({**content, "spec": broken})
            assert controller.picture.settings.problems()
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "the valid policy holds")

    run(story)


def test_policy_says_itself_what_became_of_it() -> None:  # S4.6
    async def story(made: Town) -> None:
        async with made.controller():
            await made.until(lambda: valid(made) == "True", "said by the leader")

    run(story)


def test_policy_is_deleted_and_nothing_is_allowed_any_more() -> None:
    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller() as controller:
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            made.api.admin.delete("hotswitchpolicies", "mesh", "istio-system")
            await made.until(lambda: not made.kernel.gates[uid].openings, "closed by the mode")
            await made.until(lambda: not (status := made.status("web-0")) or not status.under_way, "written down")
            assert not controller.picture.policies

    run(story)


def test_api_server_is_away_and_comes_back() -> None:  # I1
    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller() as controller:
            await made.until(lambda: controller.elector.leading, "leads")
            await made.api.stop()
            await made.until(lambda: not controller.elector.leading, "knows that it leads no more")
            await made.kill("web-0")
            assert made.kernel.truth(uid).levels[Direction.INBOUND] is Level.CAPTURE
            await made.api.start()
            await made.until(lambda: is_open(made, "web-0"), "goes on", timeout_s=40.0)

    run(story)


def test_watch_expires_while_a_sidecar_dies() -> None:
    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller:
            await made.until(lambda: controller.elector.leading, "leads")
            made.api.faults.fail(410, verb="watch", resource="pods", times=2)
            made.api.faults.cut_watches("pods")
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "nothing was missed", timeout_s=30.0)

    run(story)


def test_kind_that_was_read_can_be_followed_no_longer() -> None:  # I2
    """What it enforces now is not known, so nothing is opened. Another kind, of which there is news, is no doubt."""
    kinds = {"peerauthentications": "security.istio.io/v1", "serviceentries": "networking.istio.io/v1"}
    names_ = {"peerauthentications": "PeerAuthentication", "serviceentries": "ServiceEntry"}

    async def story(made: Town) -> None:
        def news() -> bool:
            for plural, version in kinds.items():
                annotations = {"news": str(asyncio.get_running_loop().time())}
                metadata = {"name": "x", "namespace": "shop", "annotations": annotations}
                made.api.admin.apply([{"apiVersion": version, "kind": names_[plural], "metadata": metadata}])
            return True

        async with made.controller() as controller:
            controller.watching.silent_s = 2.0

            def unread() -> set[str]:
                return {plural for plural in kinds if plural in str(controller.picture.mesh.unread)}

            await made.until(lambda: news() and controller.watching.synced.is_set() and not unread(), "all is read")
            made.api.faults.fail(500, resource="peerauthentications")
            made.api.faults.cut_watches("peerauthentications")
            await made.until(lambda: news() and unread() == {"peerauthentications"}, "a doubt")
            made.api.faults.clear()
            await made.until(lambda: news() and not unread(), "read again")

    run(story)


WRITES_FAIL: dict[str, Callable[[Faults], object]] = {
    **{
        str(code): lambda faults, code=code: faults.fail(code, verb="patch", resource="pods/status", times=3)  # type: ignore[misc]
        for code in (403, 409, 429, 500, 503)
    },
    "cut before": lambda faults: faults.cut(verb="patch", resource="pods/status", times=3),
    "cut after": lambda faults: faults.cut(after=True, verb="patch", resource="pods/status", times=3),
    "garbled": lambda faults: faults.garble(verb="patch", resource="pods/status", times=3),
    "garbled after": lambda faults: faults.garble(after=True, verb="patch", resource="pods/status", times=3),
}


@pytest.mark.parametrize("fail", WRITES_FAIL.values(), ids=WRITES_FAIL)
def test_writes_fail_for_a_while(fail: Callable[[Faults], object], caplog: pytest.LogCaptureFixture) -> None:
    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller:
            await made.until(lambda: controller.elector.leading, "leads")
            fail(made.api.faults)
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened in the end")
            fail(made.api.faults)
            await made.heal("web-0")
            await made.until(lambda: is_closed(made, "web-0"), "and closed")
        assert not [each for each in caplog.records if each.exc_info], caplog.text

    run(story)


def test_lease_is_lost_before_an_event_was_taken() -> None:  # S4.6
    """An API server that is away takes both; what was done is told all the same, and once."""

    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller:
            untaken = made.api.faults.fail(500, verb="create", resource="events")
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0") and untaken.struck, "opened")
            made.api.faults.fail(500, resource="leases")
            await made.until(lambda: not controller.elector.leading, "leads no longer")
            made.api.faults.clear()
            await made.until(lambda: controller.elector.leading, "leads again")
            await made.until(lambda: Code.OPENED in made.codes("web-0"), "told")
            await made.heal("web-0")
            await made.until(lambda: Code.RESTORED in made.codes("web-0"), "told of the end")
            told = [(each["reason"], each["count"]) for each in made.api.admin.list("events", "shop")]
            assert told.count((Code.OPENED, 1)) == told.count((Code.RESTORED, 1)) == 1, told

    run(story)


def test_controller_ends_before_an_event_was_taken() -> None:  # S4.6
    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller:
            untaken = made.api.faults.fail(429, retry_after_s=60, verb="create", resource="events")
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0") and untaken.struck, "opened")
            made.api.faults.clear()
            await controller.finish()
            assert Code.OPENED in made.codes("web-0")

    run(story)


def test_two_controllers_and_the_leader_dies() -> None:  # S4.1, I6
    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller("c1") as second:
            async with made.controller("c0") as first:
                await made.until(lambda: first.elector.leading or second.elector.leading, "one leads")
                await made.kill("web-0")
                await made.until(lambda: is_open(made, "web-0"), "opened")
                assert not (first.elector.leading and second.elector.leading)
            await made.until(lambda: second.elector.leading, "the other one leads")
            await made.heal("web-0")
            await made.until(lambda: is_closed(made, "web-0"), "restored by the second")
        log = made.kernel.gates[uid].log
        assert log == sorted(log)

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


def test_status_is_written_by_another_leader_between_two_steps() -> None:  # I6
    """The version of the pod is read anew for each step beside the gate; who wrote its status meanwhile leads."""

    async def story(made: Town) -> None:
        uid = await made.pod("web-0")
        async with made.controller() as controller:
            await made.until(lambda: controller.picture.pod(uid), "seen")
            seen = controller.picture.pod(uid)
            assert seen is not None
            writer = StatusWriter(controller.cluster)
            mine = PodStatus(uid=uid, term=1, step="plain-label")
            await writer.write(seen, mine)
            made.api.admin.patch("pods", "web-0", {"metadata": {"labels": {"app": "other"}}}, namespace="shop")
            assert await writer.version(seen, mine) != seen.resource_version  # whoever else writes is no leader
            theirs = encode(PodStatus(uid=uid, term=2))
            made.api.admin.patch(
                "pods", "web-0", {"metadata": {"annotations": {names.STATUS: theirs}}}, namespace="shop"
            )
            with pytest.raises(Stale, match="somebody else"):
                await writer.version(seen, mine)
            made.api.admin.patch("pods", "web-0", {"metadata": {"annotations": {names.STATUS: "{"}}}, namespace="shop")
            with pytest.raises(Stale):
                await writer.version(seen, mine)

    run(story)


def test_leader_ends_with_alerts_unsaid() -> None:  # S4.6
    """SIGTERM: what no receiver has taken yet is there for the next leader, before that one can lead."""
    receiver = {"name": "team", "type": "webhook", "url": "http://127.0.0.1:9/", "allowNetworks": ["127.0.0.0/8"]}
    policy = {**POLICY, "spec": {**POLICY["spec"], "alerts": {"receivers": [receiver]}}}

    def kept(made: Town) -> str:
        return str(made.api.admin.get("configmaps", "hotswitch-alerts", "hotswitch-system").get("data", {}))

    async def story(made: Town) -> None:
        await made.pod("web-0")
        async with made.controller() as controller:
            await made.kill("web-0")
            await made.until(lambda: is_open(made, "web-0"), "opened")
            await made.until(lambda: "HSD001" in kept(made), "it is known")
            controller.speaker.tell(
                Notice(
                    key="last",
                    code="HSX999",
                    sentence="At the last moment.",
                    severity=Severity.CRITICAL,
                    starts_unix_s=1.0,
                )
            )
            assert "HSX999" not in kept(made)
            await controller.finish()
            assert "HSX999" in kept(made) and controller.elector.leading

    run(story, policy=policy)


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
