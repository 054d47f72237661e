"""Exactly one active one, whatever happens to pods, API server and controllers (S0, I6, I7), over the embedded API."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hotswitch.api import service as said
from hotswitch.api.values import shown_instant
from hotswitch.backends import Check, Health, ServiceId, ServiceMode
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES, PODS
from hotswitch.cluster.lease import clock_s
from hotswitch.cluster.watch import Change, Watcher
from hotswitch.decide.endpoints import activity, everyone
from hotswitch.endpoints import checks, memory, worker
from hotswitch.endpoints.ledger import Ledger, Record, Stale
from hotswitch.endpoints.role_server import Keepers, RoleServer
from hotswitch.endpoints.slice_publisher import SlicePublisher
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER
from hotswitch.model import Generation
from tests.endpoints.make import backend, service
from tests.endpoints.town import DB, SHOP, SYSTEM, Leader, Town, leader, story, town, until

pytestmark = pytest.mark.k8s
KEEPER = "system:serviceaccount:shop:db"


async def two_pods(place: Town, **annotations: str) -> None:
    await place.service(**annotations)
    for name in ("db-0", "db-1"):
        await place.pod(name)


@story
async def test_active_pod_is_deleted() -> None:  # S0.3, S0.5, S0.6, S0.7
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            assert memory.read(await place.lease()).generation == 1
            await place.delete("db-0")
            await place.until_ready("db-1")
            assert memory.read(await place.lease()).generation == 2
            assert place.codes.count("HSE002") == 2


@story
async def test_active_pod_was_deleted_by_force_while_it_ran() -> None:  # I7: that proves nothing
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            await place.delete("db-0", clean=False)
            await until(lambda: "HSE004" in place.codes)
            assert await place.ready() == []
            assert memory.read(await place.lease()).active is None


@story
async def test_active_pod_was_deleted_by_force_while_no_controller_ran() -> None:  # I7
    """Its node may be cut off, and it may serve on: until its lease has surely run out, nobody succeeds it."""
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place, term=1):
            await place.until_ready("db-0")
        await place.delete("db-0", clean=False)
        began_s = clock_s()
        async with leader(place, term=2):
            await place.until_ready("db-1")
        assert clock_s() >= activity.over_s(began_s, 2.0)
        assert "its activity lease has run out" in memory.read(await place.lease()).history[-1].sentence


@story
async def test_active_pod_ended_and_went_while_a_controller_looked() -> None:  # S0.6: no lease is waited for
    async with town() as place:
        await place.service(activity_lease="5m")
        await place.pod("db-0")
        await place.pod("db-1", ready=False)
        async with leader(place):
            await place.until_ready("db-0")
            await place.delete("db-0")
            await place.status("db-1", True)
            await place.until_ready("db-1")


@pytest.mark.parametrize("annotations", [{}, {"activity_lease": "5m", "fences": "gone"}], ids=["none", "not a proof"])
def test_without_a_lease_a_pod_that_went_unseen_counts_as_gone(annotations: dict[str, str]) -> None:
    """Nothing bounds it; a Service whose node died with its controller must not wait for ever."""

    @story
    async def tale() -> None:
        async with town() as place:
            await two_pods(place, **annotations)
            async with leader(place, term=1):
                await place.until_ready("db-0")
            await place.delete("db-0", clean=False)
            async with leader(place, term=2):
                await place.until_ready("db-1")

    tale()


@story
async def test_active_pod_is_selected_no_more_while_it_runs() -> None:  # I7: that proves nothing either
    async with town() as place:
        await two_pods(place)
        async with leader(place) as made:
            await place.until_ready("db-0")
            await place.cluster.patch_merge(PODS, SHOP, "db-0", {"metadata": {"labels": {"app": "other"}}})
            await until(lambda: "HSE004" in place.codes)
            assert await place.ready() == []
            assert memory.read(await place.lease()).active is None
            await place.cluster.patch_merge(PODS, SHOP, "db-0", {"metadata": {"labels": {"app": "db"}}})
            await until(lambda: len(made.endpoints.registry.backends(DB)) == 2)
            await place.delete("db-0")  # and this does
            await place.until_ready("db-1")


@story
async def test_another_selector_does_not_mean_the_active_pod() -> None:  # I7
    async with town() as place:
        await two_pods(place)
        await place.pod("new-0", labels={"app": "new"})
        async with leader(place):
            await place.until_ready("db-0")
            await place.annotate(selector="app=new")
            await until(lambda: "HSE004" in place.codes)
            assert await place.ready() == []


@story
async def test_active_pod_fails_and_its_lease_runs_out() -> None:  # S0.6, I7
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place):
            await place.until_ready("db-0")
            await place.status("db-0", False)
            await place.until_ready("db-1")
            assert "lease has run out" in memory.read(await place.lease()).history[-1].sentence


@pytest.mark.parametrize("waits_s", [3600.0, 0.1])
def test_data_planes_hear_of_the_new_one_when_its_keeper_has_opened_the_port(
    waits_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0.7: who is refused at a shut port comes back late. One whose keeper does not open is told of all the same."""
    monkeypatch.setattr(worker, "OPEN_S", waits_s)

    @story
    async def tale() -> None:
        async with town() as place:
            await two_pods(place, activity_lease="2s")
            async with leader(place) as made:
                await place.until_ready("db-0")
                standby = next(each for each in made.endpoints.registry.backends(DB) if each.pod.name == "db-1")
                made.endpoints.roles.permits(standby.id, Generation(0))
                await place.status("db-0", False)
                if waits_s > 60:
                    await until(lambda: place.codes.count("HSE002") == 2)
                    assert await place.ready() == []
                    made.endpoints.roles.permits(standby.id, Generation(2))
                await place.until_ready("db-1")

    tale()


