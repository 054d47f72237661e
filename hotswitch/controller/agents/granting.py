"""Each agent is told what may be done for each of its pods, and again whenever that has changed (I2).

A grant is the pod's settings, cut by the preflight, as a worker of the controller would have them. What an agent cannot
do is taken off: `direct` inbound where meshed clients must be told first to speak plaintext. A pod whose settings leave
agents out is withdrawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import msgspec

from hotswitch.api.agent.grants import override_message, policy_message
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.api.drills import Told
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.agents.desk import Desk
from hotswitch.controller.agents.present import Agent
from hotswitch.controller.means import Protection
from hotswitch.model import Level, Mode, PodRef

AGENT = "agent"
AT_ONCE = 8
AGAIN_S = 5.0
log = logging.getLogger("hotswitch.agents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`protection` None: the pod is not looked after (any longer)."""

    protection: Protection | None
    trust_domain: str = "cluster.local"
    drill: Told | None = None  # one that is under way


class Granting:
    """`settings(pod)`: as they are now; may raise ApiFailure, and is then asked again."""

    def __init__(self, desk: Desk, settings: Callable[[PodRef], Awaitable[Settings]]) -> None:
        self._desk, self._settings = desk, settings
        self._waiting: dict[str, PodRef] = {}
        self._sent: dict[tuple[str, str], bytes] = {}  # agent and pod -> what it was told
        self._version = 0
        self._ready = asyncio.Event()

    def all_of(self, agent: Agent) -> None:
        """A link begins: whatever it was told before, it is told again."""
        pods = self._desk.pods_of(agent)
        for pod in pods:
            self._sent.pop((agent.name, pod.uid), None)
        self.changed(pods)

    def changed(self, pods: Iterable[PodRef]) -> None:
        self._waiting |= {pod.uid: pod for pod in pods}
        self._ready.set()

    def forget(self, uid: str) -> None:
        self._waiting.pop(uid, None)
        self._sent = {key: sent for key, sent in self._sent.items() if key[1] != uid}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._ready.clear()
                await self._ready.wait()
            uid, pod = next(iter(self._waiting.items()))
            del self._waiting[uid]
            try:
                await self._tell(pod)
            except ApiFailure:
                self._again(pod)
            except Exception:  # else one odd pod would end the granting for all others, and the controller
                log.exception("grant not made", extra={"pod": str(pod)})
                self._again(pod)

    def _again(self, pod: PodRef) -> None:
        asyncio.get_running_loop().call_later(AGAIN_S, self.changed, [pod])

    async def _tell(self, pod: PodRef) -> None:
        agent = self._desk.agent_of(pod.uid)
        if agent is None:
            return
        found = await self._settings(pod)
        term = self._desk.term
        if self._desk.agent_of(pod.uid) is not agent or term is None:
            return
        message = self._message(pod, found)
        sent = _without_time(message).SerializeToString(deterministic=True)
        if self._sent.get((agent.name, pod.uid)) == sent:
            return
        self._sent[agent.name, pod.uid] = sent
        self._version += 1
        told = message.grant if message.WhichOneof("said") == "grant" else message.withdrawal
        told.uid, told.term, told.version = pod.uid, term, self._version
        agent.link.send(message)

    def _message(self, pod: PodRef, found: Settings) -> wire.ToAgent:
        protection = found.protection
        if protection is None:
            return wire.ToAgent(withdrawal=wire.Withdrawal(why="the pod is not looked after"))
        if AGENT not in protection.actuators and protection.policy.mode is Mode.AUTO:
            return wire.ToAgent(withdrawal=wire.Withdrawal(why="its settings do not let agents act"))
        grant = grant_of(pod, protection, found.trust_domain)
        if found.drill is not None:
            grant.drill.CopyFrom(wire.DrillOrder(id=found.drill.id, for_s=found.drill.for_s, by=found.drill.by))
        return wire.ToAgent(grant=grant)


def grant_of(pod: PodRef, protection: Protection, trust_domain: str) -> wire.PodGrant:
    policy = protection.policy
    if protection.preflight.flip:
        policy = replace(policy, inbound=tuple(each for each in policy.inbound if each is not Level.DIRECT))
    account = (protection.manifest.get("spec") or {}).get("serviceAccountName") or "default"
    grant = wire.PodGrant(
        policy=policy_message(policy),
        authorization=[msgspec.json.encode(dict(each)).decode() for each in protection.preflight.authorization],
        spiffe_id=f"spiffe://{trust_domain}/ns/{pod.namespace}/sa/{account}",
        trust_domains=[trust_domain],
    )
    if protection.override is not None:
        now_s = asyncio.get_running_loop().time()
        grant.override.CopyFrom(override_message(protection.override, now_s))
    return grant


def _without_time(message: wire.ToAgent) -> wire.ToAgent:
    """What is compared: that time passes is no news."""
    same = wire.ToAgent()
    same.CopyFrom(message)
    if same.WhichOneof("said") == "grant" and same.grant.HasField("override"):
        now_s = 0.0
        with contextlib.suppress(RuntimeError):
            now_s = asyncio.get_running_loop().time()
        same.grant.override.left_s = round(same.grant.override.left_s + now_s)
    return same
