"""A further cluster's API server, which must stay the one that it was (S2.4, I7).

An API server that comes back at the same address with other contents would say that every pod is gone: a cluster that
was built anew, a name that leads elsewhere now, a backup of another day. So before anything is asked of it, it shows
the uid of its namespace kube-system, as it did the first time. While it is another one, or does not show it, nothing is
asked: what was known stays, and grows stale.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from hotswitch.cluster.client import Cluster, Query
from hotswitch.cluster.credentials import Credentials
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import NAMESPACES

IDENTITY = NAMESPACES.path(None, "kube-system")
PATIENCE_S = 5.0


class _Metadata(msgspec.Struct):
    uid: str


class _Namespace(msgspec.Struct):
    metadata: _Metadata


class Peer(Cluster):
    """`uid`: of its kube-system, "" before it was first heard. A cluster that was replaced on purpose is taken for the
    same one by a controller that begins anew."""

    uid = ""

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
        """As a Cluster does it; a failure of status 0 when it is another one."""
        if path != IDENTITY:
            await self.hello(PATIENCE_S)
        async with super().opened(method, path, query, data, headers, timeout) as answer:
            yield answer

    async def hello(self, timeout_s: float) -> None:
        """Raises ApiFailure when it does not answer, refuses, or is another one."""
        raw = await self.request("GET", IDENTITY, timeout_s=timeout_s)
        uid = self._decoded(raw, _Namespace).metadata.uid
        if self.uid and uid != self.uid:
            raise ApiFailure(0, "OtherCluster", f"its kube-system has the uid {uid}, and had {self.uid}")
        self.uid = uid


@asynccontextmanager
async def connect_peer(kubeconfig: Path | None, context: str | None = None) -> AsyncIterator[Peer]:
    """Raises ConnectError when it is not known which cluster, or the credentials cannot be read. Asks nothing yet."""
    credentials = Credentials(kubeconfig, context)
    await credentials.load()
    async with credentials.session() as session:
        yield Peer(credentials, session)