@story
async def test_active_pod_fails_and_nothing_proves_that_it_is_fenced_then_it_gets_well() -> None:  # S0.7
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            await place.status("db-0", False)
            await until(lambda: "HSE004" in place.codes)
            assert await place.ready() == []
            await place.status("db-0", True)
            await place.until_ready("db-0")  # it succeeds itself
            assert memory.read(await place.lease()).generation == 2


@story
async def test_none_is_available_and_nobody_is_promoted() -> None:  # S0.7
    async with town() as place:
        await place.service(activity_lease="2s")
        for name in ("db-0", "db-1"):
            await place.pod(name, ready=False)
        async with leader(place):
            await until(lambda: "HSE005" in place.codes)
            assert await place.ready() == []
            await place.status("db-1", True)
            await place.until_ready("db-1")


@story
async def test_memory_cannot_be_read_and_a_person_is_told_until_it_can() -> None:  # I7, I8
    async with town() as place:
        await two_pods(place)
        async with leader(place, term=1):
            await place.until_ready("db-0")
        good = (await place.lease())["metadata"]["annotations"][memory.ANNOTATION]
        name = memory.lease_name(DB)

        async def remember(text: str) -> None:
            patch = {"metadata": {"annotations": {memory.ANNOTATION: text}}}
            await place.cluster.patch_merge(LEASES, SYSTEM, name, patch)

        await remember(good[:-1])
        place.words.clear()
        async with leader(place, term=2) as made:
            await until(lambda: "HSE008" in place.codes)
            assert memory.ANNOTATION in place.words[0][1]
            assert made.endpoints.election(DB) is None
            assert await place.ready() == ["db-0"], "what data planes know stays"
            await remember(good)
            await until(lambda: place.codes[-1] == "HSE001")


@story
async def test_controller_is_killed_and_another_goes_on() -> None:  # I6
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place, term=1):
            await place.until_ready("db-0")
        await place.status("db-0", False)
        async with leader(place, term=2):
            await place.until_ready("db-1")
        assert [past.term for past in memory.read(await place.lease()).history] == [1, 2, 2]


