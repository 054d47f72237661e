"""Faults of the API server, of leaders and of their Leases, as the controller lives through them (S4.1, I1, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hotswitch.api import names
from hotswitch.api.status import PodStatus, encode
from hotswitch.controller.writer import Stale, StatusWriter
from hotswitch.decide.codes import Code
from hotswitch.model import Direction, Level
from hotswitch.report.notice import Notice, Severity
from hotswitch.sandbox.kubeapi.faults import Faults
from tests.controller.stories import is_closed, is_open, run
from tests.controller.town import POLICY, Town

pytestmark = pytest.mark.k8s


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
