"""One pod's share of the rescue Envoy: its identity, kept fresh while the proxy is well, and whether it can be used.

Usable is what the kernel and the clock say at the moment of the fault: the rescue's doors listen in the namespace, and
the identity has not expired. Losing either means the next level, not an error (S4.2c).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import nullcontext

from hotswitch.agent.identities import Identities, Reach, Way
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import Pod
from hotswitch.kernel.netns import is_home
from hotswitch.model import RESCUE_INBOUND, RESCUE_OUTBOUND, Port
from hotswitch.report.journal import Journal, entry
from hotswitch.rescue.authorization import UnsupportedAuthorization, parse_policy
from hotswitch.rescue.identity import Identity, IdentityRefused
from hotswitch.rescue.node_account import NodeAccount
from hotswitch.rescue.pod import MeshDestination, PodRefused, RescuePod
from hotswitch.rescue.service import Rescue
from hotswitch.rescue.xds import RescueUnanswered
from hotswitch.rescue.xds_stream import RescueRejected

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 60.0
_FAILURES = (UnsupportedAuthorization, PodRefused, IdentityRefused, RescueRejected, RescueUnanswered, OSError)
DOORS: frozenset[Port] = frozenset({RESCUE_INBOUND, RESCUE_OUTBOUND})


def rescue_pod(settings: Pod) -> RescuePod:
    """Raises UnsupportedAuthorization (an L7 policy: the rescue cannot keep it) or PodRefused."""
    policy = settings.policy.policy()
    identity = settings.identity
    return RescuePod(
        key=f"{settings.namespace}/{settings.name}",
        netns="" if is_home(settings.netns) else str(settings.netns),
        addresses=tuple(str(address) for address in settings.addresses),
        trust_domains=identity.trust_domains if identity else ("cluster.local",),
        mtls=policy.mtls,
        mtls_by_port=policy.mtls_by_port,
        authorization=tuple(parse_policy(manifest) for manifest in settings.authorization),
        outbound_mtls=tuple(MeshDestination(str(network)) for network in settings.mesh_networks),
    )


class Spare:
    """Keeps one pod's identity and listeners in the rescue. `rescue` None: there is none, and `why_none` says so.
    `reach`: how the identity's socket and files are come by, if not by their paths; raises OSError.
    `account`: by which istiod may be asked for it."""

    def __init__(
        self,
        settings: Pod,
        spec: CaptureSpec,
        rescue: Rescue | None,
        journal: Journal,
        why_none: str = "none",
        reach: Reach = nullcontext,
        account: NodeAccount | None = None,
    ) -> None:
        self._settings, self._spec, self._rescue, self._journal = settings, spec, rescue, journal
        self._identities = Identities(reach, account)
        self._identity: Identity | None = None
        self._way: Way | None = None
        self._refusal = why_none if rescue is None else "not set up yet"
        self._added = False
        self._inherited = rescue is not None and self._key in rescue.inherited
        self._inherited_ends_unix_s = rescue.ends_unix_s(self._key) if rescue is not None and self._inherited else None
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # one change after the other: there is one task, and it knows the newest
        self._closed = False
        self.drained_by_s = float("-inf")  # the loop's clock; until then connections from before a restore may go on
        self.tried = asyncio.Event()  # the first attempt has ended, well or not
        self.changed: Callable[[], None] = lambda: None

    def start(self) -> None:
        if self._rescue is not None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._keep(self._rescue))

    async def begin(self, settings: Pod) -> None:
        """With what the rescue must keep up known only now; `change` from then on."""
        if self._task is None:
            self._settings = settings
            self.start()
        else:
            await self.change(settings)

    async def close(self, *, leave: bool) -> None:
        """`leave`: the listeners stay in the rescue (an agent that ends leaves the state as it is)."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._rescue is not None and not leave:
            async with self._changing:  # a change that is under way adds the pod once more
                with contextlib.suppress(RescueUnanswered):  # Envoy is told as soon as it answers again
                    await self._rescue.remove(self._key)

    async def change(self, settings: Pod) -> None:
        """Other mTLS or authorization for the same pod. In force when this returns, with the identity that is held, or
        the rescue is refused with a sentence: it never serves by rules that were taken back."""
        if self._rescue is None:
            return
        async with self._changing:
            if not self._closed:
                await self._change(self._rescue, settings)

    async def _change(self, rescue: Rescue, settings: Pod) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._settings = settings
        try:
            await rescue.add(rescue_pod(settings), self._identity)
            self._added, self._refusal = True, ""
        except _FAILURES as failure:
            self._added = False
            self._say(str(failure))
        self.start()

    @property
    def _key(self) -> str:
        return f"{self._settings.namespace}/{self._settings.name}"

    # ---- what decisions ask ----

    def refusal(self, listening: frozenset[Port]) -> str:
        """Why the rescue cannot be used now; empty when it can. `listening`: from the kernel, at this moment."""
        refusal = "" if self._still_inherits else self._refusal
        if why := refusal or (self._rescue.refusal(self._key) if self._rescue else ""):
            return why
        if DOORS - listening:
            return "the rescue does not listen in the namespace"
        return ""

    @property
    def identity(self) -> Identity | None:
        """What was fetched last for the rescue; None where it serves with what it has inherited, or needs none."""
        return self._identity

    @property
    def way(self) -> Way | None:
        """By which `identity` was come by."""
        return None if self._identity is None else self._way

    @property
    def identity_expires_in_s(self) -> float | None:
        """Of what the rescue serves with, be it inherited; None where it has none or needs none."""
        if self._rescue is not None and self._added:
            return self.lasts_s(self._rescue.ends_unix_s(self._key))
        return self.lasts_s(self._inherited_ends_unix_s) if self._still_inherits else None

    @property
    def _still_inherits(self) -> bool:
        """The rescue goes on as our predecessor left it until our first attempt has ended: an open gate that leads to
        it must not be closed because we have just begun."""
        return self._inherited and not self.tried.is_set()

    @staticmethod
    def lasts_s(ends_unix_s: float | None) -> float | None:
        return None if ends_unix_s is None else ends_unix_s - time.time()

    def deaths(self, within_s: float) -> int:
        return self._rescue.deaths_within(within_s) if self._rescue else 0

    def drain(self) -> None:
        """Capture is back: let the rescue's connections end."""
        if self._rescue is not None and self._added:
            loop = asyncio.get_running_loop()
            self.drained_by_s = loop.time() + self._rescue.program.drain_s
            self._draining = loop.create_task(self._drain(self._rescue))

    async def _drain(self, rescue: Rescue) -> None:
        try:
            await rescue.drain(self._key)
        except RescueUnanswered as failure:
            self._say(f"not drained: {failure}")

    # ---- keeping it ready ----

    async def _keep(self, rescue: Rescue) -> None:
        try:
            pod = rescue_pod(self._settings)
        except (UnsupportedAuthorization, PodRefused, OSError) as failure:
            self._say(str(failure))
            self.tried.set()
            return
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._renew(rescue, pod)
                wait_s = RETRY_FIRST_S
                self.tried.set()
                await self._identities.rest(self._settings.identity, self._identity, self._renew_in_s())
            except (IdentityRefused, RescueRejected, RescueUnanswered, OSError) as failure:
                await self._inherit(rescue, pod)
                self._say(str(failure))
                self.tried.set()
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MAX_S)

    async def _renew(self, rescue: Rescue, pod: RescuePod) -> None:
        identity = await self._fetch()
        if self._added and identity is not None:
            await rescue.update_identity(pod.key, identity)
        else:
            await rescue.add(pod, identity)
        self._identity, self._added, self._refusal = identity, True, ""
        if identity is not None:
            self._note(identity)
        self.changed()

    def _note(self, identity: Identity) -> None:
        """By which way it came, where that is another than before."""
        if self._way is not self._identities.way:
            self._way = self._identities.way
            told = {"way": str(self._way), "spiffe_id": identity.spiffe_id}
            self._journal.write(entry("identity", self._settings.ref, evidence=told))

    async def _inherit(self, rescue: Rescue, pod: RescuePod) -> None:
        """The proxy cannot be asked, but the rescue has outlived our predecessor with the identity it was given."""
        if self._added or pod.key not in rescue.inherited:
            return
        with contextlib.suppress(IdentityRefused, RescueRejected, RescueUnanswered):
            await rescue.add(pod, None)
            self._added, self._refusal = True, ""

    async def _fetch(self) -> Identity | None:
        source = self._settings.identity
        return None if source is None else await self._identities.fetch(source, self._identity)

    def _renew_in_s(self) -> float:
        if self._identity is None:
            return RETRY_MAX_S
        return max(RETRY_FIRST_S, self._identity.renew_at_unix_s - time.time())

    def _say(self, why: str) -> None:
        if not self._added:
            self._refusal = why
        self._journal.write(entry("rescue", self._settings.ref, failed=why))
        self.changed()
