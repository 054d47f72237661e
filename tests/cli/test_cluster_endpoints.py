"""`kubectl hotswitch endpoints`, switchover, pause, resume, drain: what they say, write, and refuse (S0.3, S0.7)."""

from __future__ import annotations

import pytest

from hotswitch.api import service as said
from hotswitch.cli import cluster_endpoints as read
from hotswitch.cli import cluster_endpoints_bounds as within
from hotswitch.cli import cluster_endpoints_order as order
from hotswitch.cli import cluster_endpoints_show as show
from hotswitch.cluster.kinds import PODS, SERVICES
from hotswitch.controller.snapshot import NotFound
from tests.endpoints.town import SHOP, Town, leader, story, town

pytestmark = pytest.mark.k8s


async def two_pods(place: Town) -> None:
    await place.service(activity_lease="2s")
    for name in ("db-0", "db-1"):
        await place.pod(name)


async def word(place: Town, kind: str, name: str) -> str | None:
    kinds = {"service": SERVICES, "pod": PODS}
    content = await place.cluster.get(kinds[kind], SHOP, name)
    annotations = content["metadata"].get("annotations") or {}
    key = said.ROTATION if kind == "pod" else said.PAUSED
    return annotations.get(key)


@story
async def test_the_table_the_tree_and_the_history() -> None:
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            found = await read.shown(place.cluster, "db", SHOP)
            rows = show.rows(found)
            assert [(row[3], row[4], row[5], row[6], row[7]) for row in rows] == [
                ("db-0", "active", "1", "yes", "ready"),
                ("db-1", "standby", "-", "yes", "-"),
            ]
            tree = "\n".join(show.tree(found))
            assert "shop/db (active-standby)" in tree and "zone zone-a" in tree and "node node-a" in tree
            assert "HSE002" in show.history(found[0])[-1]
            assert show.as_json(found)[0]["generation"] == 1


@story
async def test_a_switchover_is_ordered_and_carried_out() -> None:
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            said_first = await order.switchover(place.cluster, "db", SHOP, "db-1", True)
            assert said_first[0].startswith("would write") and await place.ready() == ["db-0"]
            await order.switchover(place.cluster, "shop/db", "default", "db-1", False)
            await place.until_ready("db-1")


@story
async def test_an_order_is_later_than_the_last_one_whatever_clock_that_was_given_by() -> None:
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            await place.annotate(switchover="db-1@2099-01-01T00:00:00Z")  # by somebody whose clock is wrong
            await place.until_ready("db-1")
            await order.switchover(place.cluster, "db", SHOP, "db-0", False)
            await place.until_ready("db-0")


@pytest.mark.parametrize(("to", "why"), [("db-7", "no pod"), ("db-0", "already"), ("db-1", "not available")])
def test_a_switchover_that_would_be_refused_is_not_written(to: str, why: str) -> None:
    @story
    async def run() -> None:
        async with town() as place:
            await two_pods(place)
            async with leader(place):
                await place.until_ready("db-0")
                await place.status("db-1", False)
                with pytest.raises(read.Refused, match=why):
                    await order.switchover(place.cluster, "db", SHOP, to, False)

    run()


@story
async def test_pause_resume_and_drain() -> None:
    async with town() as place:
        await two_pods(place)
        async with leader(place):
            await place.until_ready("db-0")
            await order.pause(place.cluster, "db", SHOP, True, True)
            assert await word(place, "service", "db") is None
            await order.pause(place.cluster, "db", SHOP, True, False)
            assert await word(place, "service", "db") == "true"
            assert "paused already" in (await order.pause(place.cluster, "db", SHOP, True, False))[0]
            await order.pause(place.cluster, "db", SHOP, False, False)
            assert await word(place, "service", "db") is None
            await order.drain(place.cluster, "db-0", SHOP, False, False)
            assert await word(place, "pod", "db-0") == "draining"
            await place.until_ready("db-1")
            await order.drain(place.cluster, "db-0", SHOP, True, False)
            assert await word(place, "pod", "db-0") is None


@story
async def test_what_is_not_ours_is_said() -> None:
    async with town() as place:
        with pytest.raises(NotFound):
            await read.shown(place.cluster, "db", SHOP)
        await place.service(mode="all")
        with pytest.raises(read.Refused, match="nobody is active"):
            await order.pause(place.cluster, "db", SHOP, True, False)


@story
async def test_for_how_long_nobody_may_answer() -> None:  # S0.6, I7
    async with town() as place:
        await two_pods(place)
        lines = await within.shown(place.cluster, "db", SHOP)
        assert lines[0] == "shop/db"
        assert "  its keeper stops: 1.75 s" in lines, lines
        assert sum("as soon as the kubelet finds out" in each for each in lines) == 3
        await place.annotate(check="http:8080/healthz")
        assert not any("kubelet" in each for each in await within.shown(place.cluster, "db", SHOP))
