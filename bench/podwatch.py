"""Whoever watches all pods, in a process of its own: `python -m bench.podwatch ACTOR PODS RESULT`.

ACTOR is hotswitch, kopf or controller. The first two do the same with an event: note how old it is when the callback
has it. The third is the whole controller (only observing, and without asking 15021: these pods have none); it notes how
old an event is when it has decided what it would do about it. "listed" is printed once all pods were seen, "ready" when
it does all that it is there for; at the end of standard input the ages, in milliseconds, are written to RESULT.
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
from hotswitch.cluster.pods import Pod
from hotswitch.model import Facts, Probe, ProbeOutcome

AGES_MS: list[float] = []
SEEN: set[str] = set()


def note(uid: str, at: str, count: int) -> None:
    """A pod was handed to the callback. Events are made only after every pod was seen."""
    if len(SEEN) == count:
        AGES_MS.append((time.monotonic_ns() - int(at)) / 1e6)
        return
    SEEN.add(uid)
    if len(SEEN) == count:
        print("listed\nready", flush=True)


async def end_of_input() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def hotswitch(count: int) -> None:
    """The controller's own watch."""
    from hotswitch.cluster.client import connect
    from hotswitch.cluster.kinds import PODS
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


class Told:
    """In the central prober's place, because these pods have no 15021: it answers, or refuses, as the status says.
    Nobody is asked anything over the network."""

    def __init__(self, pods: dict[str, Pod]) -> None:
        self._pods = pods

    def facts(self, uid: str) -> Facts | None:
        pod, now_s = self._pods.get(uid), asyncio.get_running_loop().time()
        status = pod.container_status("istio-proxy") if pod is not None else None
        if status is None:
            return None
        outcome = ProbeOutcome.OK if status.is_running else ProbeOutcome.REFUSED
        return Facts(at_s=now_s, probes=tuple(Probe(now_s - 1.0, now_s - 0.9, outcome) for _ in range(8)))

    def doubts(self, uid: str) -> bool:
        pod = self._pods.get(uid)
        status = pod.container_status("istio-proxy") if pod is not None else None
        return status is not None and not status.is_running

    def hurry(self, uid: str) -> None: ...

    def watch(self, uid: str, address: str) -> None: ...

    def forget(self, uid: str) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


async def controller(count: int) -> None:
    """`hotswitch controller` as it is, kopf's thread and /metrics included, from the event to the journal's line."""
    import hotswitch.cli.main  # noqa: F401  # it begins as a command, which costs time and memory, too
    from hotswitch.controller.app import Controller
    from hotswitch.controller.operator import operate
    from hotswitch.controller.settings import ControllerSettings
    from hotswitch.report.journal import Entry

    settings = ControllerSettings(kubeconfig=Path(os.environ["KUBECONFIG"]), address="127.0.0.1", port=0)
    async with Controller(settings) as whole:
        decided_on: set[tuple[str, str]] = set()
        began_ns = time.monotonic_ns()  # what fell ill before is no news

        def decided(line: Entry) -> None:
            """The first word on an event; what is said later is about other pods, or about time."""
            pod = whole.picture.pods.get(line.uid)
            event = (line.uid, pod.annotations.get(AT, "0") if pod is not None else "0")
            if line.event == "hold" and event not in decided_on and int(event[1]) > began_ns:
                decided_on.add(event)
                AGES_MS.append((time.monotonic_ns() - int(event[1])) / 1e6)

        whole.eyes, whole.speaker.journal = Told(whole.picture.pods), decided  # type: ignore[assignment, method-assign]
        stop = asyncio.Event()
        work = asyncio.create_task(operate(whole, stop))
        while len(whole.picture.pods) < count:
            await asyncio.sleep(0.005)
        print("listed", flush=True)
        while not whole.elector.leading:  # with a new Lease it waits for the whole of one
            await asyncio.sleep(0.005)
        print("ready", flush=True)
        await end_of_input()
        stop.set()
        await work


if __name__ == "__main__":
    actor = {"hotswitch": hotswitch, "kopf": kopf_operator, "controller": controller}[sys.argv[1]]
    asyncio.run(actor(int(sys.argv[2])))
    Path(sys.argv[3]).write_bytes(msgspec.json.encode(AGES_MS))
