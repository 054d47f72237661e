"""What must be in place before a fault: the helper in each pod to be rescued, put there while its proxy is well.

A pod's identity can be fetched only from a proxy that lives, so later is too late for `rescue`. Few at a time, and only
by the leader; a helper that has ended is said and never replaced, because an ephemeral container stays for good. A pod
is looked at again, later and later, while something is missing, be it only that its proxy was never ready yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from hotswitch.act.order import Actuator
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.picture import Picture
from hotswitch.model import OPEN_LEVELS, Mode

AT_ONCE = 4
AGAIN_S = 1.0  # an API server that was away for a moment leaves no pod unprotected for longer
UNREADY_S = 30.0
SELDOM_S = 1800.0  # at last: each look reads the pod, and what is missing may be missing for thousands
BY = "helper"
NEVER_READY = "its proxy was never ready yet"  # of every pod that starts: not said
log = logging.getLogger("hotswitch.controller")


class Preparing:
    def __init__(self, picture: Picture, actuators: Mapping[str, Actuator], say: Callable[[str], None]) -> None:
        self._picture, self._helper, self._say = picture, actuators.get(BY), say
        self._wanted: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._said: dict[str, str] = {}
        self._again: dict[str, tuple[float, asyncio.TimerHandle]] = {}  # after how long it is looked at again, and when

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
        for _, timer in self._again.values():
            timer.cancel()
        self._again.clear()
        self._tasks = []

    async def _work(self) -> None:
        while True:
            uid = await self._wanted.get()
            self._waiting.discard(uid)
            try:
                self._note(uid, await self._missing(uid))
            except Exception:  # one pod that nobody foresaw is no reason to prepare no other
                log.exception("prepare failed", extra={"uid": uid})

    async def _missing(self, uid: str) -> str:
        """What keeps the pod from being ready for a fault; "" for nothing, or nothing that could be helped."""
        pod = self._picture.pod(uid)
        if pod is None or pod.helper == "running" or pod.life.terminating:
            return ""
        if not pod.life.ever_ready:
            return NEVER_READY
        try:
            protection = await self._picture.protection(pod)
            levels = {*protection.policy.inbound, *protection.policy.outbound}
            if protection.policy.mode is not Mode.AUTO or BY not in protection.actuators or not levels & OPEN_LEVELS:
                return ""
            assert self._helper is not None
            missing = await self._helper.prepare(protection.target(pod))
        except ApiFailure as failure:
            missing = str(failure)
        finally:
            self._picture.forget(uid)  # whole manifests of thousands of pods are not kept for a fault of one
        return f"{pod.ref}: {missing}" if missing else ""

    def _note(self, uid: str, missing: str) -> None:
        """Said once; tried again, because what is missing may come."""
        if not missing or self._picture.pod(uid) is None:
            self._said.pop(uid, None)
            if (known := self._again.pop(uid, None)) is not None:
                known[1].cancel()
            return
        if missing != NEVER_READY and self._said.get(uid) != missing:
            self._say(missing)
            self._said[uid] = missing
        self._try_again(uid, UNREADY_S if missing == NEVER_READY else SELDOM_S)

    def _try_again(self, uid: str, most_s: float) -> None:
        """One timer for a pod, however often it is considered."""
        pause_s = AGAIN_S
        if (known := self._again.get(uid)) is not None:
            known[1].cancel()
            pause_s = min(most_s, 2 * known[0])
        self._again[uid] = pause_s, asyncio.get_running_loop().call_later(pause_s, self.consider, uid)
