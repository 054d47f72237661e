"""`hotswitch agent --pod`: the agent of the pod that it lives in (S4.2, I1).

It is in the right namespace already, so it needs neither SYS_ADMIN nor anything of the node's /proc; its gid is the one
that Istio's rules exempt, so that it is heard while the proxy is dead. Beside that it is the agent of a node with one
pod, decides for itself within its grant, and stays as long as a gate leads to its rescue and the app is there.
"""

from __future__ import annotations

import asyncio
import contextlib

from hotswitch.agent.authority import Authority, surroundings
from hotswitch.agent.granted import GrantedGuard
from hotswitch.agent.guard import Guard
from hotswitch.agent.helper import HelperAgent, proxy_beside
from hotswitch.agent.linked import speaking
from hotswitch.agent.pod.settings import PodSettings
from hotswitch.agent.spare import Spare
from hotswitch.config.agentfile import Pod
from hotswitch.model import Surroundings
from hotswitch.rescue.service import Rescue


class PodAgent(HelperAgent):
    """Raises as Agent."""

    def __init__(self, settings: PodSettings, authority: Authority) -> None:
        super().__init__(settings.agent_file())
        self.authority = authority
        self.journal.heard = authority.acted
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        await self._stack.enter_async_context(speaking(self.authority))
        await super().start()

    async def close(self) -> None:
        await self._stack.aclose()  # first: else the controller is told that the pod is gone, and only we are
        await super().close()

    def _begin(self, spare: Spare) -> None:
        """Its guard begins, once a grant says what the rescue must keep up."""

    async def _settle(self, rescue: Rescue) -> None:
        """What the rescue has from before is this pod's."""

    def _guard(self, pod: Pod, spare: Spare) -> Guard:
        spec = self.specs[pod.uid]
        return GrantedGuard(pod, spec, self._means(), spare, self.authority, container=proxy_beside(spec))

    def _surroundings(self, guard: Guard) -> Surroundings:
        now_s = asyncio.get_running_loop().time()
        return surroundings(guard, self._neighbours, self.authority.right(guard.pod), now_s=now_s)


def made(settings: PodSettings) -> PodAgent:
    """Raises ConfigError or OSError before anything has been changed."""
    return PodAgent(settings, settings.authority(settings.directory, pod_uid=settings.uid))
