"""What users write, as the controller takes it: labels, annotations, policies; and what it says of it (S4.6, I2)."""

from __future__ import annotations

import pytest

from hotswitch.api import names
from hotswitch.decide.codes import Code
from tests.controller.stories import is_open, run
from tests.controller.town import Town

pytestmark = pytest.mark.k8s


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
