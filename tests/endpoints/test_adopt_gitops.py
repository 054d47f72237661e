"""A GitOps tool applies a Service that is taken over, or a slice of ours; somebody makes an Endpoints object by hand:
the other one wins, it is told, nothing flaps, and nobody is left with a conflict (I6, S4.6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswitch.api.adopt import ADOPT
from hotswitch.api.service import PREFIX
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTS, ENDPOINTSLICES, SERVICES
from hotswitch.decide.endpoints.adopt import Phase
from hotswitch.endpoints.hands import KUBERNETES
from hotswitch.endpoints.slicing import MANAGED_BY, MANAGER, SERVICE_NAME
from tests.endpoints.borough import SELECTOR, Borough, borough, hand
from tests.endpoints.mirror import MIRRORS
from tests.endpoints.town import SHOP, Town, leader, story, town, until

pytestmark = pytest.mark.k8s
OURS = "web-hotswitch-4-0"
PINNED = "10.7.7.7"


async def applies(tool: Cluster, selector: dict[str, str], *, force: bool = False) -> dict[str, Any]:
    """What its repository says of the Service."""
    words = {ADOPT: "when-below", PREFIX + "adopt-minimum": "100%", PREFIX + "adopt-hold": "1s"}
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    body = {"metadata": {"name": "web", "annotations": words}, "spec": {"ports": ports, "selector": selector}}
    return await tool.apply(SERVICES, SHOP, "web", body, force=force)


async def pins(tool: Cluster, name: str, service: str, *, force: bool) -> dict[str, Any]:
    """A slice of ours, as it once was, has come into its repository."""
    labels = {SERVICE_NAME: service, MANAGED_BY: MANAGER}
    endpoints = [{"addresses": [PINNED], "conditions": {"ready": True, "serving": True, "terminating": False}}]
    body = {"metadata": {"name": name, "labels": labels}, "addressType": "IPv4", "endpoints": endpoints}
    return await tool.apply(ENDPOINTSLICES, SHOP, name, body, force=force)


@story
async def test_tool_applies_the_service_again_and_again() -> None:
    async with borough(shipped=True) as place, place.gitops() as tool:
        await applies(tool, SELECTOR, force=True)
        async with hand(place):
            await place.until_held()
            await applies(tool, SELECTOR)  # no conflict: it finds no selector, and has it
            await place.until_ordinary(Phase.YIELDED)
            await until(lambda: place.alarm == "HSE024")
            stands = await place.web()
            for _ in range(3):
                await applies(tool, SELECTOR)
                await asyncio.sleep(0.2)
            assert await place.web() == stands and await place.managers() == [KUBERNETES]
            assert place.never_gone("web-0") and place.town.api.denied == []


@story
async def test_tool_applies_another_selector_after_it_was_handed_back() -> None:
    """Whoever gives a selector back owns its field, and would stand in the way of who says what it is to be."""
    async with borough(shipped=True) as place, place.gitops() as tool:
        await applies(tool, SELECTOR, force=True)
        async with hand(place):
            await place.until_held()
            await place.well("web-1")
            await place.until_ordinary()
            assert (await applies(tool, {"app": "web"}))["spec"]["selector"] == {"app": "web"}
        assert place.never_gone("web-0") and place.town.api.denied == []


@story
async def test_nobody_else_has_ever_written_the_service() -> None:
    """Then nobody's fields are left in managedFields, and whoever applies it first has no conflict either."""
    async with borough() as place, place.gitops() as tool:
        async with hand(place):
            patch: dict[str, Any] = {"metadata": {"managedFields": [{}]}}
            await place.admin.patch_merge(SERVICES, SHOP, "web", patch)
            await place.until_held()
            await place.well("web-1")
            await place.until_ordinary()
        await applies(tool, {"app": "web"})


@story
async def test_tool_applies_a_slice_of_ours() -> None:
    async with borough() as place, place.gitops() as tool, hand(place):
        await place.until_held()
        with pytest.raises(ApiFailure) as raised:
            await pins(tool, OURS, "web", force=False)
        assert raised.value.is_conflict and 'conflict with "hotswitch"' in raised.value.message
        assert place.alarm == ""
        pinned = await pins(tool, OURS, "web", force=True)
        await until(lambda: place.alarm == "HSE010")
        await until(lambda: place.reader.ready == {PINNED, *(place.addresses[f"web-{each}"] for each in (0, 1))})
        await place.pod("web-2")
        await until(lambda: place.addresses["web-2"] in place.reader.ready)
        await pins(tool, OURS, "web", force=True)
        assert await tool.get(ENDPOINTSLICES, SHOP, OURS) == pinned, "the tool has it, and nobody writes over it"
        await tool.delete(ENDPOINTSLICES, SHOP, OURS)
        await place.until_read("web-0", "web-1", "web-2")
        await until(lambda: place.alarm == "")
        assert (await place.adoption()).phase is Phase.HELD and "HSE024" not in place.codes


