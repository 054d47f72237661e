"""What the API server asks of the node that runs a pod: a command, an ephemeral container, a log."""

from __future__ import annotations

from typing import Protocol

from hotswitch.sandbox.kubeapi.failure import Obj


class Channels(Protocol):
    """The streams of one command."""

    async def read(self) -> bytes:
        """What comes on stdin; b"" at its end, or when the client has not asked for stdin."""

    async def stdout(self, data: bytes) -> None: ...

    async def stderr(self, data: bytes) -> None: ...


class CannotRun(Exception):
    """The command was not started: no such container, no such program. The text is for the client."""


class NodeBackend(Protocol):
    """The node side. Pods are whole objects as of the moment of the request."""

    async def exec(self, pod: Obj, container: str, argv: list[str], channels: Channels) -> int:
        """Run it and return its exit code. Raises CannotRun. Cancelled when the client goes away."""

    async def start_ephemeral(self, pod: Obj, container: Obj) -> None:
        """A container was added to the pod's spec; its status is the node's to write."""

    async def log(self, pod: Obj, container: str) -> bytes:
        """All of it so far. Raises CannotRun when there is no such container."""


class NoNode:
    """Nothing runs any pod."""

    async def exec(self, pod: Obj, container: str, argv: list[str], channels: Channels) -> int:
        raise CannotRun(_nobody(pod))

    async def start_ephemeral(self, pod: Obj, container: Obj) -> None:
        return None

    async def log(self, pod: Obj, container: str) -> bytes:
        raise CannotRun(_nobody(pod))


def _nobody(pod: Obj) -> str:
    return f"pod {pod['metadata']['name']} does not have a host assigned"