@story
async def test_controller_is_killed_between_withdrawing_and_promoting() -> None:  # I6, I7
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place, term=1):
            await place.until_ready("db-0")
            await place.status("db-0", False)
            await until(lambda: "HSE003" in place.codes)
        assert memory.read(await place.lease()).fencing is not None
        async with leader(place, term=2):
            await place.until_ready("db-1")
        found = memory.read(await place.lease())
        assert found.generation == 2 and found.fencing is None


@story
async def test_a_new_leader_takes_nobody_out_before_it_has_heard_them() -> None:  # S0.6
    """The active one answers late, the standby at once; no version of the slices is without the active one."""
    async with town() as place:
        await place.service(activity_lease="2s", check="tcp:5432")
        await place.pod("db-0", address=LATE, annotations={said.PRIORITY: "1"})
        await place.pod("db-1")
        async with leader(place, term=1, ask=answered):
            await place.until_ready("db-0")
        seen: list[list[str]] = []
        watcher: Watcher[dict[str, Any]] = Watcher(
            place.cluster, ENDPOINTSLICES, dict, on_event=lambda change: seen.append(_ready(change.object))
        )
        watching = asyncio.create_task(watcher.run())
        await watcher.synced.wait()
        async with leader(place, term=2, ask=answered) as made:
            await until(lambda: made.endpoints.election(DB))
            await asyncio.sleep(0.5)
        watching.cancel()
        assert seen and all(names == ["db-0"] for names in seen)
        assert memory.read(await place.lease()).generation == 1


@story
async def test_another_selector_that_means_the_same_pods_takes_nobody_out() -> None:  # S0.6, I7
    """Everything that was heard of the pods is heard anew, the active one again late."""
    labels = {"app": "db", "tier": "data"}
    async with town() as place:
        await place.service(activity_lease="2s", check="tcp:5432")
        await place.pod("db-0", address=LATE, annotations={said.PRIORITY: "1"}, labels=labels)
        await place.pod("db-1", labels=labels)
        async with leader(place, ask=answered) as made:
            await place.until_ready("db-0")
            before = memory.read(await place.lease())
            await place.annotate(selector="app=db,tier=data")
            await until(lambda: made.endpoints.registry.services[DB].selector == labels)
            well = [Health.AVAILABLE] * 2
            await until(lambda: [each.health for each in made.endpoints.registry.backends(DB)] == well)
            await place.until_ready("db-0")
            assert memory.read(await place.lease()) == before


def _ready(content: dict[str, Any]) -> list[str]:
    return [each["targetRef"]["name"] for each in content.get("endpoints") or () if each["conditions"]["ready"]]


LATE = "10.1.0.99"


class _Later:
    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self._timer = timer

    def cancel(self) -> None:
        self._timer.cancel()


def answered(check: Check, address: str, done: checks.Done) -> checks.Question:
    """Everybody is well; one says so later."""
    wait_s = 0.4 if address == LATE else 0.0
    return _Later(asyncio.get_running_loop().call_later(wait_s, done, Health.AVAILABLE, ""))


@story
async def test_the_controllers_own_lease_was_lost() -> None:  # I6: a term that was counted anew could not go on
    async with town() as place:
        await two_pods(place)
        async with leader(place, term=7):
            await place.until_ready("db-0")
        async with leader(place, term=8) as made:
            assert await made.endpoints.highest_term() == 7


@story
async def test_deposed_controller_writes_nothing_any_more() -> None:  # I6
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place, term=1) as old:
            await place.until_ready("db-0")
            async with leader(place, term=2) as new:
                old.leads = False
                await until(lambda: new.endpoints.election(DB) is not None)
                await place.status("db-0", False)
                await place.until_ready("db-1")
                assert {past.term for past in memory.read(await place.lease()).history[1:]} == {2}


