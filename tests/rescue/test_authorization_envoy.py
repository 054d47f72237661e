"""L4 authorization kept by the rescue: a real Envoy lets in whom Istio's policies let in, and nobody else (I2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hotswitch.model import Mtls
from hotswitch.rescue.authorization import AuthorizationPolicy, parse_policy
from tests.rescue.world import APP, CLIENT4, CLIENT6, OTHER4, POD6, World, echo, world

pytestmark = pytest.mark.envoy

Rules = list[dict[str, Any]]


def policy(action: str, rules: Rules) -> AuthorizationPolicy:
    return parse_policy({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"action": action, "rules": rules}})


def source(**fields: list[str]) -> Rules:
    return [{"from": [{"source": fields}]}]


CART = ["cluster.local/ns/shop/sa/cart"]
CLIENTS: Mapping[str, Any] = {
    "cart": {"namespace": "shop", "account": "cart"},
    "bank": {"namespace": "bank", "account": "cart"},
    "plain": None,
}
ALL = {"cart", "bank", "plain"}


@pytest.mark.parametrize(
    ("policies", "served"),
    [
        ([policy("ALLOW", source(principals=CART))], {"cart"}),
        ([policy("ALLOW", source(principals=["*"]))], {"cart", "bank"}),
        ([policy("ALLOW", source(principals=["*/sa/cart"]))], {"cart", "bank"}),
        ([policy("ALLOW", source(principals=["cluster.local/ns/ba*"]))], {"bank"}),
        ([policy("ALLOW", source(notPrincipals=CART))], {"bank", "plain"}),
        ([policy("DENY", source(principals=CART))], {"bank", "plain"}),
        ([policy("ALLOW", source(namespaces=["shop"]))], {"cart"}),
        ([policy("ALLOW", source(namespaces=["sh*"]))], {"cart"}),
        ([policy("DENY", source(notNamespaces=["shop"]))], {"cart"}),
        ([policy("ALLOW", source(ipBlocks=["10.97.0.0/24"]))], ALL),
        ([policy("ALLOW", source(ipBlocks=[OTHER4]))], set()),
        ([policy("DENY", source(ipBlocks=[CLIENT4]))], set()),
        ([policy("ALLOW", source(principals=CART)), policy("DENY", source(ipBlocks=[CLIENT4]))], set()),
        ([policy("ALLOW", source(principals=CART)), policy("ALLOW", source(namespaces=["bank"]))], {"cart", "bank"}),
        ([policy("ALLOW", [])], set()),
        ([policy("ALLOW", [{}])], ALL),
        ([policy("DENY", [])], ALL),
        ([policy("DENY", [{}])], set()),
    ],
)
def test_who_is_served(policies: list[AuthorizationPolicy], served: set[str]) -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.PERMISSIVE, authorization=tuple(policies)) as w:
            assert {name for name in ALL if await _served(w, name)} == served

    asyncio.run(scenario())


async def _served(w: World, name: str) -> bool:
    who = CLIENTS[name]
    return (await w.ask(tls=w.client(**who) if who else None)).served


def test_addresses_of_both_families() -> None:
    async def scenario() -> None:
        rules = source(ipBlocks=[OTHER4, CLIENT6])
        async with world(mtls=Mtls.PERMISSIVE, authorization=(policy("ALLOW", rules),)) as w:
            assert (await w.ask(source=OTHER4)).served and not (await w.ask(source=CLIENT4)).served
            assert (await w.ask(POD6)).served

    asyncio.run(scenario())


def test_ports_are_the_original_ones() -> None:  # not 15106, where the connection arrives
    async def scenario() -> None:
        rules: Rules = [{"to": [{"operation": {"ports": ["9000"]}}]}]
        async with world(mtls=Mtls.PERMISSIVE, authorization=(policy("ALLOW", rules),)) as w:
            await w.serve(echo, port=9000)
            assert (await w.ask(port=9000)).served and not (await w.ask(port=APP)).served

    asyncio.run(scenario())


def test_new_policy_holds_for_new_connections_at_once() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.PERMISSIVE) as w:
            assert (await w.ask()).served
            await w.add(authorization=(policy("ALLOW", source(principals=CART)),))
            assert not (await w.ask()).served and (await w.ask(tls=w.client())).served

    asyncio.run(scenario())