@story
async def test_tool_has_a_slice_when_the_service_is_handed_back() -> None:
    async with borough() as place, place.gitops() as tool, hand(place):
        await place.until_held()
        pinned = await pins(tool, OURS, "web", force=True)
        await until(lambda: place.alarm == "HSE010")
        await place.well("web-1")
        await until(lambda: _is_idle(place))
        assert await place.selector() == SELECTOR and place.alarm == ""
        assert await tool.get(ENDPOINTSLICES, SHOP, OURS) == pinned
        assert [each["metadata"]["name"] for each in await _ours(place)] == [OURS]


async def _is_idle(place: Borough) -> bool:
    return (await place.adoption()).phase is Phase.IDLE


async def _ours(place: Borough) -> list[dict[str, Any]]:
    return [each for each in await place.town.slices("web") if each["metadata"]["labels"][MANAGED_BY] == MANAGER]


@story
async def test_tool_applies_a_slice_of_a_service_that_is_always_ours() -> None:
    async with town() as place, Borough(place, place.cluster, "IPv4").gitops() as tool:
        await place.service(mode="all")
        await place.pod("db-0")
        async with leader(place):
            await place.until_ready("db-0")
            pinned = await pins(tool, "db-hotswitch-4-0", "db", force=True)
            await until(lambda: place.foreign[-1:] == [("db-hotswitch-4-0",)])
            await place.pod("db-1")
            await until(lambda: _addresses(place, PINNED, "10.1.0.1", "10.1.0.2"))
            assert await tool.get(ENDPOINTSLICES, SHOP, "db-hotswitch-4-0") == pinned
            await tool.delete(ENDPOINTSLICES, SHOP, "db-hotswitch-4-0")
            await until(lambda: place.foreign[-1:] == [()])
            await place.until_ready("db-0", "db-1")
            edited = (await place.slices())[0]  # somebody edits it once: that is made right again
            patch = {"endpoints": [{"addresses": [PINNED], "conditions": {"ready": True}}]}
            await place.cluster.patch_merge(ENDPOINTSLICES, SHOP, edited["metadata"]["name"], patch)
            await until(lambda: _addresses(place, "10.1.0.1", "10.1.0.2"))


async def _addresses(place: Town, *addresses: str) -> bool:
    found = [each["addresses"][0] for content in await place.slices() for each in content.get("endpoints") or ()]
    return sorted(found) == sorted(addresses)


@story
async def test_endpoints_object_is_made_by_hand() -> None:
    """While the Service has no selector nobody else writes it: it is somebody's, and it is mirrored into a slice."""
    async with borough(shipped=True) as place, hand(place):
        await place.until_held()
        subsets = [{"addresses": [{"ip": PINNED}], "ports": [{"name": "http", "port": 8080}]}]
        made = await place.admin.create(ENDPOINTS, SHOP, {"metadata": {"name": "web"}, "subsets": subsets})
        await until(lambda: place.alarm == "HSE010")
        await until(lambda: PINNED in place.reader.ready)
        await place.pod("web-2")
        await until(lambda: place.addresses["web-2"] in place.reader.ready)
        assert await place.admin.get(ENDPOINTS, SHOP, "web") == made
        assert await place.managers() == [MANAGER, MIRRORS]
        await place.admin.delete(ENDPOINTS, SHOP, "web")
        await place.until_read("web-0", "web-1", "web-2")
        await until(lambda: place.alarm == "")
        assert place.never_gone("web-0") and place.town.api.denied == []


@story
async def test_kubernetes_makes_the_endpoints_object_once_more_by_an_old_picture() -> None:
    async with borough() as place:
        async with hand(place):
            await place.until_held()
            await place.endpoints_by_kubernetes(PINNED)
            await place.until_held()
            await place.until_read("web-0", "web-1")
        assert place.alarm == ""
