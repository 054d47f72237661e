"""An app whose replicas elect their active one over a Lease and nothing else, as client-go does it by default.

    python -m bench.lease_only KUBECONFIG NAMESPACE/LEASE NAME

leaseDuration 15 s, renewDeadline 10 s, retryPeriod 2 s, jitter 1.2 (client-go, tools/leaderelection: acquire, renew,
tryAcquireOrRenew). Who waits counts the lease from when it saw it renewed, so no clocks are compared. While it holds
the Lease it answers on :5432, else 503. Nobody fences the old one, and nobody asks whether it answers at all: a replica
whose elector lives goes on, whatever has become of the rest of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease_record import instant
from hotswitch.sandbox.httpd import Request, Response, listen
from hotswitch.sandbox.process import die_with_parent
from hotswitch.sandbox.register import PORT

LEASE_S, RENEW_S, RETRY_S, JITTER = 15.0, 10.0, 2.0, 1.2


class Elector:
    def __init__(self, cluster: Cluster, lease: ServiceId, name: str) -> None:
        self._cluster, self._lease, self._name = cluster, lease, name
        self._seen: dict[str, Any] = {}
        self._seen_s = float("-inf")
        self.generation = 0  # 0: it does not lead

    async def run(self) -> None:
        while True:
            while not await self._try():
                await asyncio.sleep(RETRY_S * (1 + random.random() * JITTER))
            self.generation = int(self._seen["spec"]["leaseTransitions"]) + 1
            with contextlib.suppress(TimeoutError):
                await self._renew()
            self.generation = 0

    async def _renew(self) -> None:
        """Until it could not for too long. Raises TimeoutError."""
        while True:
            await asyncio.sleep(RETRY_S)
            async with asyncio.timeout(RENEW_S):
                while not await self._try():
                    await asyncio.sleep(RETRY_S)

    async def _try(self) -> bool:
        """One attempt to acquire, or to renew."""
        try:
            return await self._attempt()
        except ApiFailure:
            return False

    async def _attempt(self) -> bool:
        now_s = time.monotonic()
        if self.generation and self._is_valid(now_s):  # the quick way of who leads: no question before
            with contextlib.suppress(ApiFailure):
                self._note(await self._write(self._seen))
                return True
        try:
            self._note(await self._cluster.get(LEASES, self._lease.namespace, self._lease.name))
        except ApiFailure as failure:
            if not failure.is_missing:
                raise
            made = {"metadata": {"name": self._lease.name}, "spec": self._spec(transitions=0)}
            self._note(await self._cluster.create(LEASES, self._lease.namespace, made))
            return True
        if self._holder and self._holder != self._name and self._is_valid(now_s):
            return False
        self._note(await self._write(self._seen))
        return True

    @property
    def _holder(self) -> str:
        return str((self._seen.get("spec") or {}).get("holderIdentity") or "")

    def _is_valid(self, now_s: float) -> bool:
        return self._seen_s + LEASE_S > now_s

    def _note(self, lease: dict[str, Any]) -> None:
        if lease.get("spec") != self._seen.get("spec"):
            self._seen_s = time.monotonic()
        self._seen = lease

    async def _write(self, old: dict[str, Any]) -> dict[str, Any]:
        spec = old["spec"]
        if spec["holderIdentity"] == self._name:
            new = {**spec, "renewTime": instant(time.time())}
        else:
            new = self._spec(int(spec["leaseTransitions"]) + 1)
        return await self._cluster.replace(LEASES, self._lease.namespace, self._lease.name, {**old, "spec": new})

    def _spec(self, transitions: int) -> dict[str, Any]:
        now = instant(time.time())
        return {
            "holderIdentity": self._name, "leaseDurationSeconds": int(LEASE_S), "acquireTime": now, "renewTime": now,
            "leaseTransitions": transitions,
        }  # fmt: skip


async def main(kubeconfig: str, lease: str, name: str) -> None:
    async with connect(Path(kubeconfig)) as cluster:
        elector = Elector(cluster, ServiceId(*lease.split("/")), name)

        def handle(request: Request) -> Response:
            body = json.dumps({"pod": name, "generation": elector.generation}).encode()
            return Response(body, 200 if elector.generation else 503)

        server = await listen(handle, PORT)
        await elector.run()
        del server


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(*sys.argv[1:]))
