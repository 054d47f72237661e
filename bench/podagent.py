"""The agent of one pod as the injection template has it: in the pod's network, alone with its own processes and mounts,
root with the exempt group and five capabilities, obeying a controller."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from bench.fleet import BenchFailed
from hotswitch.api.names import HELPER_CAPABILITIES
from hotswitch.sandbox.cluster.rights import Rights
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.podfiles import for_own_agent
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.protector import JournalTail, asked
from hotswitch.sandbox.sandbox import Sandbox
from hotswitch.sandbox.sidecar import PROXY_GID

POLL_S = 0.05


class PodAgent:
    """`obeys`: variables that name the controller; `token`: what is shown to it. `shares_pids`: as in a pod with
    shareProcessNamespace; on this machine it then sees all processes of it."""

    def __init__(
        self, box: Sandbox, pod: Pod, obeys: Mapping[str, str], token: str, *, shares_pids: bool = False
    ) -> None:
        self._box, self._pod = box, pod
        self._directory = box.estate.directory / f"agent-in-{pod.name}"
        self._obeys, self._token, self._shares_pids = obeys, token, shares_pids
        self.journal = JournalTail(self._directory / "journal.jsonl")
        self._process: Process | None = None

    def start(self) -> None:
        self._directory.mkdir()
        (self._directory / "token").write_text(self._token)
        rights = Rights(gid=PROXY_GID, capabilities=HELPER_CAPABILITIES, no_new_privileges=True)
        words = [f"{key}={value}" for key, value in self._environment().items()]
        program = rights.argv((sys.executable, "-m", "hotswitch.cli.start", "agent", "--pod"))
        apart = () if self._shares_pids else ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        argv = (*apart, "env", *words, *program)
        cgroups = self._box.estate.make_cgroups(f"agent-in-{self._pod.name}")[-1:]
        log = self._directory / "log"
        self._process = start(self._box.estate, argv, log=log, netns=self._pod.netns, cgroups=cgroups)

    def _environment(self) -> dict[str, str]:
        return {
            **for_own_agent(self._pod.agent_config({}), self._directory),
            "HOTSWITCH_TOKEN": str(self._directory / "token"),
            **self._obeys,
        }

    async def guards(self, timeout_s: float) -> None:
        """Wait until its pod is well, and rescue and gate are ready. Raises BenchFailed."""
        status: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._process is not None and self._process.running:
                    with contextlib.suppress(OSError, ValueError):
                        answer = await asked(self._directory / "agent.sock", {"verb": "status"})
                        status = next(iter(answer["pods"]), {})
                    if status.get("fault") == "well" and status["rescue"] == status["gate"] == "ready":
                        return
                    await asyncio.sleep(POLL_S)
        words = (self._directory / "log").read_text()[-2000:]
        raise BenchFailed(f"the agent in {self._pod.name} does not guard it: {status}; {words}")

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(patience_s=3.0)
