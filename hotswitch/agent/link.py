"""The agent's link to its controller, and the authority that it gives (S4.2, I1, I2, I6).

What was granted is memory, kept over the agent's own end; asking it waits for nobody. While the link is away, the agent
goes on within its last lease: nothing opens after its end, and what is open ends by then. What is to be said waits in
bounded buffers: of a pod's state the newest, of the journal the last LINES_AT_MOST lines; what is dropped is counted.

Whom it obeys: a server whose certificate is vouched for by the CA that the agent was given, under the name that it
asked for; of such servers the one with the newest term.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from hotswitch import __version__
from hotswitch.agent.authority import NO_RIGHT, Grant, PodState, Right
from hotswitch.agent.kept import Kept, Memory, boot_s, fresh
from hotswitch.api.agent.checked import Malformed, count, seconds
from hotswitch.api.agent.grants import override_of, policy_of
from hotswitch.api.agent.reports import ability_message, diagnosis_message, standing_message
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.decide.grants import Allotment, Lease, Refused, Scope, scopes_of, use
from hotswitch.model import Mode, PodRef, PodUid, Policy
from hotswitch.report.journal import Entry
from hotswitch.report.lines import line_message
from hotswitch.rescue.calls import Call, Line

METHOD = "/hotswitch.agent.v1.AgentLink/Speak"
NEWEST, OLDEST = 1, 1
LINES_AT_MOST = 2048
STRANGERS_AT_MOST = 1000  # pods that are not guarded here (any longer), whose grants are remembered
LIFE_AT_MOST_S = 3600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
RECEIVED_BYTES = 4 * 2**20
BEAT_S = 10.0
SILENT_BEATS = 3
BEATS_SKIPPED = 2**20
"""By a process that goes on with what another one remembered: that one has sent more than it had written down."""
CONNECT_WITHIN_S = 10.0
log = logging.getLogger("hotswitch.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """`addresses`: host:port, each of which may have several addresses; the agent tries them all, for one leads.
    `authority`: PEM of the CA that vouches for controllers; None: plaintext, for tests on loopback. `server_name`:
    whose certificate it must be; "": the host's. `certificate`, `key`: the agent's own, where the controller asks for
    one. `token`: of the audience hotswitch-agent, read anew each time. `kept`: the file of agent.kept."""

    node: str = ""
    pod_uid: str = ""
    addresses: tuple[str, ...]
    token: Path
    authority: Path | None = None
    server_name: str = ""
    certificate: Path | None = None
    key: Path | None = None
    kept: Path | None = None


async def resolve(address: str) -> list[str]:
    """All addresses behind a name. Raises OSError."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return list(dict.fromkeys(f"[{each[4][0]}]:{port}" if ":" in str(each[4][0]) else f"{each[4][0]}:{port}"
                              for each in found))  # fmt: skip


def _authorization(text: str) -> dict[str, Any]:
    """Raises Malformed."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as failure:
        raise Malformed(f"authorization: {text[:40]!r}: {failure}") from failure


def _aged(grant: wire.PodGrant, order_ends_boot_s: float | None) -> wire.PodGrant:
    """As it is now: a person's order has become shorter since it was told, or has ended (I4)."""
    if grant.HasField("override"):
        grant.override.left_s = (order_ends_boot_s or 0.0) - boot_s()
        if grant.override.left_s <= 0:
            grant.ClearField("override")
    return grant


