"""Ephemeral containers: started when the API shows them, never again, never taken away (facts/kubernetes.md 6e)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hotswitch.sandbox.cluster import images
from hotswitch.sandbox.cluster.launch import Place
from hotswitch.sandbox.cluster.status import Identity, Status, stamp
from hotswitch.sandbox.process import Process, start

START_ERROR = 128  # the exit code that containerd gives what could not be started


class Ephemeral:
    """One of them. `changed` is called when it ends."""

    def __init__(self, place: Place, identity: Identity, changed: Callable[[], None]) -> None:
        self.place = place
        self._identity, self._changed = identity, changed
        self._began_s = time.monotonic()
        self._ended_s = 0.0
        self._cgroups: tuple[Path, ...] = ()
        self._failure: tuple[str, str] | None = None  # reason and message
        self.process: Process | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def launch(self) -> None:
        """Start it, or find out why it cannot be."""
        image = images.find(self._identity.image)
        if image is None:
            self._failure = ("ErrImagePull", f'failed to pull image "{self._identity.image}": not found')
            return
        words = images.command(self.place.container, image)
        argv = image.argv(words)
        if argv is None:
            self._failure = ("StartError", not_found(words[0]))
            self._ended_s = time.monotonic()
            return
        pod = self.place.pod
        log = pod.directory / f"{self.place.name}.log"
        self._cgroups = pod.make_cgroups(self.place.name)
        self.process = start(pod.estate, self.place.argv(argv), log=log, netns=pod.netns, cgroups=self._cgroups)

    async def watch(self) -> None:
        """Until it has ended."""
        if self.process is not None:
            await self.process.exited()
            self._end_the_rest()
            self._ended_s = time.monotonic()
            self._changed()

    def _end_the_rest(self) -> None:
        """With a container's first process all others end: so does their pid namespace in truth."""
        for cgroup in self._cgroups:
            with contextlib.suppress(OSError):
                for pid in (cgroup / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)

    async def stop(self, grace_s: float) -> None:
        if self.process is not None:
            await self.process.stop(grace_s)

    def status(self) -> Status:
        return {
            "name": self._identity.name,
            "image": self._identity.image,
            "imageID": self._identity.image,
            "ready": False,  # there are no probes
            "restartCount": 0,
            "state": self._state(),
            "lastState": {},
            **({"containerID": self._identity.container_id(0)} if self.process else {}),
        }

    def _state(self) -> Status:
        if self.running:
            return {"running": {"startedAt": stamp(self._began_s)}}
        if self.process is not None:
            code = self.process.returncode or 0
            return self._terminated(code if code >= 0 else 128 - code, "Completed" if code == 0 else "Error")
        if self._failure is None:
            return {"waiting": {"reason": "ContainerCreating"}}
        reason, message = self._failure
        if reason == "StartError":
            return self._terminated(START_ERROR, reason, message)
        return {"waiting": {"reason": reason, "message": message}}

    def _terminated(self, code: int, reason: str, message: str = "") -> Status:
        state = {
            "exitCode": code,
            "reason": reason,
            "startedAt": stamp(self._began_s),
            "finishedAt": stamp(self._ended_s or time.monotonic()),
            "containerID": self._identity.container_id(0),
        }
        state = {"terminated": state | ({"message": message} if message else {})}
        return state


def not_found(program: str) -> str:
    """What a container runtime says."""
    return (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        f'unable to start container process: error during container init: exec: "{program}": executable file not found '
        "in $PATH"
    )
