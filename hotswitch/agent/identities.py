"""Where one pod's identity comes from: the first of several ways that gives a good one (S4.3, review 4.2).

The order: the pod's workload socket (what the proxy itself uses), then istiod, where this agent may ask it in its own
name, then what pilot-agent has written into files. What a way gives is checked, whoever gave it; one that gives nothing
is told in a sentence, and the next is asked. A pod that gets none goes to its next level (I2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from hotswitch.config.agentfile import IdentitySource
from hotswitch.rescue.identity import Expected, Identity, IdentityRefused
from hotswitch.rescue.node_account import NodeAccount
from hotswitch.rescue.output_certs import CHAIN, is_replaced, read_output_certs
from hotswitch.rescue.sds import fetch_identity

LOOK_EVERY_S = 5.0  # at the files an identity came from: two small reads
Reach: TypeAlias = Callable[[Path], AbstractContextManager[Path]]


class Way(StrEnum):
    SDS = "sds"
    NODE_ACCOUNT = "node-account"
    OUTPUT_CERTS = "output-certs"


class Identities:
    """`reach`: how a path of the pod's is come by; raises OSError. `account` None: istiod is not asked. `way`: by
    which the newest identity came."""

    def __init__(self, reach: Reach, account: NodeAccount | None = None, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self._reach, self._account, self._look_every_s = reach, account, look_every_s
        self.way: Way | None = None

    async def fetch(self, source: IdentitySource, held: Identity | None = None) -> Identity:
        """`held`: what there is already; files may not give one that ends before it, since they are not always written
        anew. Raises IdentityRefused, with what each way had to say."""
        ways = [(Way.SDS, self._by_socket)]
        if self._account is not None:
            ways.append((Way.NODE_ACCOUNT, self._by_account))
        if source.output_certs is not None:
            ways.append((Way.OUTPUT_CERTS, self._by_files))
        refusals: list[str] = []
        for way, ask in ways:
            try:
                identity = await ask(source)
                if way is Way.OUTPUT_CERTS and held is not None and identity.not_after_unix_s < held.not_after_unix_s:
                    raise IdentityRefused("ends before the one that is held")
            except (IdentityRefused, OSError) as failure:
                refusals.append(f"{way}: {failure}" if len(ways) > 1 else str(failure))
                continue
            self.way = way
            return identity
        raise IdentityRefused("; ".join(refusals))

    async def rest(self, source: IdentitySource | None, identity: Identity | None, at_most_s: float) -> None:
        """Until the identity is due for renewal, or others lie where it was read."""
        if source is None or identity is None or self.way is not Way.OUTPUT_CERTS:
            await asyncio.sleep(at_most_s)
            return
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + at_most_s
        while (left_s := ends_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, self._look_every_s))
            if await self._is_replaced(source, identity):
                return

    async def _by_socket(self, source: IdentitySource) -> Identity:
        with self._reach(source.socket) as socket:
            return await fetch_identity(socket, expected(source))

    async def _by_account(self, source: IdentitySource) -> Identity:
        assert self._account is not None
        return await self._account.issue(expected(source))

    async def _by_files(self, source: IdentitySource) -> Identity:
        assert source.output_certs is not None
        with self._reach(source.output_certs / CHAIN) as chain:
            return await asyncio.to_thread(read_output_certs, chain.parent, expected(source))

    async def _is_replaced(self, source: IdentitySource, identity: Identity) -> bool:
        assert source.output_certs is not None
        try:
            with self._reach(source.output_certs / CHAIN) as chain:
                return await asyncio.to_thread(is_replaced, chain.parent, identity)
        except OSError:
            return False


def expected(source: IdentitySource) -> Expected:
    """Whose identity it has to be, as far as that is known."""
    if source.spiffe_id is None:
        return Expected(source.trust_domains[0])
    _, _, domain, _, namespace, _, account = source.spiffe_id.split("/")
    return Expected(domain, namespace, account)