class ControllerAuthority:
    """An authority.Authority. `run` speaks with controllers until it is cancelled; without it the memory decides."""

    def __init__(
        self,
        settings: LinkSettings,
        resolve: Callable[[str], Awaitable[list[str]]] = resolve,
        *,
        beat_s: float = BEAT_S,
    ) -> None:
        self.settings, self._resolve, self._beat_s = settings, resolve, beat_s
        self._kept = Kept(settings.kept)
        self._memory: Memory = fresh()
        self.lease = Lease()
        self._grants: dict[PodUid, tuple[tuple[int, int], Grant]] = {}
        self._raw: dict[str, bytes] = {}
        self._orders_end_boot_s: dict[str, float] = {}
        self._pods: dict[PodUid, tuple[PodRef, Callable[[], None]]] = {}
        self._states: dict[PodUid, PodState] = {}
        self._frozen = ""
        self._mates: dict[Scope, tuple[float, ...]] = {}
        self._lines: deque[Entry] = deque()
        self._unsaid: set[PodUid] = set()
        self._left: set[PodUid] = set()
        self._beat_due = True
        self.dropped = 0
        self.refused: dict[str, int] = {}
        self.failures = 0  # links that could not be made, or ended
        self.connected = asyncio.Event()
        self._wake = asyncio.Event()
        self._known: list[str] = []

    def start(self) -> None:
        """Take up what a predecessor remembered."""
        self._memory = memory = self._kept.read()
        self.lease = Lease(
            term=memory.term, serial=memory.serial, acts_on=memory.acts_on, beats=memory.beats + BEATS_SKIPPED,
            ends_s=memory.ends_boot_s if memory.places else -math.inf,
            places={Scope(name): number for name, number in memory.places.items()},
        )  # fmt: skip
        for uid, raw in memory.grants.items():  # of whatever leader: each stands until a newer one is told
            with contextlib.suppress(DecodeError, Malformed):
                self._know(_aged(wire.PodGrant.FromString(raw), memory.orders_end_boot_s.get(uid)))

    def close(self) -> None:
        self._keep()
        self._kept.close()

    # ---- authority.Authority ----

    def attach(self, pod: PodRef, changed: Callable[[], None]) -> None:
        self._pods[pod.uid] = pod, changed
        self._left.discard(pod.uid)

    def detach(self, uid: PodUid) -> None:
        if self._pods.pop(uid, None) is None:
            return
        self._states.pop(uid, None)
        self._unsaid.discard(uid)
        self._left.add(uid)
        self._due()

    def grant(self, uid: PodUid) -> Grant | None:
        known = self._grants.get(uid)
        return known[1] if known is not None else None

    def right(self, pod: PodRef) -> Right:
        scopes = scopes_of(pod)
        places = self.lease.places
        if not places:
            return NO_RIGHT
        mesh, near, own = (places.get(scope, 0) for scope in scopes)
        return Right(
            node=mesh,
            namespace=near,
            workload=own,
            until_s=self.lease.until_s(scopes, self._used()) - boot_s() + asyncio.get_running_loop().time(),
            frozen=self._frozen,
            mates_fell_ill_s=self._mates.get(scopes[2], ()),
        )

    def state(self, uid: PodUid, state: PodState) -> None:
        before = self._states.get(uid)
        self._states[uid] = state
        self._unsaid.add(uid)
        if (before is not None and before.standing.is_open) is not state.standing.is_open:
            self._beat_due = True
        self._wake.set()

    def acted(self, line: Entry) -> None:
        if len(self._lines) >= LINES_AT_MOST:
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._wake.set()

    def _due(self) -> None:
        self._beat_due = True
        self._wake.set()

    def _used(self) -> dict[Scope, int]:
        return use(
            pod for uid, (pod, _) in self._pods.items() if uid in self._states and self._states[uid].standing.is_open
        )

    # ---- the link ----

    async def run(self) -> None:
        """Until cancelled: speak with whoever leads; with patience, and not all agents at once."""
        loop, pause_s = asyncio.get_running_loop(), FIRST_PAUSE_S
        while True:
            for address in await self._addresses():
                began_s = loop.time()
                if await self._spoken(address) and loop.time() - began_s >= LONGEST_PAUSE_S:
                    pause_s = FIRST_PAUSE_S  # who is cut off each time for what it says must not hammer on the door
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _addresses(self) -> list[str]:
        """As they were, when names cannot be asked (I1)."""
        found: list[str] = []
        for each in self.settings.addresses:
            with contextlib.suppress(OSError, ValueError):
                found += await self._resolve(each)
        self._known = found or self._known
        return random.sample(self._known, len(self._known))

    async def _spoken(self, address: str) -> bool:
        """Whether it was a controller that leads, before the link ended."""
        welcomed = False
        try:
            token = self._token()  # before there is anything to be closed
            line = await self._connected(address)
            listening = asyncio.get_running_loop().create_task(line.listen())
            try:
                call = line.call(METHOD, scheme="https", host=self._name, authorization=f"Bearer {token}")
                await self._talk(call)
            finally:
                welcomed = self.connected.is_set()
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
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
            self.connected.clear()
        return welcomed

    async def _connected(self, address: str) -> Line:
        """Raises OSError, TimeoutError."""
        host, _, port = address.rpartition(":")
        tls = self._tls()
        async with asyncio.timeout(CONNECT_WITHIN_S):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=tls, server_hostname=self._name if tls is not None else None
            )
        return Line(reader, writer, RECEIVED_BYTES)

    @property
    def _name(self) -> str:
        """Whose certificate the controller must show."""
        return self.settings.server_name or self.settings.addresses[0].rpartition(":")[0].strip("[]")

    def _tls(self) -> ssl.SSLContext | None:
        """Read anew each time: Secrets are renewed in place. Raises OSError."""
        settings = self.settings
        if settings.authority is None:
            return None
        context = ssl.create_default_context(cafile=str(settings.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
        return context

    def _token(self) -> str:
        """Raises OSError."""
        return self.settings.token.read_text().strip()

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
                        message = self._read(await anext(messages))
                    except StopAsyncIteration:
                        return
                if saying is None:
                    self._welcome(message)
                    saying = asyncio.get_running_loop().create_task(self._say(call))
                else:
                    self._hear(message)
        finally:
            if saying is not None:
                saying.cancel()
                await asyncio.gather(saying, return_exceptions=True)

    def _read(self, raw: bytes) -> wire.ToAgent:
        message = wire.ToAgent()
        try:
            message.ParseFromString(raw)
        except DecodeError:
            raise Refused("malformed", "what it sends is no message of ours") from None
        return message

    def _hello(self) -> wire.Hello:
        """Once its lease has run out, the agent minds no leader that was: terms may have begun anew since."""
        lease = self.lease
        if not self._is_alive():
            lease.term = lease.serial = 0
            self._grants = {uid: ((0, 0), grant) for uid, (_, grant) in self._grants.items()}
        return wire.Hello(
            newest=NEWEST,
            oldest=OLDEST,
            node=self.settings.node,
            pod_uid=self.settings.pod_uid,
            instance=self._memory.instance,
            software=__version__,
            term=lease.term,
            acts_on=wire.Order(term=lease.acts_on[0], serial=lease.acts_on[1]),
            places={str(scope): number for scope, number in lease.places.items()} if self._is_alive() else {},
        )

    def _is_alive(self) -> bool:
        return self.lease.ends_s > boot_s()

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
        self._unsaid |= self._states.keys()
        self._beat_due = True
        self.connected.set()

    def _hear(self, message: wire.ToAgent) -> None:
        """Raises Refused for a controller that is not to be heard any further; what is merely old is passed over."""
        try:
            match message.WhichOneof("said"):
                case "allotment":
                    self._take(message.allotment)
                case "grant":
                    self._take_grant(message.grant)
                    self._keep()
                case "withdrawal":
                    self._withdraw(message.withdrawal)
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
        places = {Scope(name): count("places", number, 10**6) for name, number in message.places.items()}
        before = self.lease.places
        self.lease.take(
            Allotment(
                term=message.term,
                serial=message.serial,
                beat=message.beat,
                life_s=seconds("life_s", message.life_s, at_most=LIFE_AT_MOST_S),
                places=places,
            )
        )
        now_s = asyncio.get_running_loop().time()
        mates = {
            Scope(each.workload): tuple(now_s - seconds("mates", age_s) for age_s in each.ages_s)
            for each in message.mates
        }
        moved = (before, self._frozen, mates.keys()) != (places, message.frozen, self._mates.keys())
        self._frozen, self._mates = message.frozen, mates
        self._keep()
        if before != places:  # less than before is free for others only once this is said
            self._due()
        if moved:
            self._tell_all()

    def _take_grant(self, message: wire.PodGrant) -> None:
        self._newer(message.uid, message.term, message.version)
        self._know(message)

    def _know(self, message: wire.PodGrant) -> None:
        """Raises Malformed, and has changed nothing then."""
        uid, now_s = PodUid(message.uid), asyncio.get_running_loop().time()
        grant = Grant(
            version=message.version,
            policy=policy_of(message.policy),
            authorization=tuple(_authorization(each) for each in message.authorization),
            spiffe_id=message.spiffe_id,
            trust_domains=tuple(message.trust_domains),
            override=override_of(message.override, now_s) if message.HasField("override") else None,
        )
        self._raw[uid] = message.SerializeToString()
        self._orders_end_boot_s.pop(uid, None)
        if message.HasField("override"):
            self._orders_end_boot_s[uid] = boot_s() + message.override.left_s
        self._give(uid, (message.term, message.version), grant)

    def _withdraw(self, message: wire.Withdrawal) -> None:
        """Observed only: what is open is closed."""
        uid = self._newer(message.uid, message.term, message.version)
        self._raw.pop(uid, None)
        self._orders_end_boot_s.pop(uid, None)
        self._give(
            uid, (message.term, message.version), Grant(version=message.version, policy=Policy(mode=Mode.OBSERVE))
        )
        self._keep()

    def _newer(self, uid: str, term: int, version: int) -> PodUid:
        """Raises Refused for what was said before something else (I6)."""
        self.lease.heard(term)
        known = self._grants.get(PodUid(uid))
        if known is not None and (term, version) <= known[0]:
            raise Refused("replayed", f"grant {term}/{version} of {uid} is not newer than {known[0]}")
        return PodUid(uid)

    def _give(self, uid: PodUid, order: tuple[int, int], grant: Grant) -> None:
        self._grants.pop(uid, None)  # the newest last
        self._grants[uid] = order, grant
        self._forget_strangers()
        if uid in self._pods:
            self._tell(uid)

    def _forget_strangers(self) -> None:
        """Pods come and go without end, and are not guarded yet when an agent starts."""
        strangers = [uid for uid in self._grants if uid not in self._pods]
        for uid in strangers[:-STRANGERS_AT_MOST]:
            del self._grants[uid]
            self._raw.pop(uid, None)
            self._orders_end_boot_s.pop(uid, None)

    def _tell(self, uid: PodUid) -> None:
        """What goes wrong with one pod keeps no other one from being told."""
        pod, changed = self._pods[uid]
        try:
            changed()
        except Exception:
            log.exception("grant not taken", extra={"pod": str(pod)})

    def _tell_all(self) -> None:
        for uid in list(self._pods):
            if uid in self._pods:  # else its guard has just seen that it is gone
                self._tell(uid)

    def _keep(self) -> None:
        lease = self.lease
        memory = Memory(
            boot=self._memory.boot,
            instance=self._memory.instance,
            term=lease.term,
            serial=lease.serial,
            acts_on=lease.acts_on,
            beats=lease.beats,
            places={str(scope): number for scope, number in lease.places.items()},
            ends_boot_s=lease.ends_s if lease.places else 0.0,
            grants=self._raw,
            orders_end_boot_s=self._orders_end_boot_s,
        )
        try:
            self._kept.write(memory)
        except OSError as failure:
            log.warning("memory not kept", extra={"why": str(failure)})

    # ---- saying ----

    async def _say(self, call: Call) -> None:
        """Whatever is due, and a beat now and then. What was taken from a buffer and did not arrive is a line lost; a
        state is said again on the next link."""
        loop = asyncio.get_running_loop()
        next_beat_s = loop.time()
        while True:
            if self._beat_due or loop.time() >= next_beat_s:
                await self._write(call, wire.FromAgent(beat=self._beat()))
                next_beat_s = loop.time() + self._beat_s * random.uniform(0.8, 1.2)
            while self._left:
                await self._write(call, wire.FromAgent(gone=wire.PodGone(uid=self._left.pop())))
            while self._unsaid:
                uid = self._unsaid.pop()
                if uid in self._states:
                    await self._write(call, wire.FromAgent(pod=self._report(uid)))
            while self._lines:
                await self._write(call, wire.FromAgent(line=line_message(self._lines[0])))
                self._lines.popleft()
            self._wake.clear()
            if not (self._beat_due or self._unsaid or self._lines or self._left):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, next_beat_s - loop.time())):
                        await self._wake.wait()

    async def _write(self, call: Call, message: wire.FromAgent) -> None:
        await call.send(message.SerializeToString())

    def _beat(self) -> wire.Beat:
        self._beat_due = False
        lease = self.lease
        return wire.Beat(
            number=lease.beat(boot_s()),
            acts_on=wire.Order(term=lease.acts_on[0], serial=lease.acts_on[1]),
            used={str(scope): number for scope, number in self._used().items()},
            dropped=self.dropped,
        )

    def _report(self, uid: PodUid) -> wire.PodReport:
        state, now_s = self._states[uid], asyncio.get_running_loop().time()
        return wire.PodReport(
            uid=uid,
            standing=standing_message(state.standing, now_s),
            diagnosis=diagnosis_message(state.diagnosis, now_s),
            ability=ability_message(state.capabilities),
            identity_expires_in_s=state.identity_expires_in_s,
            path_passes=state.path_passes,
            istio_rules=state.istio_rules,
            istio_incomplete=not state.istio_complete,
            stand_in=state.stand_in,
        )
