"""The rescue over time: renewed, drained, killed, left by its agent and adopted, with an identity that runs out."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hotswitch.kernel.command import Command, run
from hotswitch.model import Mtls
from hotswitch.rescue.identity import IdentityRefused, PrivateKey
from hotswitch.rescue.pod import RescuePod
from hotswitch.rescue.service import RescueBusy, UnknownPod
from hotswitch.rescue.xds_stream import RescueRejected
from tests.rescue.authority import spiffe
from tests.rescue.world import CLIENT4, DRAIN_S, World, converse, eventually, world

pytestmark = pytest.mark.envoy


def test_renewal_drops_no_connection() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            old = await w.connect(tls=w.client())
            assert (await converse(*old)).served
            renewed = w.authority.issue(spiffe("shop", "renewed"))
            await w.rescue.update_identity(w.pod.key, renewed.identity())
            assert (await converse(*old)).served
            _, fresh = await w.connect(tls=w.client())
            shown = fresh.get_extra_info("ssl_object").getpeercert()
            assert shown["subjectAltName"] == (("URI", spiffe("shop", "renewed")),)
            await asyncio.sleep(DRAIN_S + 1)  # a drain would have closed it by now
            assert (await converse(*old)).served

    asyncio.run(scenario())


def test_drained_connections_end_and_the_doors_stay_open() -> None:  # S4.5
    async def scenario() -> None:
        async with world() as w:
            pooled = [await w.connect(tls=w.client()), await w.connect()]
            for pair in pooled:
                assert (await converse(*pair)).served
            began_s = time.monotonic()
            await w.rescue.drain(w.pod.key)
            for pair in pooled:
                assert (await converse(*pair)).served  # what runs may finish
            while time.monotonic() < began_s + DRAIN_S / 2:
                assert w.is_ready()
                assert (await w.ask()).served
            for reader, _ in pooled:
                assert await asyncio.wait_for(reader.read(), DRAIN_S + 5) == b""
            assert DRAIN_S - 0.5 <= time.monotonic() - began_s <= DRAIN_S + 2
            assert w.is_ready() and (await w.ask(tls=w.client())).served

    asyncio.run(scenario())


def test_outbound_connections_are_drained_too() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(_answer, CLIENT4, 7000, netns=w.client_ns)
            reader, writer = await w.connect(CLIENT4, 7000, netns=w.pod_ns)
            assert (await converse(reader, writer)).text == "outside"
            await w.rescue.drain(w.pod.key)
            assert await asyncio.wait_for(reader.read(), DRAIN_S + 5) == b""

    asyncio.run(scenario())


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        writer.write(b"outside\n")
    writer.close()


def test_pod_that_envoy_refuses_leaves_others_alone() -> None:
    async def scenario() -> None:
        async with world() as w:
            busy = await w.connect()
            absent = replace(w.other, netns="/var/run/netns/hr-no-such-namespace")
            with pytest.raises(RescueRejected, match="hr-no-such-namespace"):
                await w.rescue.add(absent, w.identity.identity())
            assert (await converse(*busy)).served and (await w.ask()).served
            assert w.rescue.refusal(absent.key) == "not added"
            assert absent.key not in w.rescue.inherited  # no half of it is left in Envoy
            await w.rescue.add(w.other, w.identity.identity())
            await w.ready(w.client_ns)

    asyncio.run(scenario())


def test_refused_change_leaves_what_was_in_force() -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            busy = await w.connect(tls=w.client())
            with pytest.raises(RescueRejected):
                await w.rescue.add(replace(w.pod, netns="/var/run/netns/hr-nowhere", mtls=Mtls.PERMISSIVE))
            assert (await converse(*busy)).served
            assert w.is_ready() and (await w.ask(tls=w.client())).served and not (await w.ask()).served

    asyncio.run(scenario())


def test_secret_that_envoy_refuses_leaves_others_alone() -> None:
    async def scenario() -> None:
        async with world() as w:
            forged = replace(w.authority.issue(spiffe()).identity(), key=PrivateKey(w.identity.key))
            with pytest.raises(RescueRejected, match=r"(?i)private key|certificate"):
                await w.rescue.add(w.other, forged)
            assert not w.is_ready(w.client_ns) and (await w.ask(tls=w.client())).served
            with pytest.raises(RescueRejected):
                await w.rescue.update_identity(w.pod.key, forged)
            assert (await w.ask(tls=w.client())).served
            await w.rescue.add(w.other, w.identity.identity())
            await w.ready(w.client_ns)

    asyncio.run(scenario())


def test_killed_rescue_comes_back_with_all_pods() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.rescue.add(w.other, w.identity.identity())
            first = w.rescue.process.pid
            assert first is not None and w.rescue.deaths_within(60) == 0
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: bool(w.heard), "death is told")
            assert w.heard[0].code == -signal.SIGKILL
            await eventually(lambda: len(w.returned) == 2, "the return of both pods is told")
            assert set(w.returned) == {w.pod.key, w.other.key}
            assert w.is_ready() and w.is_ready(w.client_ns)
            assert (await w.ask(tls=w.client())).served and w.rescue.process.pid != first
            assert w.rescue.deaths_within(60) == 1
            os.kill(w.rescue.process.pid or 0, signal.SIGKILL)
            await eventually(lambda: w.rescue.deaths_within(60) == 2, "second death is counted")
            await w.ready()
            assert w.rescue.deaths_within(0.0) == 0

    asyncio.run(scenario())


def test_agent_restarts_while_the_rescue_serves() -> None:  # I1
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            await w.rescue.drain(w.pod.key)  # generation 1: the new agent must take it over
            busy, pid = await w.connect(tls=w.client()), w.rescue.process.pid
            await w.rescue.leave()
            assert (await converse(*busy)).served and (await w.ask(tls=w.client())).served
            w.rescue = w.new_agent()
            assert await w.rescue.start() and w.rescue.process.pid == pid and not w.rescue.process.outdated
            assert w.rescue.inherited == {w.pod.key} and w.rescue.refusal(w.pod.key) == ""
            await w.rescue.add(w.pod)  # pilot-agent is dead: nobody can give the identity again
            await w.rescue.settle()
            assert w.rescue.ends_unix_s(w.pod.key) == round(w.identity.identity().not_after_unix_s)
            assert w.is_ready() and (await w.ask(tls=w.client())).served
            await asyncio.sleep(DRAIN_S + 1)  # a change of the listener would have drained it by now
            assert (await converse(*busy)).served
            await w.rescue.update_identity(w.pod.key, w.identity.identity())
            assert (await converse(*busy)).served

    asyncio.run(scenario())


def test_rescue_dies_after_its_agent_was_replaced() -> None:
    async def scenario() -> None:
        async with world() as w:
            assert await w.restart_agent()
            await w.rescue.add(w.pod, w.identity.identity())
            os.kill(w.rescue.process.pid or 0, signal.SIGKILL)
            await eventually(lambda: w.rescue.deaths_within(60) == 1, "death of an adopted rescue is seen")
            assert w.rescue.process.deaths[0].code is None
            await w.ready()
            assert (await w.ask(tls=w.client())).served

    asyncio.run(scenario())


def test_what_nobody_adds_again_is_ended() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.rescue.add(w.other, w.identity.identity())
            await w.restart_agent()
            assert w.rescue.inherited == {"shop/web", "shop/other"}
            await w.rescue.add(w.pod, w.identity.identity())
            await w.rescue.settle()
            await eventually(lambda: not w.is_ready(w.client_ns), "the other's doors are closed")
            assert w.rescue.inherited == set() and (await w.ask(tls=w.client())).served

    asyncio.run(scenario())


def test_rescue_is_not_adopted_when_it_died_with_nobody_looking() -> None:
    async def scenario() -> None:
        async with world() as w:
            pid = w.rescue.process.pid or 0
            await w.rescue.leave()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            w.rescue = w.new_agent()
            assert not await w.rescue.start()
            assert w.rescue.inherited == set()

    asyncio.run(scenario())


def test_rescue_of_another_version_is_adopted_and_said_so() -> None:
    async def scenario() -> None:
        async with world() as w:
            Path(w.directory, "started-as").write_text("an older agent's")
            assert await w.restart_agent() and w.rescue.process.outdated
            assert (await w.ask(tls=w.client())).served
            await w.rescue.stop()  # nothing is open, says the agent
            w.rescue = w.new_agent()
            assert not await w.rescue.start() and not w.rescue.process.outdated

    asyncio.run(scenario())


def test_two_agents_do_not_share_a_rescue() -> None:
    async def scenario() -> None:
        async with world() as w:
            with pytest.raises(RescueBusy, match="used by another agent"):
                await w.new_agent().start()
            assert (await w.ask(tls=w.client())).served

    asyncio.run(scenario())


def test_stop_ends_the_process() -> None:
    async def scenario() -> None:
        async with world() as w:
            pid = w.rescue.process.pid
            await w.rescue.stop()
            assert not Path(f"/proc/{pid}").exists() and not w.is_ready()
            assert w.rescue.deaths_within(60) == 0

    asyncio.run(scenario())


def test_identity_that_runs_out_is_withdrawn() -> None:  # S4.2c
    async def scenario() -> None:
        async with world() as w:
            brief = w.authority.issue(spiffe(), ends_s=7).identity()
            await w.rescue.update_identity(w.pod.key, brief)
            assert w.is_ready()
            await eventually(lambda: not w.is_ready(), "doors closed before the end")
            assert time.time() < brief.not_after_unix_s
            assert w.rescue.refusal(w.pod.key) == "identity has run out"
            await w.rescue.drain(w.pod.key)  # a restore in between must not bring it back
            assert not w.is_ready()
            await w.rescue.update_identity(w.pod.key, w.identity.identity())
            await w.ready()
            assert w.rescue.refusal(w.pod.key) == "" and (await w.ask(tls=w.client())).served

    asyncio.run(scenario())


def test_inherited_identity_that_runs_out_is_withdrawn() -> None:  # S4.2c
    async def scenario() -> None:
        async with world() as w:
            await w.rescue.update_identity(w.pod.key, w.authority.issue(spiffe(), ends_s=8).identity())
            await w.restart_agent()
            assert w.is_ready()
            await eventually(lambda: not w.is_ready(), "doors closed before the end")

    asyncio.run(scenario())


def test_identity_that_is_needed_and_missing_is_refused() -> None:
    async def scenario() -> None:
        async with world() as w:
            with pytest.raises(IdentityRefused, match="shop/other: has none"):
                await w.rescue.add(w.other)
            with pytest.raises(IdentityRefused, match="ended, or ends"):
                await w.rescue.add(w.other, w.authority.issue(spiffe(), ends_s=2).identity())
            with pytest.raises(UnknownPod):
                await w.rescue.update_identity(w.other.key, w.identity.identity())
            plain = RescuePod("shop/other", w.client_ns, (CLIENT4,), mtls=Mtls.DISABLE)
            await w.rescue.add(plain)
            await w.ready(w.client_ns)

    asyncio.run(scenario())


def test_namespace_that_vanishes_takes_nobody_along() -> None:  # a pod is deleted while it is served
    async def scenario() -> None:
        async with world() as w:
            run(Command(("ip", "netns", "add", "hr-vanishing")), check=True)
            gone = RescuePod("shop/gone", "/var/run/netns/hr-vanishing", (CLIENT4,), mtls=Mtls.DISABLE)
            await w.rescue.add(gone)
            run(Command(("ip", "netns", "del", "hr-vanishing")), check=True)
            await w.rescue.drain(gone.key)
            await w.rescue.remove(gone.key)
            assert (await w.ask(tls=w.client())).served and w.rescue.deaths_within(60) == 0

    asyncio.run(scenario())


def test_pods_are_added_at_once_from_many_tasks() -> None:
    async def scenario() -> None:
        async with world() as w:
            assert isinstance(w, World)
            pods = [replace(w.other, key=f"shop/p{i}", netns=w.client_ns) for i in range(2)]
            results = await asyncio.gather(
                *(w.rescue.add(pod, w.identity.identity()) for pod in (*pods, w.pod)), return_exceptions=True
            )
            assert results[2] is None and (await w.ask(tls=w.client())).served

    asyncio.run(scenario())