@story
async def test_two_controllers_that_both_believe_to_lead() -> None:  # I6: the record itself holds
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place, term=1), leader(place, term=2):
            await place.until_ready("db-0")
            await place.status("db-0", False)
            await place.until_ready("db-1")
            history = memory.read(await place.lease()).history
            generations = [past.generation for past in history if past.what == "HSE002"]
            assert generations == sorted(set(generations))


@story
async def test_api_server_is_away_during_a_failover() -> None:
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place):
            await place.until_ready("db-0")
            await place.status("db-0", False)
            await place.api.stop()
            await asyncio.sleep(0.5)
            await place.api.start()
            await place.until_ready("db-1")


@story
async def test_the_elections_lease_is_deleted() -> None:  # the pods' notes tell
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place, term=1):
            await place.until_ready("db-0")
            await until(lambda: _noted(place, "db-1"))
        await place.cluster.delete(LEASES, SYSTEM, f"endpoints.{SHOP}.db")
        async with leader(place, term=2):
            await until(lambda: _generation(place, 2))
            assert len(await place.ready()) <= 1


async def _noted(place: Town, name: str) -> bool:
    pod = await place.cluster.get(PODS, SHOP, name)
    return said.ROLE_NOTE in (pod["metadata"].get("annotations") or {})


async def _generation(place: Town, least: int) -> bool:
    found = await place.cluster.list(LEASES, SYSTEM)
    return any(memory.read(each).generation >= least for each in found)


@story
async def test_the_journal_cannot_be_written_and_the_election_goes_on() -> None:  # S0.6, I6
    class FullDisk(list[tuple[str, str]]):
        def append(self, word: tuple[str, str]) -> None:
            super().append(word)
            if word[0] == "HSE002":
                raise OSError(errno.ENOSPC, "No space left on device")

    async with town() as place:
        place.words = FullDisk()
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            await place.delete("db-0")
            await place.until_ready("db-1")


@story
async def test_roles_stand_on_the_pods() -> None:  # S0.3, S0.4
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await until(lambda: _labelled(place, {"db-0": "active", "db-1": "standby"}))
            await place.delete("db-0")
            await until(lambda: _labelled(place, {"db-1": "active"}))


@story
async def test_labels_wait_for_the_writes_of_a_failover() -> None:  # S0.6
    """They go to the same API server, and decide nothing."""
    seen: list[tuple[int, str, str]] = []

    def noted(change: Change[dict[str, Any]]) -> None:
        metadata = change.object["metadata"]
        word = metadata.get("labels", {}).get(said.ROLE_LABEL) or ",".join(_ready(change.object))
        seen.append((int(metadata["resourceVersion"]), metadata["name"], word))

    async with town() as place:
        await two_pods(place, activity_lease="5m")
        async with leader(place) as made, contextlib.AsyncExitStack() as stack:
            await until(lambda: _labelled(place, {"db-0": "active", "db-1": "standby"}))
            for kind in (PODS, ENDPOINTSLICES):
                watcher: Watcher[dict[str, Any]] = Watcher(place.cluster, kind, dict, on_event=noted, namespace=SHOP)
                task = asyncio.create_task(watcher.run())
                stack.callback(task.cancel)
                await watcher.synced.wait()
            old = next(each for each in made.endpoints.registry.backends(DB) if each.pod.name == "db-0")
            await place.status("db-0", False)
            await until(lambda: "HSE003" in place.codes)
            await until(lambda: made.endpoints.roles.confirm(old.id, Generation(1)))
            await until(lambda: _labelled(place, {"db-0": "standby", "db-1": "active"}))
            told = next(version for version, name, word in seen if word == "db-1")
            first = next(version for version, name, word in seen if (name, word) == ("db-0", "standby"))
            assert told < first


async def _labelled(place: Town, wanted: dict[str, str]) -> bool:
    pods = await place.cluster.list(PODS, SHOP)
    found = {pod["metadata"]["name"]: pod["metadata"]["labels"].get(said.ROLE_LABEL) for pod in pods}
    return all(found.get(name) == role for name, role in wanted.items())


# ---- people's orders ----


