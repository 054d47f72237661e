"""What can be made to go wrong with the embedded API does so as on a cluster, and what it stores outlives it (I6)."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from hotswitch.sandbox.kubeapi import store
from tests.kubeapi.client import config_map, pod

pytestmark = pytest.mark.k8s

PODS, MAPS = "/api/v1/namespaces/{ns}/pods", "/api/v1/namespaces/{ns}/configmaps"


async def test_failures_strike_as_often_as_asked(own, embedded):
    fault = embedded.faults.fail(500, verb="create", resource="pods", times=2)
    for _ in range(2):
        refused = await own.post(PODS, pod(), status=500)
        assert refused["reason"] == "InternalError"
    await own.get(PODS)
    await own.post(PODS, pod(), status=201)
    assert fault.struck == 2


async def test_conflicts_on_one_subresource_only(own, embedded):
    await own.post(PODS, pod())
    fault = embedded.faults.fail(409, verb="patch", resource="pods/status", name="web-0")
    await own.patch(f"{PODS}/web-0/status", {}, status=409)
    await own.patch(f"{PODS}/web-0", {})
    fault.cancel()
    await own.patch(f"{PODS}/web-0/status", {})


async def test_too_many_requests_say_when_to_come_again(own, embedded):
    embedded.faults.fail(429, times=1)
    async with own.session.get(own.url(PODS), headers=own.access.headers, ssl=own.access.tls) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")


async def test_fault_for_one_user(own, embedded):
    embedded.faults.fail(503, when=lambda ask: ask.user.name == "admin")
    await own.get(PODS, status=503)
    embedded.faults.clear()
    await own.get(PODS)


async def test_slow_answer(own, embedded):
    embedded.faults.slow(60.0, resource="pods")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(own.get(PODS), 0.2)
    await own.get(MAPS)


async def test_cut_watch_ends_and_goes_on_from_its_version(own, embedded):
    async with own.watch(MAPS, resourceVersion="0") as events:
        await own.post(MAPS, config_map("one"))
        _, seen = await events.next()
        assert embedded.faults.cut_watches("configmaps") == 1
        assert await events.next() is None
    await own.post(MAPS, config_map("two"))
    async with own.watch(MAPS, resourceVersion=seen["metadata"]["resourceVersion"]) as events:
        assert await events.names(1) == [("ADDED", "two")]
    assert embedded.faults.cut_watches("secrets") == 0


async def test_broken_watch_is_an_error_for_its_reader(own, embedded):
    async with own.watch(MAPS, resourceVersion="0") as events:
        await own.post(MAPS, config_map("one"))
        await events.next()
        embedded.faults.cut_watches(broken=True)
        with pytest.raises(aiohttp.ClientError):
            await events.next()


async def test_silent_watch_says_nothing_until_it_is_cut(own, embedded):
    embedded.handlers.bookmark_every_s = 0.02
    async with own.watch(MAPS, resourceVersion="0", allowWatchBookmarks="true") as events:
        await events.next()
        assert embedded.faults.silence_watches("configmaps") == 1
        await own.post(MAPS, config_map("one"))
        seen = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:  # bookmarks that were on their way
                    seen.append((await events.next())[0])
        assert "ADDED" not in seen
    async with own.watch(MAPS, resourceVersion="0") as events:
        assert await events.names(1) == [("ADDED", "one")]  # a new watch is told all


async def test_watch_is_told_that_its_version_is_too_old(own, embedded):
    async with own.watch(MAPS, resourceVersion="0") as events:
        embedded.faults.expire_watches()
        kind, status = await events.next()
        assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
        assert await events.next() is None


async def test_version_from_before_the_memory_is_expired(own, embedded, monkeypatch):
    old = (await own.get(MAPS))["metadata"]["resourceVersion"]
    for place in range(store.MEMORY + 1):
        embedded.admin.apply([config_map("one", annotations={"place": str(place)})])
    async with own.watch(MAPS, resourceVersion=old) as events:
        kind, status = await events.next()
        assert (kind, status["code"]) == ("ERROR", 410) and "too old resource version" in status["message"]


async def test_compaction_expires_what_was_before(own, embedded):
    old = (await own.get(MAPS))["metadata"]["resourceVersion"]
    await own.post(MAPS, config_map("one"))
    embedded.store.forget(("", "configmaps"))
    async with own.watch(MAPS, resourceVersion=old) as events:
        assert (await events.next())[1]["code"] == 410
    async with own.watch(MAPS, resourceVersion=str(embedded.store.version)) as events:
        await own.post(MAPS, config_map("two"))
        assert await events.names(1) == [("ADDED", "two")]


async def test_bookmarks_come_while_nothing_happens(own, embedded):
    embedded.handlers.bookmark_every_s = 0.05
    async with own.watch(MAPS, resourceVersion="0", allowWatchBookmarks="true") as events:
        for _ in range(2):
            kind, mark = await events.next()
            assert kind == "BOOKMARK" and int(mark["metadata"]["resourceVersion"]) == embedded.store.version
    async with own.watch(MAPS, resourceVersion="0", timeoutSeconds="1") as events:
        assert await events.next() is None


async def test_stopped_server_refuses_and_comes_back_with_its_state(own, embedded):
    await own.post(MAPS, config_map())
    async with own.watch(MAPS, resourceVersion=str(embedded.store.version)) as events:
        url = embedded.url
        await embedded.stop()
        with pytest.raises(aiohttp.ClientError):
            await own.get(MAPS)
        assert await events.next() is None
    await embedded.start()
    assert embedded.url == url
    assert (await own.get(f"{MAPS}/settings"))["data"] == {"a": "1"}


async def test_slow_reader_is_ended_not_waited_for(own, embedded, monkeypatch):
    monkeypatch.setattr("hotswitch.sandbox.kubeapi.watch.BACKLOG", 3)
    await own.post(MAPS, config_map())
    async with own.watch(MAPS, resourceVersion=str(embedded.store.version)) as events:
        for place in range(10):  # without a pause: the watch cannot send any of them
            embedded.admin.patch("configmaps", "settings", {"data": {"a": f"x{place}"}})
        assert await events.next() is None


async def test_connection_breaks_before_and_after_a_write(own, embedded):
    embedded.faults.cut(verb="create", resource="configmaps", times=1)
    with pytest.raises(aiohttp.ClientError):
        await own.post(MAPS, config_map("one"))
    embedded.faults.cut(after=True, verb="create", resource="configmaps", times=1)
    with pytest.raises(aiohttp.ClientError):
        await own.post(MAPS, config_map("two"))
    await own.get(f"{MAPS}/one", status=404)
    await own.get(f"{MAPS}/two")


@pytest.mark.parametrize("after", [False, True])
async def test_somebody_else_answers(own, embedded, after):
    embedded.faults.garble(after=after, verb="create", resource="configmaps", times=1)
    async with own.session.post(
        own.url(MAPS), json=config_map("one"), headers=own.access.headers, ssl=own.access.tls
    ) as answer:
        assert answer.status == 200 and (await answer.text()).startswith("<html>")
    await own.get(f"{MAPS}/one", status=200 if after else 404)


async def test_fault_lasts_from_when_it_strikes_first(own, embedded):
    fault = embedded.faults.fail(429, retry_after_s=7, resource="pods", lasts_s=0.05)
    await asyncio.sleep(0.06)
    async with own.session.get(own.url(PODS), headers=own.access.headers, ssl=own.access.tls) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    async with asyncio.timeout(10):
        while not fault.is_over:
            await asyncio.sleep(0.01)
    await own.get(PODS)
    assert fault.struck == 1
