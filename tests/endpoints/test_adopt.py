"""An ordinary Service is taken over while bypass leaves it too few endpoints, without a gap, and handed back; whoever
fights for it wins (S0.2, S4.4, I2, I6). Over the embedded API; where rights matter, with those that are shipped."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from hotswitch.api.adopt import ADOPT, ADOPT_MINIMUM, ADOPTED, WHEN_BELOW
from hotswitch.cluster.client import connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES, SERVICES
from hotswitch.decide.endpoints.adopt import Phase
from hotswitch.endpoints.adopter import LOOKS
from hotswitch.endpoints.hands import KUBERNETES
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from hotswitch.sandbox.kubeapi.request import Ask
from tests.endpoints.borough import CONTROLLER, SELECTOR, WEB, Borough, borough, hand
from tests.endpoints.town import SHOP, SYSTEM, leader, story, until

pytestmark = pytest.mark.k8s
MASTERS = ("system:masters",)
WRITES = frozenset({"create", "update", "patch", "delete"})
TRACED = frozenset({"services", "endpoints", "endpointslices", "leases"})


@story
async def test_sidecar_dies_and_the_service_has_too_few() -> None:  # S4.4
    async with borough(shipped=True) as place, hand(place):
        await place.until_held()
        await place.until_read("web-0", "web-1")
        service = await place.web()
        assert service["metadata"]["annotations"][ADOPTED] == "app=web,example.org/tier=front"
        (ours,) = await place.town.slices("web")
        assert ours["metadata"]["labels"]["team"] == "shop"
        await place.well("web-1")
        await place.until_ordinary()
        await place.until_read("web-0", "web-1")
        assert place.never_gone("web-0")
        assert [code for code, _ in itertools.groupby(place.codes)] == ["HSE020", "HSE021", "HSE022", "HSE023"]
        assert place.town.api.denied == [] and place.alarm == ""


@story
async def test_it_follows_its_pods_while_it_is_taken_over() -> None:  # S0.2
    async with borough(ready=2) as place, hand(place):
        await place.until_held()
        await place.bypassed("web-1")
        await place.until_read("web-0", "web-1", "web-2")
        await place.town.status("web-1", ready=False)  # its app says no, too
        await place.until_read("web-0", "web-2")
        await place.pod("web-3")
        await place.until_read("web-0", "web-2", "web-3")
        assert place.never_gone("web-0")


@pytest.mark.parametrize("why", ["nobody asks", "the mesh does not allow it", "its minimum is reached"])
def test_never_by_default(why: str) -> None:  # I2
    @story
    async def run() -> None:
        words = {"adopt_minimum": "1"} if why == "its minimum is reached" else {}
        async with borough(asks=why != "nobody asks", **words) as place:
            place.refusal = "default says adopt: never" if why == "the mesh does not allow it" else ""
            before = await place.web()
            async with hand(place) as made:
                if place.refusal:
                    await until(lambda: place.codes == ["HSE025"])
                elif words:
                    await until(lambda: made.adopter.registry.backends(WEB) and made.adopter.phases)
                await place.town.pod("other")  # something happens
                await asyncio.sleep(0.5)
                assert await place.web() == before
                assert await place.managers() == [KUBERNETES]
                assert await place.town.cluster.list(LEASES, SYSTEM) == []

    run()


@story
async def test_policy_is_given_and_taken_away() -> None:  # I2
    async with borough() as place, hand(place) as made:
        place.refusal = "HotSwitchPolicy shop/no says adopt: never"
        made.adopter.policies_changed()
        await until(lambda: "HSE025" in place.codes or "HSE020" in place.codes)
        place.refusal = ""
        made.adopter.policies_changed()
        await place.until_held()
        place.refusal = "HotSwitchPolicy shop/no says adopt: never"
        made.adopter.policies_changed()
        await place.until_ordinary()
        assert place.never_gone("web-0")


@story
async def test_nobody_asks_for_it_any_more() -> None:
    async with borough(adopt_hold="1h") as place, hand(place):
        await place.until_held()
        await place.annotate(adopt=None)
        await place.until_ordinary()
        assert place.never_gone("web-0")


@story
async def test_a_word_that_cannot_be_read_changes_nothing() -> None:
    async with borough() as place:
        async with hand(place):
            await place.until_held()
            await place.annotate(adopt_minimum="plenty")
            await until(lambda: ADOPT_MINIMUM in place.problems)
            await place.until_held()
        async with hand(place, term=2):  # who never read a better one keeps what is held, and follows its pods
            await place.bypassed("web-0")
            await place.until_read("web-0", "web-1")
            await place.until_held()


# ---- who fights for it wins ----


async def puts_it_back(place: Borough, before: dict[str, Any]) -> None:
    await place.admin.patch_merge(SERVICES, SHOP, "web", {"spec": {"selector": SELECTOR}})


async def writes_it_whole(place: Borough, before: dict[str, Any]) -> None:
    """As kubectl replace does: nothing that others have added stays."""
    kept = ("name", "namespace", "annotations", "labels")
    metadata = {key: before["metadata"][key] for key in kept}
    now = await place.web()
    metadata["resourceVersion"] = now["metadata"]["resourceVersion"]
    await place.admin.replace(SERVICES, SHOP, "web", {"metadata": metadata, "spec": before["spec"]})


@pytest.mark.parametrize("fights", [puts_it_back, writes_it_whole])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_gitops_tool_puts_the_selector_back(fights: Any, restarts: bool) -> None:  # I6, S4.6
    @story
    async def run() -> None:
        async with borough(shipped=restarts) as place:
            before = await place.web()
            async with hand(place):
                await place.until_held()
                if not restarts:
                    await fights(place, before)
                    await place.until_ordinary(Phase.YIELDED)
            if restarts:  # it comes while nobody leads
                await fights(place, before)
            async with hand(place, term=2):
                await place.until_ordinary(Phase.YIELDED)
                await until(lambda: place.alarm == "HSE024")
                await place.until_read("web-0")
                stands = await place.web()
                await place.well("web-1")  # and the same again
                await place.until_read("web-0", "web-1")
                await place.bypassed("web-1")
                await place.until_read("web-0")
                await asyncio.sleep(0.5)
                assert await place.web() == stands and await place.managers() == [KUBERNETES], "a second try"
                await place.annotate(adopt_again="please")
                await place.until_held()
                await until(lambda: place.alarm == "")
            assert place.never_gone("web-0")

    run()


@story
async def test_somebody_wants_another_selector() -> None:
    async with borough() as place, hand(place):
        await place.until_held()
        other = {"app": "web"}
        await place.admin.patch_merge(SERVICES, SHOP, "web", {"spec": {"selector": other}})
        await until(lambda: place.alarm == "HSE024")
        await until(lambda: _is(place, [KUBERNETES]))
        assert await place.selector() == other


async def _is(place: Borough, managers: list[str]) -> bool:
    return await place.managers() == managers


@story
async def test_somebody_removes_the_annotation_alone() -> None:
    async with borough(shipped=True) as place, hand(place):
        await place.until_held()
        await place.annotate(adopted=None)
        await place.until_held()
        await place.well("web-1")
        await place.until_ordinary()


@story
async def test_something_else_of_the_service_changes_in_the_very_moment() -> None:  # I6: no false defeat
    async with borough() as place:
        refused = place.town.api.faults.fail(409, verb="patch", resource="services", times=1, when=_by_us)
        late = place.town.api.faults.slow(0.3, verb="patch", resource="services", times=1, when=_by_us)
        async with hand(place):
            await until(lambda: late.struck or refused.struck)
            await place.admin.patch_merge(SERVICES, SHOP, "web", {"metadata": {"labels": {"more": "1"}}})
            await place.until_held()
        assert "HSE024" not in place.codes


def _by_us(ask: Ask) -> bool:
    return ask.user.name == CONTROLLER


@story
async def test_kubernetes_makes_a_slice_once_more_by_an_old_picture() -> None:
    async with borough() as place, hand(place):
        await place.until_held()
        labels = {SERVICE_NAME: "web", MANAGED_BY: KUBERNETES}
        gone = [{"addresses": ["10.9.9.9"], "conditions": {"ready": True}}]
        body = {"metadata": {"name": "web-late", "labels": labels}, "addressType": "IPv4", "endpoints": gone}
        await place.admin.create(ENDPOINTSLICES, SHOP, body)
        await until(lambda: _is(place, [MANAGER]))


# ---- whoever dies ----


class Dead:
    """Counts the writes of the controller, and lets none through from the `at`th on: there it was killed."""

    def __init__(self, place: Borough, at: int | None) -> None:
        self._at, self.writes, self.struck = at, 0, asyncio.Event()
        self.fault = place.town.api.faults.fail(503, when=self._meets)

    def _meets(self, ask: Ask) -> bool:
        if not _by_us(ask) or ask.verb not in WRITES or ask.resource.plural not in TRACED:
            return False
        self.writes += 1
        if self._at is None or self.writes < self._at:
            return False
        self.struck.set()
        return True


async def _killed(place: Borough, at: int, ends: Any) -> bool:
    """Whether it was killed before it had come to its end."""
    dead = Dead(place, at)
    async with hand(place, term=1):
        done = asyncio.create_task(ends())
        struck = asyncio.create_task(dead.struck.wait())
        await asyncio.wait([done, struck], return_when=asyncio.FIRST_COMPLETED)
        for task in (done, struck):
            task.cancel()
        await asyncio.gather(done, struck, return_exceptions=True)
    dead.fault.cancel()
    return dead.struck.is_set()


@story
async def test_killed_before_each_write_of_taking_it_over() -> None:  # I6
    for at in itertools.count(1):
        async with borough() as place:
            killed = await _killed(place, at, place.until_held)
            async with hand(place, term=2):
                await place.until_held()
                await place.until_read("web-0", "web-1")
            assert place.never_gone("web-0"), f"killed before write {at}"
            assert "HSE024" not in place.codes
        if not killed:
            break
    assert at > 5, "there are as many steps"


@story
async def test_killed_before_each_write_of_handing_it_back() -> None:  # I6
    for at in itertools.count(1):
        async with borough() as place:
            async with hand(place, term=1):
                await place.until_held()
            await place.well("web-1")
            killed = await _killed(place, at, place.until_ordinary)
            async with hand(place, term=2):
                await place.until_ordinary()
                await place.until_read("web-0", "web-1")
            assert place.never_gone("web-0"), f"killed before write {at}"
            assert "HSE024" not in place.codes
        if not killed:
            break
    assert at > 3, "there are as many steps"


@story
async def test_two_controllers_that_both_believe_to_lead() -> None:  # I6
    async with borough() as place, connect(place.town.api.kubeconfig(CONTROLLER, MASTERS)) as other:
        async with hand(place, term=1), hand(place, term=2, cluster=other):
            await place.until_held()
            await place.until_read("web-0", "web-1")
            await place.well("web-1")
            await place.until_ordinary()
        assert place.never_gone("web-0")
        terms = [past.term for past in (await place.adoption()).history]
        assert terms == sorted(terms), "an older one wrote over a newer one's record"


@story
async def test_two_believe_to_lead_and_the_later_one_writes_first() -> None:  # I6: the record tells the other
    async with borough() as place, connect(place.town.api.kubeconfig(CONTROLLER, MASTERS)) as other:
        writes = place.cluster.replace

        async def after_the_other(kind: Any, *what: Any) -> Any:
            if kind is LEASES:
                await until(lambda: _is_of(place, 2))
            return await writes(kind, *what)

        async with hand(place, term=1):
            await place.until_held()
            setattr(place.cluster, writes.__name__, after_the_other)
            async with hand(place, term=2, cluster=other):
                await place.well("web-1")
                await place.until_ordinary()
        assert place.never_gone("web-0")


async def _is_of(place: Borough, term: int) -> bool:
    return (await place.adoption()).term == term


@story
async def test_deposed_controller_writes_nothing_any_more() -> None:  # I6
    async with borough() as place, connect(place.town.api.kubeconfig(CONTROLLER, MASTERS)) as other:
        async with hand(place, term=1) as old:
            await place.until_held()
            async with hand(place, term=2, cluster=other):
                old.leads = False
                await place.well("web-1")
                await place.until_ordinary()
        assert {past.term for past in (await place.adoption()).history if past.what == "HSE023"} == {2}
        assert place.never_gone("web-0")


async def _as_a_deposed_one_would(place: Borough, version: str) -> None:
    """What it had sent is done late."""
    metadata = {"resourceVersion": version, "annotations": {ADOPTED: "app=web,example.org/tier=front"}}
    await place.admin.patch_merge(SERVICES, SHOP, "web", {"metadata": metadata, "spec": {"selector": None}})


@story
async def test_deposed_controllers_write_comes_after_it_was_handed_back() -> None:  # I6
    async with borough() as place:
        refused = place.town.api.faults.fail(503, verb="patch", resource="services", when=_by_us)
        async with hand(place):
            await until(lambda: refused.struck)
            version = (await place.web())["metadata"]["resourceVersion"]
            await place.well("web-1")
            await until(lambda: _stands_at(place, Phase.RETURNING))
            refused.cancel()
            await place.until_ordinary()
        with pytest.raises(ApiFailure) as raised:
            await _as_a_deposed_one_would(place, version)
        assert raised.value.is_conflict


async def _stands_at(place: Borough, phase: Phase) -> bool:
    return (await place.adoption()).phase is phase


@story
async def test_its_record_is_deleted_while_it_is_held() -> None:  # I6: the Service itself tells
    async with borough() as place:
        async with hand(place):
            await place.until_held()
        await place.admin.delete(LEASES, SYSTEM, "endpoints.adopt.shop.web")
        async with hand(place, term=2):
            await place.until_held()
            await place.well("web-1")
            await place.until_ordinary()
        assert place.never_gone("web-0")


@story
async def test_the_controllers_own_lease_was_lost() -> None:  # I6: a term that was counted anew could not go on
    async with borough() as place:
        async with hand(place, term=7):
            await place.until_held()
        async with hand(place, term=8) as made:
            assert await made.adopter.highest_term() == 7


@story
async def test_our_slices_cannot_be_written() -> None:  # nothing goes before what comes in its place is there
    async with borough() as place:
        fault = place.town.api.faults.fail(500, verb="create", resource="endpointslices", when=_by_us)
        async with hand(place):
            await until(lambda: place.alarm == "HSE026" and fault.struck > 2)
            assert await place.selector() == SELECTOR and await place.managers() == [KUBERNETES]
            fault.cancel()
            await place.until_held()
        assert place.never_gone("web-0")


@story
async def test_it_waits_for_long_and_asks_less_and_less() -> None:
    async with borough() as place:
        place.town.api.faults.fail(500, verb="create", resource="endpointslices", when=_by_us)
        looks = place.town.api.faults.slow(0.0, verb="get", resource="services", when=_by_us)
        async with hand(place):
            await until(lambda: place.alarm == "HSE026")
            before = looks.struck
            await asyncio.sleep(3.0)  # 30 times, if it did not
            assert looks.struck - before <= 10


@story
async def test_many_services_are_not_looked_at_all_at_once() -> None:  # who fences shares the loop
    async with borough() as place:
        for number in range(30):
            metadata = {"name": f"other-{number}", "annotations": {ADOPT: WHEN_BELOW}}
            ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
            spec = {"ports": ports, "selector": {"app": f"other-{number}"}}
            await place.admin.create(SERVICES, SHOP, {"metadata": metadata, "spec": spec})
        reads, under_way, most, seen = place.cluster.get, 0, 0, set[str]()

        async def counted(kind: Any, namespace: Any, name: str, *more: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await reads(kind, namespace, name, *more)
            finally:
                under_way -= 1
                seen.add(f"{kind.kind} {name}")

        setattr(place.cluster, reads.__name__, counted)
        async with hand(place):
            await place.until_held()
            await until(lambda: all(f"Service other-{number}" in seen for number in range(30)))
        assert 1 < most <= LOOKS


@story
async def test_kubernetes_makes_no_slices_when_it_has_the_service_back() -> None:
    async with borough() as place, hand(place):
        await place.until_held()
        by_kubernetes = place.town.api.faults.fail(
            500, verb="create", resource="endpointslices", when=lambda ask: not _by_us(ask)
        )
        await place.well("web-1")
        await until(lambda: place.alarm == "HSE026" and by_kubernetes.struck > 2)
        assert await place.selector() == SELECTOR and await place.managers() == [MANAGER]
        by_kubernetes.cancel()
        await place.until_ordinary()
        assert place.never_gone("web-0")


@story
async def test_service_is_deleted_meanwhile_and_made_anew() -> None:
    async with borough(bypassed=2) as place, hand(place):
        await place.until_held()
        await place.admin.delete(SERVICES, SHOP, "web")
        await until(lambda: _is(place, []))
        await until(lambda: _no_lease(place))
        await place.service(adopt_minimum="100%", adopt_hold="1s")
        await place.until_held()
        await place.until_read("web-0", "web-1", "web-2")


@story
async def test_service_is_going_and_serves_still() -> None:  # one with a load balancer goes when that is given back
    async with borough() as place, hand(place):
        await place.until_held()
        await _finalizers(place, ["service.kubernetes.io/load-balancer-cleanup"])
        await place.admin.delete(SERVICES, SHOP, "web")
        await place.pod("web-2")
        await place.until_read("web-0", "web-1", "web-2")
        assert "deletionTimestamp" in (await place.web())["metadata"]
        await place.until_held()
        await place.well("web-1")
        await place.until_ordinary()
        assert place.never_gone("web-0")
        await _finalizers(place, [])
        await until(lambda: _no_lease(place))


async def _finalizers(place: Borough, words: list[str]) -> None:
    await place.admin.patch_merge(SERVICES, SHOP, "web", {"metadata": {"finalizers": words}})


@story
async def test_service_has_the_other_family_than_its_pods_first_addresses() -> None:
    async with borough(family="IPv6") as place, hand(place):
        await place.until_held()
        await place.until_read("web-0", "web-1")
        await place.well("web-1")
        await place.until_ordinary()
        assert place.never_gone("web-0")


@story
async def test_somebody_wants_it_without_a_selector() -> None:
    async with borough() as place:
        fault = place.town.api.faults.fail(503, verb="update", resource="leases", when=_by_us)
        async with hand(place):
            await until(lambda: fault.struck)  # ours are there, and its selector, too
            await place.admin.patch_merge(SERVICES, SHOP, "web", {"spec": {"selector": None}})
            struck = fault.struck
            await until(lambda: fault.struck > struck + 1)  # it was looked at since
            fault.cancel()
            await until(lambda: _stands_at(place, Phase.YIELDED))
            await place.annotate(adopt=None)
            await until(lambda: _stands_at(place, Phase.IDLE))
            assert MANAGER not in await place.managers()


async def _no_lease(place: Borough) -> bool:
    return await place.admin.list(LEASES, SYSTEM) == []


@pytest.mark.parametrize("status", [409, 500])
@pytest.mark.parametrize("resource", ["services", "endpointslices", "leases"])
def test_writes_fail_for_a_while(status: int, resource: str) -> None:  # I6: looked at anew, and gone on
    @story
    async def run() -> None:
        async with borough() as place:
            for verb in WRITES:
                place.town.api.faults.fail(status, verb=verb, resource=resource, times=2, when=_by_us)
            async with hand(place):
                await place.until_held()
                await place.well("web-1")
                await place.until_ordinary()
            assert place.never_gone("web-0") and "HSE024" not in place.codes

    run()


@story
async def test_who_serves_the_services_that_are_always_ours_leaves_it_alone() -> None:
    async with borough() as place, hand(place):
        await place.until_held()
        async with leader(place.town):
            await asyncio.sleep(0.5)
            await place.until_held()
        assert place.never_gone("web-0")
