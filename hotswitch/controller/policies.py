"""What became of a policy, said on the policy itself (config.condition), as far as it is not said there already.

Only the leader says it. What the API server does not take is tried again, for nobody else will come back to it: an
author who reads no condition believes that his policy holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import POLICIES
from hotswitch.config.condition import status
from hotswitch.config.objects import PolicyObject

Key = tuple[str, str]
"""Namespace and name."""
AGAIN_AT_MOST_S = 60.0


async def report_status(cluster: Cluster, content: Mapping[str, Any], policy: PolicyObject) -> None:
    """Raises ApiFailure."""
    metadata = content["metadata"]
    wanted = status(policy, content.get("status") or {}, time.time())
    if wanted is None:
        return
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": wanted}
    await cluster.patch_merge(POLICIES, metadata["namespace"], metadata["name"], body, "status")


class Reports:
    """`contents`: policies as they are in the API; `known`: what was made of them."""

    def __init__(
        self,
        cluster: Cluster,
        contents: Mapping[Key, Mapping[str, Any]],
        known: Callable[[Key], PolicyObject | None],
        problem: Callable[[str], None],
    ) -> None:
        self._cluster, self._contents, self._known, self._problem = cluster, contents, known, problem
        self._due: set[Key] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def lead(self) -> None:
        """What became of each while nobody led is said now."""
        self.news()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def follow(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = None

    def news(self, key: Key | None = None) -> None:
        """It has changed, or is new; None: any of them may have."""
        self._due |= set(self._contents) if key is None else {key}
        self._news.set()

    async def _run(self) -> None:
        backoff, said = Backoff(longest_s=AGAIN_AT_MOST_S), ""
        while True:
            self._news.clear()
            failed = [failure for key in sorted(self._due) if (failure := await self._report(key)) is not None]
            why = next((str(each) for each in failed if not each.is_conflict), "")  # a newer one comes by the watch
            if why and why != said:
                self._problem(f"what became of a policy cannot be said: {why}")
            said = why
            if failed:
                await asyncio.sleep(backoff.next_s())
            else:
                backoff.reset()
                await self._news.wait()

    async def _report(self, key: Key) -> ApiFailure | None:
        """None: it is said, or there is no such policy any more."""
        self._due.discard(key)
        content, known = self._contents.get(key), self._known(key)
        if content is None or known is None:
            return None
        try:
            await report_status(self._cluster, content, known)
        except ApiFailure as failure:
            if failure.is_missing:
                return None
            self._due.add(key)
            return failure
        return None