@story
async def test_switchover_pause_and_resume() -> None:
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place) as made:
            await place.until_ready("db-0")
            await place.annotate(switchover=f"db-1@{shown_instant(1e9)}")
            await place.until_ready("db-1")
            await place.annotate(paused="true")
            await until(lambda: made.endpoints.registry.services[DB].options.paused)
            await place.status("db-1", False)
            await until(lambda: "HSE006" in place.codes)
            assert memory.read(await place.lease()).active is not None
            await place.annotate(paused=None)
            await place.until_ready("db-0")


@story
async def test_an_order_to_an_election_that_is_gone_is_not_carried_out_again() -> None:  # I6
    async with town() as place:
        await two_pods(place, activity_lease="2s", switchover="db-1@2026-01-01T00:00:00Z")
        async with leader(place):
            await place.until_ready("db-0")
            await until(lambda: _noted(place, "db-1"))
        found = memory.read(await place.lease())
        assert found.active is not None and len(found.history) == 1 and found.handled_unix_s > 0


@story
async def test_draining_the_active_one_makes_room() -> None:
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place):
            await place.until_ready("db-0")
            patch = {"metadata": {"annotations": {said.ROTATION: "draining"}}}
            await place.cluster.patch_merge(PODS, SHOP, "db-0", patch)
            await place.until_ready("db-1")


@story
async def test_an_annotation_that_cannot_be_read_changes_nothing_and_is_said() -> None:
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place) as made:
            await place.until_ready("db-0")
            await place.annotate(check="exec:rm")
            await until(lambda: place.problems)
            assert (place.problems[0].field, place.problems[0].value) == (said.CHECK, "exec:rm")
            record = made.endpoints.registry.service(DB)
            assert record is not None and record.options.lease.ttl_s == 2.0
            assert await place.ready() == ["db-0"]


# ---- what is published ----


@story
async def test_all_available_ones_and_who_falls_ill_goes() -> None:  # S2.1
    async with town() as place:
        await two_pods(place, mode="all")
        async with leader(place):
            await place.until_ready("db-0", "db-1")
            await place.status("db-0", False)
            await place.until_ready("db-1")
            (content,) = await place.slices()
            assert content["metadata"]["labels"][MANAGED_BY] == MANAGER
            assert content["metadata"]["ownerReferences"][0]["name"] == "db"


@story
async def test_slices_are_not_written_by_one_that_leads_no_more() -> None:  # I6
    asked: list[bool] = []

    def leads() -> bool:
        asked.append(False)
        return False

    async with town() as place:
        slices = SlicePublisher(place.cluster, leads=leads, written=place.writes.append)
        slices.publish(everyone.published(service(ServiceMode.ALL), [backend("db-0")]))
        await until(lambda: asked)
        await slices.stop()
        assert place.writes == [] and await place.slices() == []


@pytest.mark.parametrize("when", ["_own", "_delete"])
def test_slices_of_the_next_leader_are_not_removed_by_the_last_one(when: str) -> None:  # I6
    """It stands still after it has looked, or when the write is as good as sent."""
    leading, asked = [True], []

    def leads() -> bool:
        asked.append(leading)
        return bool(leading)

    @story
    async def run() -> None:
        async with town() as place:
            slices = SlicePublisher(place.cluster, leads=leads, written=place.writes.append)
            goes_on = getattr(slices, when)

            async def later(*what: Any) -> Any:
                found = await goes_on(*what) if when == "_own" else None
                if leading:
                    (content,) = await place.slices()
                    leading.clear()
                    patch = {"metadata": {"labels": {"written": "anew"}}}
                    await place.cluster.patch_merge(ENDPOINTSLICES, SHOP, content["metadata"]["name"], patch)
                    asked.clear()
                return found if when == "_own" else await goes_on(*what)

            setattr(slices, when, later)
            slices.publish(everyone.published(service(ServiceMode.ALL), [backend("db-0")]))
            await until(place.slices)
            slices.withdraw(DB)
            await until(lambda: not leading and asked)
            await slices.stop()
            assert place.writes == ["create"] and await place.slices() != []

    run()


