"""Carries decisions out on one pod: the gate at once, everything that can wait after it (S4.3, I5, I6, I8).

`perform` is the hot path: one netlink message, then one journal line. It never raises for what can go wrong in a pod's
namespace; it says so in its result, the caller keeps the old standing, and nothing has changed. What follows an opening
(stale flows) or a closing (proof that Istio's rules are what they were) runs in a thread, one at a time for a pod.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from hotswitch.capture import gate_legacy_table
from hotswitch.capture.flows import cut_stuck, direct, forget_commands, forget_names_commands
from hotswitch.capture.gate import GateAbsent, GateFenced
from hotswitch.capture.gate_choice import AnyGate
from hotswitch.capture.gate_elements import opens_names
from hotswitch.capture.gate_table import GateScope
from hotswitch.capture.gate_text import summary, write_script
from hotswitch.kernel import sockdiag
from hotswitch.kernel.command import Command, CommandFailed, run
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.model import Act, Decision, Direction, Fault, Generation, Level, Opening, PodRef, Port
from hotswitch.report.journal import Journal, entry
from hotswitch.report.metrics import Metrics

DIRECT_GRACE_S = 30.0  # after a restore, flows that went past the proxy may finish; what is left then is ended
DYING_S = 0.03  # so long the kernel may close a dying proxy's sockets itself: that loses no answer already sent
FORGET_S = 0.04  # after that
TEARDOWN_S = 0.25  # the gate may be open before all sockets of a killed proxy are closed: look once more after this
NAMES_OPEN = "the app asks its own name server meanwhile: names that only pilot-agent can resolve fail"
KERNEL_ACTS = frozenset({Act.OPEN, Act.RENEW, Act.CLOSE})


@dataclass(frozen=True, slots=True)
class Result:
    """`done`: the kernel holds what was decided. Otherwise nothing changed, `why` says what was in the way, and
    `inspect` whether the namespace has to be looked at again before another try."""

    done: bool
    why: str = ""
    inspect: bool = False


class Actor:
    """The hands for one pod. `who` is written into every journal line."""

    def __init__(
        self, pod: PodRef, gate: AnyGate, journal: Journal, metrics: Metrics, app_ports: frozenset[Port]
    ) -> None:
        self.pod, self.gate = pod, gate
        self._journal, self._metrics, self._app_ports = journal, metrics, app_ports
        self._diag = NetlinkSocket(NETLINK_SOCK_DIAG, gate.netns)
        self._after: list[Callable[[], None]] = []  # what follows the acts so far, in turn
        self.in_thread: Callable[[Callable[[], None]], Awaitable[None]] = _in_thread
        self._worker: asyncio.Task[None] | None = None  # lives while there is work: most pods never have any
        self._closed = False
        self._now: dict[Direction, Opening] = {}
        self._ways_past = 0  # how often a way past the proxy was opened or, at least, asked of the kernel
        self.istio_rules = ""  # digest of Istio's rules at the last inspection
        self.generation = Generation(0)  # the highest that was carried out: an older act is refused (I6)

    def adopt(self, openings: dict[Direction, Opening], generation: Generation) -> None:
        """Take over what a predecessor left open."""
        self._now, self.generation = dict(openings), generation

    def close(self) -> None:
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        self._diag.close()

    def perform(self, decision: Decision, *, news_s: float | None = None, who: str = "agent") -> Result:
        """Carry out one decision. `news_s`: monotonic instant of the evidence, for the durations."""
        if decision.act in KERNEL_ACTS:
            return self._write(decision, news_s, who)
        if decision.act is Act.CUT:
            self._soon_cut(decision)
            return Result(True)
        self._say(decision, who=who)
        return Result(True)

    def _write(self, decision: Decision, news_s: float | None, who: str) -> Result:
        if decision.pod != self.pod or decision.generation < self.generation:
            return Result(False, f"refused: generation {decision.generation} is older than {self.generation}")
        openings = {} if decision.act is Act.CLOSE else dict(decision.openings)
        reason = f"{decision.code} {decision.evidence.get('fault', '')}".strip()
        self._ways_past += _is_direct(openings)
        started = time.perf_counter()
        try:
            self.gate.write(openings, expiry_s=decision.expiry_s, generation=decision.generation, reason=reason)
        except (GateFenced, GateAbsent, OSError) as failure:
            self._ways_past -= _is_direct(openings)
            return self._failed(decision, failure, inspect=isinstance(failure, GateFenced | GateAbsent))
        took_s = time.perf_counter() - started
        before, self._now, self.generation = self._now, openings, decision.generation
        durations = {"gate_ms": took_s * 1000}
        if news_s is not None and decision.act is Act.OPEN:
            durations["evidence_to_gate_ms"] = (asyncio.get_running_loop().time() - news_s) * 1000
            self._metrics.decide_s.observe(durations["evidence_to_gate_ms"] / 1000)
        self._metrics.gate_s.observe(took_s)
        self._say(decision, who=who, before=summary(before), after=summary(openings), durations=durations)
        self._follow_up(decision, before)
        return Result(True)

    def _failed(self, decision: Decision, failure: Exception, *, inspect: bool) -> Result:
        self._metrics.failures.labels(decision.act).inc()
        self._say(decision, failed=str(failure))
        return Result(False, str(failure), inspect)

    def _say(
        self,
        decision: Decision,
        *,
        who: str = "agent",
        before: str = "",
        after: str = "",
        durations: dict[str, float] | None = None,
        failed: str = "",
    ) -> None:
        if not failed:
            self._metrics.acts.labels(decision.act, decision.code).inc()
        if decision.act is Act.PAGE:
            self._metrics.pages.labels(decision.code).inc()
        self._journal.write(
            entry(
                str(decision.act),
                self.pod,
                evidence=decision.evidence,
                who=who,
                generation=decision.generation,
                code=decision.code,
                why=decision.sentence,
                rules_before=before,
                rules_after=after,
                istio_rules=self.istio_rules,
                durations_ms={name: round(value, 3) for name, value in (durations or {}).items()},
                failed=failed,
            )
        )

    # ---- what can wait ----

    def _follow_up(self, decision: Decision, before: dict[Direction, Opening]) -> None:
        loop = asyncio.get_running_loop()
        if decision.act is Act.OPEN:
            for delay_s in (FORGET_S, TEARDOWN_S):  # a cut of the same step goes first
                loop.call_later(delay_s, self._soon, self._forget_ended)
        if _names_open(self._now) is not _names_open(before):
            self._soon(partial(self._forget_names, opened=_names_open(self._now)))
        if _is_direct(before) and not _is_direct(self._now):
            loop.call_later(DIRECT_GRACE_S, self._soon, partial(self._cut_direct, self._ways_past))

    def _soon_cut(self, decision: Decision) -> None:
        job = partial(self._cut, decision)
        if _dies(decision):
            asyncio.get_running_loop().call_later(DYING_S, self._soon, job)
        else:
            self._soon(job)

    def _soon(self, job: Callable[[], None]) -> None:
        if self._closed:
            return
        self._after.append(job)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._after:
                await self._done(self._after.pop(0))
        finally:
            self._worker = None

    async def _done(self, job: Callable[[], None]) -> None:
        try:
            await self.in_thread(job)
        except (OSError, CommandFailed) as failure:
            self._journal.write(entry("follow-up", self.pod, failed=str(failure)))

    async def settled(self) -> None:
        """Wait until all that follows the acts so far is done."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    def _forget(self) -> None:
        for command in forget_commands(self.gate.netns, self.gate.scope):
            run(command)

    def _forget_names(self, opened: bool) -> None:
        for command in forget_names_commands(self.gate.netns, self.gate.scope, opened=opened):
            run(command)

    def _forget_ended(self) -> None:
        """What lives stays: with a proxy that is well (an order), or until `cut` has destroyed its socket."""
        for command in forget_commands(self.gate.netns, self.gate.scope, ended=True):
            run(command)

    def _cut(self, decision: Decision) -> None:
        started = time.perf_counter()
        ended = cut_stuck(self._diag, self.gate.scope)
        if not ended and _dies(decision):
            return  # the kernel was quicker
        self._forget()
        took_ms = round((time.perf_counter() - started) * 1000, 3)
        line = entry(
            "cut",
            self.pod,
            generation=decision.generation,
            code=decision.code,
            why=decision.sentence,
            evidence={"flows": str(ended)},
            durations_ms={"cut_ms": took_ms},
        )
        self._journal.write(line)

    def _cut_direct(self, ways_past: int) -> None:
        """Of a way that was opened again since, the flows are younger: they wait for the end of that one."""
        flows = direct(self._diag, self._app_ports)
        if self._ways_past != ways_past:  # asked after the look: what it found cannot be of a way opened later
            return
        ended = sum(sockdiag.destroy(self._diag, flow) for flow in flows)
        self._journal.write(entry("cut-direct", self.pod, evidence={"flows": str(ended)}))


