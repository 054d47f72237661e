"""A client that learns from the API server who serves, and says who answered, in the lines of `follow`.

    python -m hotswitch.sandbox.follow_api slices KUBECONFIG NAMESPACE/SERVICE          as kube-proxy: by a watch
    python -m hotswitch.sandbox.follow_api poll KUBECONFIG NAMESPACE/SERVICE            by asking each second
    python -m hotswitch.sandbox.follow_api lease KUBECONFIG NAMESPACE/LEASE NAME=ADDRESS:PORT ...    by who holds it

Each request goes over a connection of its own, as those do that kube-proxy leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hotswitch.backends import ServiceId
from hotswitch.cluster.client import Cluster, connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import ENDPOINTSLICES, LEASES
from hotswitch.cluster.watch import Change, Watcher
from hotswitch.sandbox.ask import ask
from hotswitch.sandbox.follow import POLL_S, named, say
from hotswitch.sandbox.process import die_with_parent
from hotswitch.sandbox.slice_reader import Address, SliceReader, ready, selector

INTERVAL_S = 0.005
TIMEOUT_S = 1.0
Find = Callable[[], Address | None]


@asynccontextmanager
async def by_slices(cluster: Cluster, service: ServiceId) -> AsyncIterator[Find]:
    reader = SliceReader(cluster, service)
    async with reader.watching():
        yield lambda: next(iter(reader.ready), None)


@asynccontextmanager
async def by_asking(cluster: Cluster, service: ServiceId) -> AsyncIterator[Find]:
    known: list[Address] = []

    async def poll() -> None:
        while True:
            with contextlib.suppress(ApiFailure):
                known[:] = ready(
                    await cluster.list(ENDPOINTSLICES, service.namespace, label_selector=selector(service))
                )
            await asyncio.sleep(POLL_S)

    task = asyncio.create_task(poll())
    try:
        yield lambda: next(iter(known), None)
    finally:
        task.cancel()


@asynccontextmanager
async def by_holder(cluster: Cluster, lease: ServiceId, places: dict[str, Address]) -> AsyncIterator[Find]:
    holder = ""

    def heard(change: Change[dict[str, Any]]) -> None:
        nonlocal holder
        if change.object["metadata"]["name"] == lease.name:
            holder = str(change.object["spec"].get("holderIdentity") or "")

    watcher: Watcher[dict[str, Any]] = Watcher(cluster, LEASES, dict, on_event=heard, namespace=lease.namespace)
    task = asyncio.create_task(watcher.run())
    try:
        await watcher.synced.wait()
        yield lambda: places.get(holder)
    finally:
        task.cancel()


async def one(where: Address | None) -> str:
    if where is None:
        return "!nobody"
    try:
        answer = await ask(*where, timeout_s=TIMEOUT_S)
    except OSError as failure:
        return f"!{type(failure).__name__}"
    return named(answer.json()) if answer.status == 200 else f"!{answer.status}"


async def run(find: Find) -> None:
    due_s = time.monotonic()
    while True:
        start_ns = time.monotonic_ns()
        say(start_ns, await one(find()))
        due_s = max(due_s + INTERVAL_S, time.monotonic())
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def main(kind: str, kubeconfig: str, name: str, *places: str) -> None:
    wanted = ServiceId(*name.split("/"))
    async with connect(Path(kubeconfig)) as cluster:
        ways = {
            "slices": lambda: by_slices(cluster, wanted),
            "poll": lambda: by_asking(cluster, wanted),
            "lease": lambda: by_holder(cluster, wanted, dict(map(_place, places))),
        }
        async with ways[kind]() as find:
            await run(find)


def _place(text: str) -> tuple[str, Address]:
    name, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    return name, (host, int(port))


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(*sys.argv[1:]))
