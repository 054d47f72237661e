"""The agent's xDS server against an Envoy that does whatever a test wants: refuses, goes away, says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from betterproto2 import Message
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy_data_plane.google.rpc import Status

from hotswitch.rescue.resources import Encoded, Kind, PodResources
from hotswitch.rescue.xds import SERVICE, RescueUnanswered, XdsServer
from hotswitch.rescue.xds_stream import RescueRejected
from tests.rescue.world import eventually

pytestmark = pytest.mark.unit


def resources(key: str, version: str = "1") -> PodResources:
    name = f"{key}|in"
    cluster, listener = (Encoded(kind, name, version, bytes) for kind in (Kind.CLUSTER, Kind.LISTENER))
    return PodResources(clusters={name: cluster}, listeners={name: listener})


class Envoy:
    """Answers by `refuse` (a listener's name and version -> message); `silent` does not answer at all."""

    def __init__(self) -> None:
        self.refuse: dict[tuple[str, str], str] = {}
        self.silent = False
        self.has: dict[Kind, dict[str, str]] = {Kind.CLUSTER: {}, Kind.LISTENER: {}}
        self.responses: list[DeltaDiscoveryResponse] = []

    async def talk(self, socket: Path) -> None:
        async with grpc.aio.insecure_channel(
            f"unix:{socket}", options=(("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            stream = channel.stream_stream(
                f"/{SERVICE}/DeltaAggregatedResources",
                request_serializer=Message.SerializeToString,
                response_deserializer=DeltaDiscoveryResponse.FromString,
            )()
            for kind, held in self.has.items():
                await stream.write(DeltaDiscoveryRequest(type_url=kind, initial_resource_versions=dict(held)))
            while isinstance(response := await stream.read(), DeltaDiscoveryResponse):
                self.responses.append(response)
                if not self.silent:
                    await stream.write(self._answer(response))

    def _answer(self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest:
        kind, reasons = Kind(response.type_url), []
        for resource in response.resources:
            reason = self.refuse.get((resource.name, resource.version)) if kind is Kind.LISTENER else None
            if reason:
                reasons.append(reason)
            else:
                self.has[kind][resource.name] = resource.version
        for name in response.removed_resources:
            self.has[kind].pop(name, None)
        detail = Status(code=13, message="; ".join(reasons)) if reasons else None
        return DeltaDiscoveryRequest(type_url=kind, response_nonce=response.nonce, error_detail=detail)

    def keys(self) -> set[str]:
        return {name.partition("|")[0] for held in self.has.values() for name in held}


@contextlib.asynccontextmanager
async def connected(envoy: Envoy, server: XdsServer, socket: Path) -> AsyncIterator[None]:
    task = asyncio.create_task(envoy.talk(socket))
    try:
        async with asyncio.timeout(5):
            await server.connected()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(socket: Path, answer_timeout_s: float = 5.0) -> AsyncIterator[XdsServer]:
    server = XdsServer(socket, os.geteuid(), answer_timeout_s=answer_timeout_s)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _has(envoy: Envoy, keys: set[str]) -> bool:
    return envoy.keys() == keys


def test_one_refusal_is_one_pods_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        envoy = Envoy()
        envoy.refuse["b|in", "1"] = "no such namespace"
        async with serving(tmp_path / "x") as server, connected(envoy, server, tmp_path / "x"):
            told = await asyncio.gather(*(server.publish(key, resources(key)) for key in "abc"), return_exceptions=True)
            assert (told[0], told[2]) == (None, None)
            assert isinstance(told[1], RescueRejected) and str(told[1]) == "no such namespace"
            assert envoy.keys() == {"a", "c"}
            assert all(
                len({resource.name.partition("|")[0] for resource in response.resources}) <= 1
                for response in envoy.responses
            )

    asyncio.run(scenario())


def test_refused_update_is_taken_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        envoy = Envoy()
        envoy.refuse["a|in", "2"] = "bad"
        async with serving(tmp_path / "x") as server, connected(envoy, server, tmp_path / "x"):
            await server.publish("a", resources("a"))
            with pytest.raises(RescueRejected):
                await server.publish("a", resources("a", "2"))
            assert {k: set(v.values()) for k, v in envoy.has.items()} == {Kind.CLUSTER: {"1"}, Kind.LISTENER: {"1"}}

    asyncio.run(scenario())


def test_nothing_is_sent_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        envoy = Envoy()
        async with serving(tmp_path / "x") as server, connected(envoy, server, tmp_path / "x"):
            for key in ("a", "b"):
                await server.publish(key, resources(key))
            before = len(envoy.responses)
            await server.publish("a", resources("a"))
            assert len(envoy.responses) == before
            await server.publish("c", resources("c"))  # one more pod costs one more pod
            assert len(envoy.responses) == before + 2

    asyncio.run(scenario())


def test_envoy_that_comes_later_is_told_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "x") as server:
            waiting = [asyncio.create_task(server.publish(key, resources(key))) for key in "ab"]
            await asyncio.sleep(0)
            for _ in range(2):  # and a second one, after the first has died
                envoy = Envoy()
                async with connected(envoy, server, tmp_path / "x"):
                    await asyncio.gather(*waiting)
                    await eventually(partial(_has, envoy, {"a", "b"}), "told")

    asyncio.run(scenario())


def test_open_pods_come_first(tmp_path: Path) -> None:  # a rescue that dies under open gates
    async def scenario() -> None:
        async with serving(tmp_path / "x") as server:
            async with connected(Envoy(), server, tmp_path / "x"):
                keys = [f"p{i}" for i in range(60)]
                await asyncio.gather(*(server.publish(key, resources(key)) for key in keys))
            server.urgent = frozenset({"p58", "p59"})
            successor = Envoy()
            async with connected(successor, server, tmp_path / "x"):
                await eventually(partial(_has, successor, set(keys)), "told")
            order = [r.name for response in successor.responses for r in response.resources]
            assert {name.partition("|")[0] for name in order[:2]} == {"p58", "p59"}

    asyncio.run(scenario())


def test_refusal_of_what_a_new_envoy_is_told_is_remembered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "x") as server:
            async with connected(Envoy(), server, tmp_path / "x"):
                for key in ("a", "b"):
                    await server.publish(key, resources(key))
            strict = Envoy()
            strict.refuse["a|in", "1"] = "changed its mind"
            async with connected(strict, server, tmp_path / "x"):
                await eventually(lambda: server.rejected == {"a": "changed its mind"}, "remembered")
                await eventually(lambda: "b|in" in strict.has[Kind.LISTENER], "the other has its own")
                strict.refuse.clear()
                await server.publish("a", resources("a"))
                assert server.rejected == {} and "a|in" in strict.has[Kind.LISTENER]

    asyncio.run(scenario())


def test_envoy_that_says_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        envoy = Envoy()
        async with serving(tmp_path / "x", 0.2) as server:
            async with connected(envoy, server, tmp_path / "x"):
                envoy.silent = True
                with pytest.raises(RescueUnanswered, match=r"a: no answer within 0\.2 s"):
                    await server.publish("a", resources("a"))
            later = Envoy()
            async with connected(later, server, tmp_path / "x"):
                await eventually(lambda: later.keys() == {"a"}, "it is in force all the same")

    asyncio.run(scenario())


def test_envoy_that_dies_before_it_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "x") as server:
            mute = Envoy()
            async with connected(mute, server, tmp_path / "x"):
                mute.silent = True
                waiting = asyncio.create_task(server.publish("a", resources("a")))
                await eventually(lambda: bool(mute.responses and mute.responses[-1].resources), "it was sent")
            async with connected(Envoy(), server, tmp_path / "x"):
                await waiting

    asyncio.run(scenario())


def test_nothing_inherited_is_removed_unasked(tmp_path: Path) -> None:  # I1
    async def scenario() -> None:
        envoy = Envoy()
        for kind in envoy.has:
            envoy.has[kind] = {"old|in": "7", "kept|in": "1"}
        async with serving(tmp_path / "x") as server, connected(envoy, server, tmp_path / "x"):
            assert server.held()[Kind.LISTENER] == {"old|in": "7", "kept|in": "1"}
            await server.publish("kept", resources("kept"))
            await server.publish("new", resources("new"))
            assert envoy.keys() == {"old", "kept", "new"}
            assert not any(r.name == "kept|in" for response in envoy.responses for r in response.resources)
            await server.withdraw("old")
            assert envoy.keys() == {"kept", "new"}

    asyncio.run(scenario())
