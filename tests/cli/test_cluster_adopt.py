"""`kubectl hotswitch adopt`, and `endpoints` of a Service that may be taken over: what they say and write (I8)."""

from __future__ import annotations

import pytest

from hotswitch.api.adopt import ADOPT_AGAIN
from hotswitch.cli import cluster_endpoints as read
from hotswitch.cli import cluster_endpoints_order as order
from hotswitch.cli import cluster_endpoints_show as show
from hotswitch.cluster.kinds import POLICIES, SERVICES
from hotswitch.decide.endpoints.adopt import Phase
from tests.endpoints.borough import SELECTOR, borough, hand
from tests.endpoints.town import SHOP, story

pytestmark = pytest.mark.k8s
ROOT = "istio-system"
WEB = (ROOT, "web", SHOP)


@story
async def test_it_says_how_it_stands_and_tries_again_when_told() -> None:
    async with borough(shipped=True) as place:
        (idle,) = await read.shown(place.admin, "web", SHOP)
        assert idle.mode == "adopt: idle"
        assert "1 of 2 are ready, 2 needed; 1 more by bypass" in "\n".join(show.notes([idle]))
        assert "nothing would be done: HSE025" in "\n".join(await order.adopt(place.admin, *WEB, False, False))
        policy = {"metadata": {"name": "adopt"}, "spec": {"adopt": "when-below"}}
        await place.admin.create(POLICIES, ROOT, policy)
        assert "would be taken over now: HSE020" in "\n".join(await order.adopt(place.admin, *WEB, False, False))
        with pytest.raises(read.Refused):
            await order.adopt(place.admin, *WEB, True, False)
        async with hand(place):
            await place.until_held()
            (held,) = await read.shown(place.admin, "", SHOP)
            assert [row[2:4] for row in show.rows([held])] == [("adopt: held", f"web-{number}") for number in (0, 1)]
            assert "its selector is app=web,example.org/tier=front" in show.notes([held])[0]
            assert any("HSE021" in line for line in show.history(held))
            await place.admin.patch_merge(SERVICES, SHOP, "web", {"spec": {"selector": SELECTOR}})
            await place.until_ordinary(Phase.YIELDED)
            lines = await order.adopt(place.admin, *WEB, False, False)
            assert "not again until told" in lines[0]
            said = await order.adopt(place.admin, *WEB, True, True)
            assert said[0].startswith("would write") and ADOPT_AGAIN in said[1]
            await order.adopt(place.admin, *WEB, True, False)
            await place.until_held()


@story
async def test_a_mark_that_others_wrote_is_said_and_its_pods_are_not_shown() -> None:  # I2
    async with borough() as place, hand(place):
        await place.until_held()
        await place.town.pod("pay-0", labels={"app": "pay"}, address="10.2.9.9")
        await place.annotate(adopted="app=pay")
        (held,) = await read.shown(place.admin, "web", SHOP)
        assert [row[2:4] for row in show.rows([held])] == [("adopt: held", f"web-{number}") for number in (0, 1)]
        assert (
            "HSE028: endpoints.hotswitch.io/adopted=app=pay is not what hotswitch's record says"
            in show.notes([held])[0]
        )