@story
async def test_a_slice_that_somebody_changed_or_deleted_is_made_right() -> None:
    async with town() as place:
        await two_pods(place, mode="all")
        async with leader(place):
            await place.until_ready("db-0", "db-1")
            (content,) = await place.slices()
            name = content["metadata"]["name"]
            await place.cluster.patch_merge(ENDPOINTSLICES, SHOP, name, {"endpoints": []})
            await place.until_ready("db-0", "db-1")
            await place.cluster.delete(ENDPOINTSLICES, SHOP, name)
            await place.until_ready("db-0", "db-1")


@story
async def test_slices_that_others_left_are_named() -> None:  # left by a selector, or mirrored from Endpoints
    async with town() as place:
        await two_pods(place, mode="all")
        left = {
            "metadata": {"name": "db-left", "labels": {"kubernetes.io/service-name": "db", MANAGED_BY: "x"}},
            "addressType": "IPv4",
            "endpoints": [],
            "ports": [],
        }
        await place.cluster.create(ENDPOINTSLICES, SHOP, left)
        async with leader(place):
            await until(lambda: place.foreign == [("db-left",)])
            await place.cluster.delete(ENDPOINTSLICES, SHOP, "db-left")
            await until(lambda: place.foreign[-1] == ())


@story
async def test_an_election_that_was_written_meanwhile_is_not_forgotten() -> None:  # I6, I7
    class Slow(Ledger):
        async def read(self, service: ServiceId, term: int) -> Record | None:
            found = await super().read(service, term)
            patch = {"metadata": {"labels": {"written": "meanwhile"}}}
            await place.cluster.patch_merge(LEASES, SYSTEM, f"endpoints.{SHOP}.db", patch)
            return found

    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
        with pytest.raises(ApiFailure) as conflict:
            await Slow(place.cluster, SYSTEM).forget(DB, 1)
        assert conflict.value.is_conflict
        with pytest.raises(Stale):  # a later leader's
            await Ledger(place.cluster, SYSTEM).forget(DB, 0)
        assert memory.read(await place.lease()).generation == 1


@story
async def test_a_service_that_loses_its_roles_and_gets_them_again_at_once() -> None:  # S0.3, I7
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            for mode in ("all", "active-standby") * 5:
                await place.annotate(mode=mode)
            await place.until_ready("db-0")
            assert memory.read(await place.lease()).active is not None


@story
async def test_a_service_that_is_no_longer_ours_loses_its_slices_and_its_election() -> None:
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            await place.annotate(mode=None, selector=None)
            await until(lambda: _nothing_left(place))


@story
async def test_a_service_is_no_longer_ours_while_the_api_refuses() -> None:  # S2.1
    async with town() as place:
        await two_pods(place, mode="all")
        async with leader(place):
            await place.until_ready("db-0", "db-1")
            place.api.faults.fail(503, verb="delete", resource="endpointslices", times=3)
            await place.annotate(mode=None, selector=None)
            await until(lambda: _nothing_left(place))


@story
async def test_a_service_that_ceased_to_be_ours_while_nobody_led_loses_its_slices() -> None:  # S2.1
    async with town() as place:
        await two_pods(place, mode="all")
        await place.service("web", mode="all")
        async with leader(place, term=1):
            await place.until_ready("db-0", "db-1")
            await place.until_ready("db-0", "db-1", service="web")
        await place.annotate(mode=None, selector=None)
        async with leader(place, term=2):
            await until(lambda: _nothing_left(place))
            assert await place.ready("web") == ["db-0", "db-1"]


async def _nothing_left(place: Town) -> bool:
    return not await place.slices() and not await place.cluster.list(LEASES, SYSTEM)


# ---- the role endpoint ----


