"""What must be in place before a fault: the helper in each pod to be rescued, put there while its proxy is well.

A pod's identity can be fetched only from a proxy that lives, so later is too late for `rescue`. Few at a time, and only
by the leader; a helper that has ended is said and never replaced, because an ephemeral container stays for good.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from hotswitch.act.order import Actuator
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.picture import Picture
from hotswitch.model import OPEN_LEVELS, Mode

AT_ONCE = 4
AGAIN_S = 30.0
BY = "helper"


class Preparing:
    def __init__(self, picture: Picture, actuators: Mapping[str, Actuator], say: Callable[[str], None]) -> None:
        self._picture, self._helper, self._say = picture, actuators.get(BY), say
        self._wanted: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._said: dict[str, str] = {}

    def consider(self, uid: str) -> None:
        """It is new, or its settings have changed."""
        if self._helper is not None and uid not in self._waiting:
            self._waiting.add(uid)
            self._wanted.put_nowait(uid)

    def start(self) -> None:
        for uid in self._picture.pods:
            self.consider(uid)
        self._tasks = [asyncio.get_running_loop().create_task(self._work()) for _ in range(AT_ONCE)]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _work(self) -> None:
        while True:
            uid = await self._wanted.get()
            self._waiting.discard(uid)
            with contextlib.suppress(KeyError):  # the pod went while it was looked at
                await self._prepare(uid)

    async def _prepare(self, uid: str) -> None:
        pod = self._picture.pod(uid)
        if pod is None or pod.helper == "running" or pod.life.terminating or not pod.life.ever_ready:
            return
        try:
            protection = await self._picture.protection(pod)
            levels = {*protection.policy.inbound, *protection.policy.outbound}
            if protection.policy.mode is not Mode.AUTO or BY not in protection.actuators or not levels & OPEN_LEVELS:
                return
            assert self._helper is not None
            missing = await self._helper.prepare(protection.target(pod))
        except ApiFailure as failure:
            missing = str(failure)
        self._picture.forget(uid)  # whole manifests of thousands of pods are not kept for a fault of one
        self._note(uid, f"{pod.ref}: {missing}" if missing else "")

    def _note(self, uid: str, sentence: str) -> None:
        """Said once; tried again, because what is missing may come."""
        if sentence and self._said.get(uid) != sentence:
            self._say(sentence)
        self._said[uid] = sentence
        if sentence:
            asyncio.get_running_loop().call_later(AGAIN_S, self.consider, uid)
        else:
            self._said.pop(uid, None)
