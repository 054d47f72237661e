"""The keeper of a pod's doorway: asks the pod's role, lets the kernel permit what was told, and confirms a fence (I7).

It runs beside the app, in the pod's own namespace (a native sidecar, before the app starts), or on a node for several
pods. It decides nothing: without an answer it does nothing, and the kernel shuts the doorway when the time is over. The
order inside it matters: a permit is for what is left of `ttl_s` since the question was sent; and once a generation was
withdrawn, no later word makes it permitted again, whatever is still on its way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from hotswitch.endpoints.doorway import Doorway
from hotswitch.kernel.command import CommandFailed

WAIT_SHARE = 0.3  # of the time to live, less a second that the kernel's clock is coarse: so often it is renewed
WAIT_S = 20.0  # as a standby, or where no time was told
PAUSE_S = 0.1
UNLIMITED_S = 86_400.0  # a permit without a time to live: renewed long before
log = logging.getLogger("hotswitch.endpoints.keeper")


def clock_s() -> float:
    """Goes on while the machine sleeps, as the word's other end does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One pod. `roles`: URLs of controllers; the one that leads answers. `token`: read anew for each confirmation."""

    namespace: str
    name: str
    uid: str
    doorway: Doorway
    roles: tuple[str, ...]
    token: Callable[[], str]


class Keeper:
    """`async with aiohttp.ClientSession() as session: await Keeper(kept, session).run()`."""

    def __init__(self, kept: Kept, session: aiohttp.ClientSession) -> None:
        self._kept, self._session = kept, session
        self._mark, self._ttl_s = "", 0.0
        self._withdrawn = 0
        self._confirmed = 0
        self._answers = 0  # whose controller answered last
        self.generation = 0
        """The newest that was permitted."""

    async def run(self) -> None:
        """Until cancelled. What stands in the kernel then ends by itself. Raises CommandFailed when the doorway cannot
        be built: then the app must not be started."""
        if not self._kept.doorway.exists:
            self._kept.doorway.build()
        while True:
            try:
                heard = await self._turn()
            except (CommandFailed, OSError) as failure:
                log.warning("%s/%s: %s", self._kept.namespace, self._kept.name, failure)
                heard = False
            if not heard:
                await asyncio.sleep(PAUSE_S)

    async def _turn(self) -> bool:
        """One question. Whether it was answered."""
        asked_s, asked_unix_s = clock_s(), time.time()
        said = await self._ask()
        if said is None:
            self._answers += 1
            return False
        self._mark = str(said["mark"])
        self._heed(said, asked_s, asked_unix_s)
        await self._confirm(int(said["withdrawn"]))
        return True

    def _heed(self, said: dict[str, Any], asked_s: float, asked_unix_s: float) -> None:
        generation, withdrawn = int(said["generation"]), int(said["withdrawn"])
        self._withdrawn = max(self._withdrawn, withdrawn)
        if said["role"] != "active" or generation <= self._withdrawn:
            self._ttl_s = 0.0
            self._kept.doorway.shut()
            return
        ttl_s = said["ttl_s"]
        self._ttl_s = UNLIMITED_S if ttl_s is None else float(ttl_s)
        left_s = asked_s + self._ttl_s - clock_s()
        if left_s <= 0:
            return
        self._kept.doorway.permit(asked_unix_s + self._ttl_s, left_s)
        self.generation = generation

    async def _confirm(self, withdrawn: int) -> None:
        """Only after the kernel has shut the doorway; of the active one's own generation never."""
        if withdrawn <= self._confirmed or self._mark.startswith("active"):
            return
        query = {"uid": self._kept.uid, "generation": str(withdrawn)}
        headers = {"Authorization": f"Bearer {self._kept.token()}"}
        timeout = aiohttp.ClientTimeout(total=5.0)
        try:
            async with self._session.post(
                self._url("/fenced"), params=query, headers=headers, timeout=timeout
            ) as answer:
                if answer.status == 200:
                    self._confirmed = withdrawn
                else:
                    self._mark = ""  # ask again at once, and confirm again
                    log.warning("%s: not confirmed: %s", self._kept.name, (await answer.text()).strip())
                    await asyncio.sleep(PAUSE_S)
        except (aiohttp.ClientError, TimeoutError):
            self._mark = ""

    async def _ask(self) -> dict[str, Any] | None:
        """At once while nothing was heard yet; else when something changes, or a permit is due to be renewed."""
        is_active = self._ttl_s > 0
        wait_s = min(WAIT_S, max(0.1, (self._ttl_s - 1.0) * WAIT_SHARE)) if is_active else WAIT_S
        query = {"uid": self._kept.uid, "wait": f"{wait_s:.3f}", "known": self._mark}
        timeout = aiohttp.ClientTimeout(total=wait_s + (max(0.5, wait_s) if is_active else 5.0))
        try:
            async with self._session.get(self._url(), params=query, timeout=timeout) as answer:
                return await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    def _url(self, more: str = "") -> str:
        base = self._kept.roles[self._answers % len(self._kept.roles)]
        return f"{base}/v1/roles/{self._kept.namespace}/{self._kept.name}{more}"
