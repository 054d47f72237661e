"""The agent's link to its controller, and the authority that it gives (S4.2, I1, I2, I6).

What was granted is memory (agent.grants, agent.kept), kept over the agent's own end; asking it waits for nobody.
While the link is away, the agent goes on within its last lease: nothing opens after its end, and what is open ends by
then. What is to be said waits meanwhile (agent.outbox). Of the servers whose certificate is good (agent.dialer) it
obeys the one with the newest term.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable

from google.protobuf.message import DecodeError

from hotswitch import __version__
from hotswitch.agent.authority import Grant, PodState, Right
from hotswitch.agent.dialer import CONNECT_WITHIN_S, Dialer, LinkSettings, resolve
from hotswitch.agent.grants import Grants
from hotswitch.agent.kept import Kept, Memory, fresh
from hotswitch.agent.outbox import Outbox
from hotswitch.agent.places import Places, in_words
from hotswitch.agent.questions import Questions
from hotswitch.api.agent.checked import Malformed
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.decide.grants import Lease, Refused, Scope, use
from hotswitch.model import Opinion, PodRef, PodUid
from hotswitch.report.journal import Entry
from hotswitch.rescue.calls import Call

NEWEST, OLDEST = 1, 1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
BEAT_S = 10.0
SILENT_BEATS = 3
KEEP_AFTER_S = 0.1  # what is told within it is written down in one go; a lease at once, before anything is said of it
log = logging.getLogger("hotswitch.agent")


class ControllerAuthority:
    """An authority.Authority. `run` speaks with controllers until it is cancelled; without it the memory decides."""

    def __init__(
        self,
        settings: LinkSettings,
        resolve: Callable[[str], Awaitable[list[str]]] = resolve,
        *,
        beat_s: float = BEAT_S,
    ) -> None:
        self.settings, self._beat_s = settings, beat_s
        self._dialer, self._outbox, self._places = Dialer(settings, resolve), Outbox(), Places()
        self._kept = Kept(settings.kept)
        self._memory: Memory = fresh()
        self._pods: dict[PodUid, tuple[PodRef, Callable[[], None]]] = {}
        self.grants = Grants(self._pods)
        self._questions = Questions()
        self._keeping: asyncio.TimerHandle | None = None
        self._is_answered = False  # by the controller whose link it is
        self.refused: dict[str, int] = {}
        self.failures = 0  # links that could not be made, or ended
        self.connected = asyncio.Event()

    def start(self) -> None:
        """Take up what a predecessor remembered."""
        self._memory = memory = self._kept.read()
        self._places.take_up(memory)
        self.grants.take_up(memory.grants, memory.orders_end_boot_s)

    def close(self) -> None:
        self._keep()
        self._kept.close()

    # ---- authority.Authority ----

    def attach(self, pod: PodRef, changed: Callable[[], None]) -> None:
        self._pods[pod.uid] = pod, changed
        self._outbox.came(pod.uid)

    def detach(self, uid: PodUid) -> None:
        self._questions.forget(uid)
        if self._pods.pop(uid, None) is not None:
            self._outbox.went(uid)

    def grant(self, uid: PodUid) -> Grant | None:
        return self.grants.grant(uid)

    def right(self, pod: PodRef) -> Right:
        return self._places.right(pod, self._used())

    def state(self, uid: PodUid, state: PodState) -> None:
        self._outbox.state(uid, state)

    def acted(self, line: Entry) -> None:
        self._outbox.line(line)

    def ask(self, uid: PodUid, timeout_s: float) -> bool:
        if not (self._is_answered and self.connected.is_set()):
            self._questions.forget(uid)
            return False
        self._outbox.question(self._questions.ask(uid, timeout_s))
        return True

    def opinion(self, uid: PodUid) -> Opinion | None:
        return self._questions.opinion(uid)

    @property
    def lease(self) -> Lease:
        return self._places.lease

    @property
    def dropped(self) -> int:
        return self._outbox.dropped

    def _used(self) -> dict[Scope, int]:
        return use(pod for uid, (pod, _) in self._pods.items() if self._outbox.is_open(uid))

    # ---- the link ----

    async def run(self) -> None:
        """Until cancelled: speak with whoever leads; with patience, and not all agents at once."""
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        while True:
            for address in await self._dialer.addresses():
                began_s = loop.time()
                if await self._spoken(address) and loop.time() - began_s >= LONGEST_PAUSE_S:
                    pause_s = FIRST_PAUSE_S  # who is cut off each time for what it says must not hammer on the door
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _spoken(self, address: str) -> bool:
        """Whether it was a controller that leads, before the link ended."""
        welcomed = False
        try:
            async with self._dialer.call(address) as call:
                await self._talk(call)
        except (OSError, TimeoutError) as failure:  # CallFailed is one, and so is a certificate that is not good
            self.failures += 1
            log.info("link ended", extra={"address": address, "why": str(failure)})
            if isinstance(failure, ssl.SSLError):
                self._count(Refused("certificate", str(failure)))
        except Refused as refused:
            self._count(refused)
        except Exception as failure:  # an agent that does not speak any more hears no withdrawal either
            self.failures += 1
            log.exception("link ended", extra={"address": address, "why": f"{type(failure).__name__}: {failure}"})
        finally:
            welcomed = self.connected.is_set()
            self.connected.clear()
        return welcomed

    async def _talk(self, call: Call) -> None:
        """Until the link ends. Every beat is answered: who is silent for longer is gone. Raises Refused, CallFailed,
        TimeoutError."""
        await call.send(wire.FromAgent(hello=self._hello()).SerializeToString())
        saying: asyncio.Task[None] | None = None
        messages = aiter(call)
        try:
            while True:
                async with asyncio.timeout(SILENT_BEATS * self._beat_s + CONNECT_WITHIN_S):
                    try:
                        message = _read(await anext(messages))
                    except StopAsyncIteration:
                        return
                if saying is None:
                    self._welcome(message)
                    saying = asyncio.get_running_loop().create_task(self._outbox.say(call, self._beat, self._beat_s))
                else:
                    self._hear(message)
        finally:
            if saying is not None:
                saying.cancel()
                await asyncio.gather(saying, return_exceptions=True)

    def _hello(self) -> wire.Hello:
        """Once its lease has run out, the agent minds no leader that was: terms may have begun anew since."""
        places = self._places
        if not places.is_alive:
            places.lease.term = places.lease.serial = 0
            self.grants.forget_terms()
        return wire.Hello(
            newest=NEWEST,
            oldest=OLDEST,
            node=self.settings.node,
            pod_uid=self.settings.pod_uid,
            instance=self._memory.instance,
            software=__version__,
            term=places.lease.term,
            acts_on=places.acts_on,
            places=places.named() if places.is_alive else {},
            drills=True,
        )

    def _beat(self) -> wire.Beat:
        return self._places.beat(self._used(), self.dropped)

    # ---- hearing ----

    def _welcome(self, message: wire.ToAgent) -> None:
        if message.WhichOneof("said") != "welcome":
            raise Refused("malformed", "the first word is no welcome")
        welcome = message.welcome
        if not OLDEST <= welcome.version <= NEWEST:
            raise Refused("version", f"it speaks version {welcome.version}, and this agent {OLDEST} to {NEWEST}")
        self.lease.heard(welcome.term)
        if 0.1 <= welcome.beat_s <= 60.0:
            self._beat_s = min(self._beat_s, welcome.beat_s)
        self._is_answered = welcome.answers
        self._outbox.begin_anew(confirms=welcome.confirms)
        self.connected.set()

    def _hear(self, message: wire.ToAgent) -> None:
        """Raises Refused for a controller that is not to be heard any further; what is merely old is passed over."""
        try:
            match message.WhichOneof("said"):
                case "allotment":
                    self._take(message.allotment)
                case "grant":
                    self._hear_grant(message.grant)
                case "withdrawal":
                    self._withdraw(message.withdrawal)
                case "opinion":
                    if self._questions.hear(message.opinion):
                        self._tell(PodUid(message.opinion.uid))
                case "written":
                    self._outbox.written(PodUid(message.written.uid), message.written.up_to)
        except Malformed as failure:
            raise Refused("malformed", str(failure)) from failure
        except Refused as refused:
            if refused.reason in ("old-term", "invalid"):
                raise
            self._count(refused)

    def _count(self, refused: Refused) -> None:
        self.refused[refused.reason] = self.refused.get(refused.reason, 0) + 1
        log.warning("controller not obeyed", extra={"reason": refused.reason, "why": str(refused)})

    def _take(self, message: wire.Allotment) -> None:
        before = self.lease.places
        moved = self._places.take(message)
        self._keep()
        if before != self.lease.places:  # less than before is free for others only once this is said
            self._outbox.beat_soon()
        if moved:
            self._tell_all()

    def _hear_grant(self, message: wire.PodGrant) -> None:
        """One that cannot be read leaves the pod's last one as it is, and all others alone."""
        self.lease.heard(message.term)
        self.grants.must_be_newer(message)
        try:
            uid = self.grants.take(message)
        except Malformed as failure:
            raise Refused(
                "malformed", f"grant {message.term}/{message.version} of {message.uid}: {failure}"
            ) from failure
        self._keep_soon()
        self._tell(uid)

    def _withdraw(self, message: wire.Withdrawal) -> None:
        self.lease.heard(message.term)
        self.grants.must_be_newer(message)
        self._keep_soon()
        self._tell(self.grants.withdraw(message))

    def _tell(self, uid: PodUid) -> None:
        """What goes wrong with one pod keeps no other one from being told."""
        if uid not in self._pods:  # not guarded yet, or its guard has just seen that it is gone
            return
        pod, changed = self._pods[uid]
        try:
            changed()
        except Exception:
            log.exception("grant not taken", extra={"pod": str(pod)})

    def _tell_all(self) -> None:
        for uid in list(self._pods):
            self._tell(uid)

    def _keep_soon(self) -> None:
        """Grants come by the hundred, and the file is written as a whole."""
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().call_later(KEEP_AFTER_S, self._keep)

    def _keep(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        lease = self.lease
        memory = Memory(
            boot=self._memory.boot,
            instance=self._memory.instance,
            term=lease.term,
            serial=lease.serial,
            acts_on=lease.acts_on,
            beats=lease.beats,
            places=in_words(lease.places),
            ends_boot_s=lease.ends_s if lease.places else 0.0,
            grants=self.grants.raw,
            orders_end_boot_s=self.grants.orders_end_boot_s,
        )
        try:
            self._kept.write(memory)
        except OSError as failure:
            log.warning("memory not kept", extra={"why": str(failure)})


def _read(raw: bytes) -> wire.ToAgent:
    """Raises Refused."""
    message = wire.ToAgent()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise Refused("malformed", "what it sends is no message of ours") from None
    return message
