"""A workload's owner writes the mark by which hotswitch knows a Service that it took over: nothing changes, and it is
told (I2, I6). The pods that he would like to be chosen are those of `pay`, of which the Service knows nothing."""

from __future__ import annotations

import pytest

from hotswitch.api.adopt import ADOPT, ADOPT_MINIMUM, ADOPTED, WHEN_BELOW
from hotswitch.cluster.kinds import LEASES, SERVICES
from hotswitch.endpoints.hands import KUBERNETES
from hotswitch.endpoints.slicing import MANAGER
from tests.endpoints.borough import SELECTOR, Borough, borough, hand
from tests.endpoints.town import SHOP, SYSTEM, story, until

pytestmark = pytest.mark.k8s
PAY = "app=pay"
PAY_ADDRESS = "10.2.9.9"
NEVER = "default says adopt: never"


async def pay(place: Borough) -> None:
    await place.town.pod("pay-0", labels={"app": "pay"}, address=PAY_ADDRESS)


def never_read(place: Borough) -> bool:
    return all(PAY_ADDRESS not in ready for ready in place.reader.history)


@pytest.mark.parametrize("asks", [WHEN_BELOW, None], ids=["adopt", "no adopt"])
@pytest.mark.parametrize("away", [True, False], ids=["no selector", "its selector"])
@pytest.mark.parametrize("refusal", ["", NEVER], ids=["allowed", "refused"])
def test_mark_on_a_service_that_was_never_taken_over(asks: str | None, away: bool, refusal: str) -> None:
    @story
    async def run() -> None:
        async with borough(ready=2, bypassed=0) as place:
            await pay(place)
            place.refusal = refusal
            spec = {"spec": {"selector": None}} if away else {}
            annotations = {ADOPTED: PAY, ADOPT: asks}
            patch = {"metadata": {"annotations": annotations}, **spec}
            forged = await place.admin.patch_merge(SERVICES, SHOP, "web", patch)
            async with hand(place):
                await until(lambda: place.alarm == "HSE028")
                assert [code for code in place.codes if code != "HSE028"] == []
                assert await place.web() == forged and MANAGER not in await place.managers()
                assert await place.admin.list(LEASES, SYSTEM) == [] and never_read(place)
                await place.annotate(adopted=None)
                await until(lambda: place.alarm == "")

    run()


@pytest.mark.parametrize("how", [PAY, "no words", None])
@pytest.mark.parametrize("restarts", [False, True])
def test_mark_is_changed_while_it_is_held(how: str | None, restarts: bool) -> None:
    @story
    async def run() -> None:
        async with borough(shipped=True) as place:
            await pay(place)
            async with hand(place):
                await place.until_held()
                if not restarts:
                    await _changed(place, how)
                    await _goes_on(place, how)
            if restarts:
                await _changed(place, how)
                async with hand(place, term=2):
                    await _goes_on(place, how)
            assert never_read(place) and place.never_gone("web-0")
            assert place.town.api.denied == []

    run()


async def _changed(place: Borough, how: str | None) -> None:
    """And words beside it that cannot be read: what counts of the Service then is what was read last."""
    await place.annotate(adopted=how, adopt_minimum="plenty")


async def _goes_on(place: Borough, how: str | None) -> None:
    await until(lambda: ADOPT_MINIMUM in place.problems or ADOPTED in place.problems or ADOPT in place.problems)
    if how is not None:
        await until(lambda: place.alarm == "HSE028")
    await place.annotate(adopt_minimum="100%")
    await place.until_read("web-0", "web-1")
    await place.pod("web-2")  # it follows the pods that it has taken over, and no others
    await place.until_read("web-0", "web-1", "web-2")
    await place.well("web-1")
    await place.until_ordinary()
    assert await place.selector() == SELECTOR and place.alarm == ""


@story
async def test_record_is_lost_and_the_mark_is_another() -> None:
    """Nobody can tell any more which selector it had: what is served is left as it is, and a person is told."""
    async with borough() as place:
        await pay(place)
        async with hand(place):
            await place.until_held()
        await place.admin.delete(LEASES, SYSTEM, "endpoints.adopt.shop.web")
        await place.annotate(adopted=PAY)
        async with hand(place, term=2):
            await until(lambda: place.alarm == "HSE028")
            assert (await place.selector(), await place.managers()) == (None, [MANAGER])
            await place.until_read("web-0", "web-1")
            await place.admin.patch_merge(SERVICES, SHOP, "web", {"spec": {"selector": SELECTOR}})  # the person
            await until(lambda: _is_kubernetes(place))
            await place.annotate(adopted=None)
            await place.until_held()
        assert never_read(place) and place.never_gone("web-0")


async def _is_kubernetes(place: Borough) -> bool:
    return KUBERNETES in await place.managers()


@story
async def test_service_is_made_anew_with_the_mark_of_the_one_before() -> None:  # another uid
    async with borough(ready=2, bypassed=0) as place:
        mark = ",".join(f"{key}={text}" for key, text in sorted(SELECTOR.items()))
        async with hand(place):
            await place.bypassed("web-1")
            await place.until_held()
        held = await place.web()
        await place.admin.delete(SERVICES, SHOP, "web")
        metadata = {"name": "web", "annotations": {ADOPT: WHEN_BELOW, ADOPTED: mark}}
        spec = {"ports": held["spec"]["ports"], "ipFamilies": ["IPv4"]}
        made = await place.admin.create(SERVICES, SHOP, {"metadata": metadata, "spec": spec})
        async with hand(place, term=2):
            await until(lambda: place.alarm == "HSE028")
            assert await place.web() == made