async def served(made: Leader) -> tuple[web.AppRunner, str]:
    endpoints = made.endpoints
    app = web.Application()
    keepers = Keepers(made.town.cluster, frozenset({KEEPER}))
    app.add_routes(RoleServer(endpoints.roles, keepers, endpoints.find).routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/roles/{SHOP}"


@story
async def test_a_pod_asks_its_role() -> None:  # S0.3, as Patroni's /primary and /replica
    async with town() as place:
        await place.service(activity_lease="5s")
        uids = {name: await place.pod(name) for name in ("db-0", "db-1")}
        async with leader(place) as made, aiohttp.ClientSession() as session:
            await place.until_ready("db-0")
            runner, url = await served(made)

            async def status(path: str) -> int:
                async with session.get(f"{url}/{path}") as answer:
                    return answer.status

            assert await status(f"db-0/primary?uid={uids['db-0']}") == 200
            assert await status(f"db-0/replica?uid={uids['db-0']}") == 503
            assert await status(f"db-1/primary?uid={uids['db-1']}") == 503
            assert await status(f"db-1/replica?uid={uids['db-1']}") == 200
            assert await status(f"db-0/primary?uid={uids['db-1']}") == 503  # another pod's uid
            assert await status("db-0/primary") == 503
            async with session.get(f"{url}/db-0?uid={uids['db-0']}") as answer:
                told = await answer.json()
            assert (told["role"], told["generation"], told["ttl_s"]) == ("active", 1, 5.0)
            made.leads = False  # its lease has run out: not a word
            assert await status(f"db-0?uid={uids['db-0']}") == 503
            await runner.cleanup()


@story
async def test_only_a_keeper_may_confirm_and_then_the_next_is_promoted() -> None:  # I7
    async with town() as place:
        await place.service(activity_lease="5m")  # so that only the keeper can prove it
        uids = {name: await place.pod(name) for name in ("db-0", "db-1")}
        async with leader(place) as made, aiohttp.ClientSession() as session:
            await place.until_ready("db-0")
            runner, url = await served(made)
            await place.status("db-0", False)
            await until(lambda: "HSE004" in place.codes)

            async def confirm(user: str, generation: int) -> int:
                headers = {"Authorization": f"Bearer {place.api.token(user) if user else 'forged'}"}
                target = f"{url}/db-0/fenced?uid={uids['db-0']}&generation={generation}"
                async with session.post(target, headers=headers) as answer:
                    return answer.status

            assert await confirm("", 1) == 403
            assert await confirm("system:serviceaccount:shop:other", 1) == 403
            assert await confirm(KEEPER, 0) == 200  # of an older generation: proves nothing
            await asyncio.sleep(0.1)
            assert await place.ready() == []
            assert await confirm(KEEPER, 1) == 200
            await place.until_ready("db-1")
            await runner.cleanup()


# ---- an API server that refuses, conflicts, forgets ----


@pytest.mark.parametrize("status", [409, 429, 500, 503])
@pytest.mark.parametrize("resource", ["leases", "endpointslices", "pods/status"])
def test_writes_fail_for_a_while(status: int, resource: str) -> None:  # I6: looked at anew, and gone on
    @story
    async def run() -> None:
        async with town() as place:
            await two_pods(place, activity_lease="2s")
            async with leader(place):
                await place.until_ready("db-0")
                await place.status("db-0", False)
                for verb in ("create", "update", "patch"):
                    place.api.faults.fail(status, verb=verb, resource=resource, times=2)
                await place.until_ready("db-1")
            history = memory.read(await place.lease()).history
            generations = [past.generation for past in history if past.what == "HSE002"]
            assert generations == [1, 2]

    run()


@story
async def test_watches_expire_and_are_cut_during_a_failover() -> None:
    async with town() as place:
        await two_pods(place, activity_lease="2s")
        async with leader(place):
            await place.until_ready("db-0")
            place.api.faults.expire_watches()
            await place.status("db-0", False)
            place.api.faults.cut_watches(broken=True)
            await place.until_ready("db-1")
