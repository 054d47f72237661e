"""Commands in containers of sandbox pods, for pods/exec: really run, with the container's namespaces and rights.

What cannot be started is refused in a runtime's words; who asks has to live with them. A client that goes away does not
stop its command, as in a cluster: what it did meanwhile is found out by looking (facts/kubernetes.md 3).
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from typing import Any

from hotswitch.sandbox.cluster import images
from hotswitch.sandbox.cluster.launch import Place
from hotswitch.sandbox.cluster.node import Node
from hotswitch.sandbox.kubeapi.backend import CannotRun, Channels
from hotswitch.sandbox.process import environment

CHUNK = 32 * 1024


class Commands:
    """The embedded API's backend (kubeapi.backend.NodeBackend) for the pods of `node`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._left: set[asyncio.Task[Any]] = set()

    async def exec(self, pod: dict[str, Any], container: str, argv: list[str], channels: Channels) -> int:
        """Raises CannotRun."""
        place, enter = self._place(pod, container)
        image = images.find(place.container["image"])
        program = image.argv(argv) if image is not None else None
        if program is None:
            raise CannotRun(_not_found(argv[0]))
        child = await asyncio.create_subprocess_exec(
            *place.argv(program, enter, inside=True), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment()
        )
        place.pod.estate.record(child.pid)
        return await self._followed(child, channels)

    async def _followed(self, child: asyncio.subprocess.Process, channels: Channels) -> int:
        assert child.stdin and child.stdout and child.stderr
        feeding = asyncio.create_task(_feed(child.stdin, channels))
        try:
            await asyncio.gather(_pump(child.stdout, channels.stdout), _pump(child.stderr, channels.stderr))
            code = await child.wait()
        except BaseException:
            self._leave(child)
            raise
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return code if code >= 0 else 128 - code

    def _leave(self, child: asyncio.subprocess.Process) -> None:
        """Let it run on; nobody reads what it says."""
        task = asyncio.ensure_future(child.communicate())
        self._left.add(task)
        task.add_done_callback(self._left.discard)

    def _place(self, pod: dict[str, Any], container: str) -> tuple[Place, int | None]:
        """Where to run, and which process's mount namespace to enter (an ephemeral container has its own)."""
        metadata = pod["metadata"]
        published = self._node.pods.get((metadata["namespace"], metadata["name"]))
        place = published.place(container) if published is not None else None
        pid = published.pid_of(container) if published is not None else None
        if published is None or place is None or pid is None:
            raise CannotRun(f'container not found ("{container}")')
        return place, pid if container in published.ephemeral else None

    async def start_ephemeral(self, pod: dict[str, Any], container: dict[str, Any]) -> None:
        """The kubelet sees it in its watch."""

    async def log(self, pod: dict[str, Any], container: str) -> bytes:
        """Raises CannotRun."""
        metadata = pod["metadata"]
        published = self._node.pods.get((metadata["namespace"], metadata["name"]))
        if published is None or published.place(container) is None:
            raise CannotRun(f'container "{container}" in pod "{metadata["name"]}" is not available')
        name = "pilot" if container == "istio-proxy" else container
        with contextlib.suppress(OSError):
            return await asyncio.to_thread((published.pod.directory / f"{name}.log").read_bytes)
        return b""

    async def stop(self) -> None:
        for task in self._left:
            task.cancel()
        await asyncio.gather(*self._left, return_exceptions=True)


async def _pump(stream: asyncio.StreamReader, to: Callable[[bytes], Awaitable[None]]) -> None:
    while data := await stream.read(CHUNK):
        await to(data)


async def _feed(stream: asyncio.StreamWriter, channels: Channels) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await channels.read():
            stream.write(data)
            await stream.drain()
        stream.close()


def _not_found(program: str) -> str:
    return (
        "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: unable to start "
        f'container process: exec: "{program}": executable file not found in $PATH'
    )
