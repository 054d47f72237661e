"""A further cluster's API server, which must stay the one that it was (S2.4, I7).

An API server that comes back at the same address with other contents would say that every pod is gone: a cluster that
was built anew, a name that leads elsewhere now, a backup of another day. So before anything is asked of it, it shows
the uid of its namespace kube-system, as it did the first time, and once more before its answer is read. While it is
another one, or does not show it, nothing is asked: what was known stays, and grows stale.

Its kubeconfig is loaded at the first question, and again, later each time, while it cannot be: a file that says
nothing, or a plugin that fails, is that cluster's trouble and nobody else's (I1).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from hotswitch.cluster.answers import read
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.client import Cluster, Query
from hotswitch.cluster.credentials import Credentials
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NAMESPACES

IDENTITY = NAMESPACES.path(None, "kube-system")
PATIENCE_S = 5.0
LOAD_AGAIN_S = (1.0, 30.0)


class _Metadata(msgspec.Struct):
    uid: str


class _Namespace(msgspec.Struct):
    metadata: _Metadata


class Peer(Cluster):
    """`uid`: of its kube-system, "" before it was first heard. A cluster that was replaced on purpose is taken for the
    same one by a controller that begins anew."""

    uid = ""

    def __init__(self, credentials: Credentials) -> None:  # a session comes of them once they are loaded
        self._credentials = credentials
        self._is_loaded = False
        self._loading: asyncio.Task[None] | None = None
        self._backoff = Backoff(*LOAD_AGAIN_S)
        self._again_s = float("-inf")
        self._why = "its kubeconfig is being loaded"

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._is_loaded:
            await self._session.close()

    async def _be_loaded(self) -> None:
        """Raises ApiFailure. A plugin that does not end is not begun a second time."""
        if self._is_loaded:
            return
        if self._loading is None and time.monotonic() >= self._again_s:
            self._loading = asyncio.get_running_loop().create_task(self._load())
        if self._loading is not None:
            await asyncio.wait({self._loading}, timeout=PATIENCE_S)
        if not self._is_loaded:
            raise ApiFailure(0, "NotLoaded", self._why)

    async def _load(self) -> None:
        try:
            await self._credentials.load()
            self._session = self._credentials.session()
            self._is_loaded = True
        except Exception as failure:  # whatever its owners wrote into it: other clusters go on
            self._why = f"its kubeconfig cannot be loaded: {failure}"
            self._again_s = time.monotonic() + self._backoff.next_s()
        finally:
            self._loading = None

    @asynccontextmanager
    async def opened(
        self,
        method: str,
        path: str,
        query: Query | None,
        data: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """As a Cluster does it; a failure of status 0 when it is another one, or its kubeconfig cannot be loaded."""
        await self._be_loaded()
        if path != IDENTITY:
            await self.hello(PATIENCE_S)
        async with super().opened(method, path, query, data, headers, timeout) as answer:
            if path != IDENTITY:
                await self.hello(PATIENCE_S)  # what answers now may be another one than what said hello
            yield answer

    async def hello(self, timeout_s: float) -> None:
        """Raises ApiFailure when it does not answer, refuses, or is another one."""
        raw = await self.request("GET", IDENTITY, timeout_s=timeout_s)
        uid = read(raw, _Namespace).metadata.uid
        if self.uid and uid != self.uid:
            raise ApiFailure(0, "OtherCluster", f"its kube-system has the uid {uid}, and had {self.uid}")
        self.uid = uid


@asynccontextmanager
async def connect_peer(kubeconfig: Path | None, context: str | None = None) -> AsyncIterator[Peer]:
    """Neither reads nor asks anything yet."""
    made = Peer(Credentials(kubeconfig, context))
    try:
        yield made
    finally:
        await made.close()