async def _in_thread(job: Callable[[], None]) -> None:
    await asyncio.to_thread(job)


def _dies(decision: Decision) -> bool:
    return decision.evidence.get("fault") == Fault.DEAD


def _is_direct(openings: dict[Direction, Opening]) -> bool:
    inbound = openings.get(Direction.INBOUND)
    return inbound is not None and Level.DIRECT in {inbound.level, *inbound.ports.values()}


def _names_open(openings: dict[Direction, Opening]) -> bool:
    outbound = openings.get(Direction.OUTBOUND)
    return outbound is not None and opens_names(outbound)


def plan_of(decision: Decision, netns: str, scope: GateScope, *, legacy: bool = False) -> str:
    """What carrying out `decision` would do, as commands a person could type (I8). `legacy`: by the gate that a kernel
    without nf_tables gets."""
    if decision.act in KERNEL_ACTS and legacy:
        return _legacy_plan(decision, netns, scope)
    if decision.act in KERNEL_ACTS:
        openings = {} if decision.act is Act.CLOSE else decision.openings
        script = write_script(
            scope, openings, expiry_s=decision.expiry_s, generation=decision.generation, reason=decision.code
        )
        names = f"\n# {NAMES_OPEN}" if scope.dns_servers != () and _names_open(dict(openings)) else ""
        return f"nsenter --net={netns} nft -f - <<'EOF'\n{script}EOF{names}"
    if decision.act is Act.CUT:
        return "\n".join(
            ["ss -K state established '( sport = :15006 or sport = :15001 )'", *map(str, forget_commands(netns, scope))]
        )
    return decision.sentence


def _legacy_plan(decision: Decision, netns: str, scope: GateScope) -> str:
    openings = {} if decision.act is Act.CLOSE else decision.openings
    ends = time.time() + decision.expiry_s
    script = gate_legacy_table.write_script(
        openings, ends_unix_s=ends, generation=decision.generation, reason=decision.code
    )
    tools = {"ip": "iptables-legacy-restore", "ip6": "ip6tables-legacy-restore"}
    families = gate_legacy_table.families(scope)
    return "\n".join(str(Command((tools[family], "--noflush"), netns, script)) for family in families)
