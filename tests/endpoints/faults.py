"""What is done to the stage of a real failover, under which load, and when it is whole again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator

from hotswitch.cluster.failure import ApiFailure
from hotswitch.sandbox.ask import ask
from hotswitch.sandbox.failover.client import Client, Pooled
from hotswitch.sandbox.failover.stage import FIRST_PORT, SHOP, Failover, until
from hotswitch.sandbox.register import ROLE_PORT
from tests.endpoints.history import Answered

FRESH, POOLED = 2, 3  # senders that look for an endpoint each time, and that stay where they were answered
LONG_S = 6.0  # longer than a lease of three seconds takes to run out surely, and another one to serve


class Load:
    """Numbered requests, writes and reads, from several senders at once. What was not answered counts as neither done
    nor not done."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.history: list[Answered] = []
        self.unanswered = 0

    async def send(self, client: Client | Pooled, kind: str) -> None:
        n, sent_s = next(self._numbers), time.monotonic()
        try:
            answer = await client.ask(f"/{kind}?n={n}")
        except OSError:
            self.unanswered += 1
            await asyncio.sleep(0.02)
            return
        if answer.status != 200:
            self.unanswered += 1
            await asyncio.sleep(0.02)
            return
        said = answer.json()
        now_s = time.monotonic()
        self.history.append(Answered(kind, n, sent_s, now_s, said["pod"], said["generation"], said["seq"]))

    async def run(self, client: Client | Pooled) -> None:
        """A pool only reads: who writes to a deposed one is told so by the storage, and looks elsewhere; who reads from
        it stays, and hears what is no longer true, unless its network is fenced."""
        kinds = ("read",) if isinstance(client, Pooled) else ("write", "read")
        while True:
            await self.send(client, random.choice(kinds))
            await asyncio.sleep(0.01)

    async def progress(self) -> None:
        """Until two more were answered that were sent after now."""
        now_s = time.monotonic()
        await until(lambda: len([each for each in self.history[-20:] if each.sent_s > now_s]) >= 2, "requests go on")


async def is_whole(stage: Failover) -> bool:
    """One controller leads and the other ones follow, all pods are available to it, and their keepers have heard of the
    newest election."""
    try:
        election = await stage.election()
        roles = [await _role(stage, name) for name in stage.pods]
        said = [await _asked(stage, FIRST_PORT + number, "/readyz") for number in range(len(stage.controllers))]
        leads = [number for number, text in enumerate(said) if text == "leading\n"]
        if election.active is None or len(leads) != 1 or roles.count(("active", election.generation)) != 1:
            return False
        if any(generation != election.generation for _, generation in roles):
            return False
        metrics = await _asked(stage, FIRST_PORT + leads[0], "/metrics")
    except (ApiFailure, OSError):
        return False
    return f'hotswitch_endpoints_backends{{state="available"}} {len(stage.pods)}.0' in metrics


async def _asked(stage: Failover, port: int, path: str) -> str:
    """Of a controller. Raises OSError, also when it is not ready."""
    node = stage.network.node
    answer = await ask(stage.address(node), port, path, netns=node.netns, timeout_s=1.0)
    if answer.status != 200:
        raise ConnectionError(str(answer.status))
    return answer.body.decode()


async def _role(stage: Failover, name: str) -> tuple[str, int]:
    """And the generation, as its keeper tells its app. Raises OSError."""
    netns = stage.pods[name].place.netns
    said = (await ask("127.0.0.1", ROLE_PORT, f"/v1/roles/{SHOP}/{name}", netns=netns, timeout_s=1.0)).json()
    return said["role"], said["generation"]


class Faults:
    """Each is made, waited through until requests go on, and taken back."""

    def __init__(self, stage: Failover, load: Load) -> None:
        self._stage, self._load = stage, load

    async def active(self) -> str:
        with contextlib.suppress(ApiFailure):
            found = (await self._stage.election()).active
            if found is not None:
                return found.name
        return self._load.history[-1].pod if self._load.history else "db-0"

    async def app_is_killed(self) -> None:  # S0.6
        pod = self._stage.pods[await self.active()]
        await pod.app.kill()
        await self._load.progress()
        pod.app.again()

    async def app_hangs(self) -> None:
        pod = self._stage.pods[await self.active()]
        pod.app.freeze()
        await self._load.progress()
        pod.app.thaw()

    async def pod_is_frozen_whole(self) -> None:  # nobody confirms: only the lease can prove it
        pod = self._stage.pods[await self.active()]
        pod.keeper.freeze()
        pod.app.freeze()
        await self._load.progress()
        pod.app.thaw()
        await asyncio.sleep(random.uniform(0, 0.3))
        pod.keeper.thaw()

    async def keeper_is_frozen(self) -> None:
        pod = self._stage.pods[await self.active()]
        pod.keeper.freeze()
        await asyncio.sleep(random.uniform(0, LONG_S))
        await self._load.progress()
        pod.keeper.thaw()

    async def keeper_is_killed(self) -> None:
        pod = self._stage.pods[await self.active()]
        await pod.keeper.kill()
        await asyncio.sleep(random.uniform(0, LONG_S))
        await self._load.progress()
        pod.keeper.again()

    async def pod_is_cut_off_from_controllers(self) -> None:  # and goes on serving clients for as long as it may
        pod = self._stage.pods[await self.active()]
        pod.cut()
        await asyncio.sleep(random.uniform(0, LONG_S))
        await self._load.progress()
        pod.join()

    async def leader_is_killed(self) -> None:  # I6
        name = await self._leader()
        await self._stage.controllers[name].kill()
        await self._load.progress()
        self._stage.controllers[name].again()

    async def leader_and_active_are_killed(self) -> None:
        name, pod = await self._leader(), self._stage.pods[await self.active()]
        await asyncio.gather(pod.app.kill(), self._stage.controllers[name].kill())
        self._stage.controllers[name].again()
        await self._load.progress()
        pod.app.again()

    async def leader_is_frozen_and_wakes_as_a_deposed_one(self) -> None:
        name = await self._leader()
        part = self._stage.controllers[name]
        part.freeze()
        await asyncio.sleep(random.uniform(3, 6))
        await self._load.progress()
        part.thaw()

    async def api_server_is_away(self) -> None:  # leaders step down, leases run out, and it all begins anew
        await self._stage.api.stop()
        await asyncio.sleep(random.uniform(0.5, 5))
        await self._stage.api.start()
        await self._load.progress()

    async def sidecar_is_killed(self) -> None:  # and its keeper's words with it: it asks through the proxy, too
        pod = self._stage.pods[await self.active()]
        assert pod.mesh is not None
        fault = await pod.mesh.faults.kill()
        await self._load.progress()
        await fault.undo()

    async def _leader(self) -> str:
        with contextlib.suppress(ApiFailure):
            found = await self._stage.leader()
            if found in self._stage.controllers:
                return found
        return next(iter(self._stage.controllers))

    def in_turn(self) -> Iterator[Callable[[], Awaitable[None]]]:
        every = [
            self.app_is_killed, self.pod_is_cut_off_from_controllers, self.pod_is_frozen_whole, self.leader_is_killed,
            self.app_hangs, self.keeper_is_frozen, self.leader_and_active_are_killed,
            self.leader_is_frozen_and_wakes_as_a_deposed_one, self.keeper_is_killed, self.api_server_is_away,
        ]  # fmt: skip
        if any(pod.mesh for pod in self._stage.pods.values()):
            every.insert(2, self.sidecar_is_killed)
        yield from every
        while True:
            yield random.choice(every)
