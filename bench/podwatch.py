"""Whoever watches all pods, in a process of its own: `python -m bench.podwatch (hotswitch|kopf) PODS RESULT`.

Both do the same with an event: note how old it is when the callback has it. "listed" is printed once all pods were
seen; at the end of standard input the ages, in milliseconds, are written to RESULT.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.injected import AT

AGES_MS: list[float] = []
SEEN: set[str] = set()


def note(uid: str, at: str, count: int) -> None:
    """A pod was handed to the callback. Events are made only after every pod was seen."""
    if len(SEEN) == count:
        AGES_MS.append((time.monotonic_ns() - int(at)) / 1e6)
        return
    SEEN.add(uid)
    if len(SEEN) == count:
        print("listed", flush=True)


async def end_of_input() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def hotswitch(count: int) -> None:
    """The controller's own watch."""
    from hotswitch.cluster.client import connect
    from hotswitch.cluster.kinds import PODS
    from hotswitch.cluster.pods import Pod
    from hotswitch.cluster.watch import Change, Watcher

    def on_event(change: Change[Pod]) -> None:
        note(change.object.uid, change.object.annotations.get(AT, "0"), count)

    async with connect(Path(os.environ["KUBECONFIG"])) as cluster:
        watch = asyncio.create_task(Watcher(cluster, PODS, Pod, on_event=on_event).run())
        await end_of_input()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def kopf_operator(count: int) -> None:
    """As its documentation begins: one handler for all events of all pods."""
    import kopf

    @kopf.on.event("pods")
    async def handler(body: Any, **_: Any) -> None:
        metadata = body["metadata"]
        note(metadata["uid"], metadata["annotations"].get(AT, "0"), count)

    stop = asyncio.Event()
    operator = asyncio.create_task(kopf.operator(standalone=True, clusterwide=True, stop_flag=stop))
    await end_of_input()
    stop.set()
    await operator


if __name__ == "__main__":
    actor = {"hotswitch": hotswitch, "kopf": kopf_operator}[sys.argv[1]]
    asyncio.run(actor(int(sys.argv[2])))
    Path(sys.argv[3]).write_bytes(msgspec.json.encode(AGES_MS))
