"""One pod under watch: everything seen of its proxy and app, kept up to date, given out as `Facts` (S4.2, S4.2b).

Slow when idle, fast on suspicion. Idle: one question every `idle_s`, over the held connection; every `fresh_s` over a
fresh one, because only that can meet a worker that is stuck. Suspicion (no answer after 30 ms, the held connection
broken, a bad answer): a probe on a fresh connection, a look at the accept queues and at the container's threads every
`fast_s`, until CALM_PROBES good answers in a row. Once a fault is known: every `alert_s`, and the threads only while
nothing answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, RTMGRP_LINK, NetlinkSocket
from hotswitch.kernel.netns import PinnedNamespace
from hotswitch.kernel.routing import own_addresses
from hotswitch.kernel.sockdiag import accept_queues
from hotswitch.model import (
    ADMIN,
    ENVOY_INBOUND,
    ENVOY_OUTBOUND,
    HEALTH,
    STATS,
    Facts,
    Listeners,
    Port,
    Probe,
    ProbeOutcome,
    Thresholds,
    Tripwire,
)
from hotswitch.observe.ending import ENVOY, Ending
from hotswitch.observe.health import READY_PATH, HttpProbe
from hotswitch.observe.path import PathProbe, PathReport
from hotswitch.observe.pressure import Gauge
from hotswitch.observe.slots import SLOT_S, Due, slots_of
from hotswitch.observe.tripwire import HeldConnection

SLOW_S = 0.03  # a healthy Envoy answers within 1 ms; asking again this early costs a probe and wins most of a second
SLOW_PART = 4  # a pace that asks more often doubts sooner, too: after this part of the time between two questions
CALM_PROBES = 10
KEPT_PROBES = 16
DOUBT_S = 5.0  # after so long, and so long again, a doubt is looked at half, and a third, as often
DEAF_S = 1.0  # a held connection that gives no answer for so long is replaced
TEARDOWN_S = 0.0003  # between looks while a killed proxy's sockets close; all are closed about 2 ms after the kill
TEARDOWN_LOOKS = 20
PROXY_PORTS = frozenset({ADMIN, ENVOY_OUTBOUND, ENVOY_INBOUND, HEALTH, STATS})
PENDING_AT_MOST = 8  # unanswered probes of one pod at a time: they wait in the accept queue of a hung proxy


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to ask, in seconds. idle 0.8 keeps a hang below 1.2 s; most of its questions go over the held
    connection, because a fresh one each time would cost 250 pods a third of a core."""

    idle_s: float = 0.8
    fresh_s: float = 8.0
    fast_s: float = 0.05
    alert_s: float = 0.25
    path_idle_s: float = 30.0
    path_fast_s: float = 0.3


class PodWatch:
    """Calls `news()` whenever the facts may have changed enough to matter; never more often than every `fast_s`,
    except for what cannot wait: a broken tripwire, a proxy that is being ended, a question that nobody has answered."""

    def __init__(
        self,
        namespace: PinnedNamespace,
        news: Callable[[], None],
        *,
        path_probe: PathProbe | None,
        container: Container,
        app_ports: frozenset[Port],
        thresholds: Thresholds,
        pace: Pace,
    ) -> None:
        self._namespace, self._news, self._path_probe = namespace, news, path_probe
        self._container, self._thresholds, self._pace = container, thresholds, pace
        self._gauge = Gauge(container)
        self._slow_s = min(SLOW_S, pace.idle_s / SLOW_PART)
        self._loop = asyncio.get_running_loop()
        self._slots = slots_of(self._loop)
        self._diag = NetlinkSocket(NETLINK_SOCK_DIAG, namespace.path)
        self._links = NetlinkSocket(NETLINK_ROUTE, namespace.path, RTMGRP_LINK)
        self._tripwire = HeldConnection(namespace.fd, self._tripped, cut=self._cut)
        self._ending = Ending(container, self._doomed)
        self._probes: deque[Probe] = deque(maxlen=KEPT_PROBES)
        self._calm = True  # the last CALM_PROBES were good answers, as far as there were so many
        self._pending: set[HttpProbe] = set()
        self._queues: dict[int, tuple[int, float]] = {}
        self._fresh_due_s = 0.0
        self._doubt_s: float | None = None  # since when there is one
        passes = None if path_probe is None else 0
        self._facts = Facts(at_s=self._loop.time(), app_ports=app_ports, path_passes=passes)
        self._timer: asyncio.TimerHandle | Due | None = None
        self._path_task: asyncio.Task[None] | None = None
        self._wanted_fast = asyncio.Event()
        self._alert = False  # somebody outside wants us fast: the gate is open, or a decision is near
        self.gone = False
        self.certificate_ends_unix_s: float | None = None

    # ---- life ----

    def start(self) -> None:
        self._loop.add_reader(self._links, self._link_changed)
        self._tripwire.arm()
        self._look()
        now_s = self._loop.time()
        self._fresh_due_s = now_s + random.uniform(0, self._pace.fresh_s)
        self._timer = self._loop.call_at(now_s + random.uniform(0, self._pace.idle_s), self._tick)
        if self._path_probe is not None:
            self._path_task = self._loop.create_task(self._compare_paths(self._path_probe))

    def close(self) -> None:
        """Let go of everything in the namespace. Timers that still come find nothing to do."""
        self.gone = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._path_task:
            self._path_task.cancel()
        for probe in self._pending:
            probe.cancel()
        self._loop.remove_reader(self._links)
        self._tripwire.close()
        self._ending.close()
        self._links.close()
        self._diag.close()
        self._container.close()

    def be_alert(self, alert: bool) -> None:
        """The fault is known, or a gate is open: look often although nothing is in doubt; recovery is awaited."""
        self._alert = alert
        if alert:
            self._wanted_fast.set()

    def see_container(self, container: Container) -> None:
        """The proxy runs in another container from now on."""
        self._container.close()
        self._container, self._gauge = container, Gauge(container)
        self._ending.see_container(container)

    def obey(self, thresholds: Thresholds, *, strict: bool) -> None:
        """Other settings for the same pod. `strict`: the port of the app's probe takes mTLS only."""
        self._thresholds = thresholds
        if self._path_probe is not None:
            self._path_probe.strict = strict

    # ---- what is known ----

    def facts(self, now_s: float) -> Facts:
        """The present picture. A second, independent source says whether the container runs."""
        running = bool(self._container.pids()) if self._container.known else None
        return replace(
            self._facts,
            at_s=now_s,
            tripwire=self._tripwire.state,
            tripwire_since_s=self._tripwire.since_s,
            tripwire_cut_s=self._tripwire.cut_s,
            envoy_doomed_s=self._ending.since_s,
            probes=tuple(self._probes),
            pressure=self._gauge.pressure(),
            container_running=running,
        )

    @property
    def suspicious(self) -> bool:
        return (
            self._tripwire.state is not Tripwire.HELD
            or not self._calm
            or self._tripwire.waited_s > self._slow_s
            or any(probe.age_s > self._slow_s for probe in self._pending)
        )

    @property
    def _silent(self) -> bool:
        return bool(self._probes) and self._probes[-1].outcome is ProbeOutcome.TIMEOUT

    # ---- looking ----

    def _look(self) -> None:
        """The accept queues, and the container's threads: about 1 ms, so only at the start and on suspicion."""
        self._look_at_listeners()
        self._gauge.look(self._loop.time())
        self._look_at_processes()

    def _look_at_processes(self) -> None:
        processes = self._container.processes()
        leaving = {process.name for process in processes if process.exiting}
        self._facts = replace(self._facts, proxy_exiting=bool(leaving), envoy_exiting=ENVOY in leaving)
        self._ending.follow(processes)

    def _look_at_listeners(self) -> None:
        now_s = self._loop.time()
        try:
            queues = accept_queues(self._diag)
        except OSError:  # an answer was lost; the next look will do
            return
        fresh: dict[int, tuple[int, float]] = {}
        for queue in queues:
            waiting, since_s = self._queues.get(queue.inode, (0, now_s))
            moved = queue.waiting == 0 or waiting == 0 or queue.waiting < waiting
            fresh[queue.inode] = (queue.waiting, now_s if moved else since_s)
        self._queues = fresh
        timed = tuple(replace(queue, stuck_s=now_s - fresh[queue.inode][1]) for queue in queues)
        self._facts = replace(self._facts, listeners=Listeners(now_s, timed))

    def _tick(self) -> None:
        if self._ask_cheaply():
            return
        if not self._namespace.still_named():
            self._vanish()
            return
        if self._tripwire.state is not Tripwire.HELD or self._tripwire.waited_s > DEAF_S:
            self._tripwire.arm()
        if self.suspicious and (self._silent or not self._alert):
            self._look()
        else:
            self._gauge.glance(self._loop.time())
            if self._alert:
                self._look_at_listeners()
                self._look_at_processes()
        if len(self._pending) < PENDING_AT_MOST:
            self._ask()
        self._timer = self._loop.call_later(self._wait_s(), self._tick)
        if self.suspicious or self._alert:
            self._news()

    def _ask_cheaply(self) -> bool:
        """All is well and a fresh connection is not due yet."""
        now_s = self._loop.time()
        if self.suspicious or self._alert or self._pending or now_s >= self._fresh_due_s:
            self._fresh_due_s = now_s + self._pace.fresh_s
            return False
        if not self._tripwire.ask(self._spoke):
            return False
        self._doubt_s = None
        self._call_about(now_s + self._slow_s, self._hurry)
        self._timer = self._call_about(now_s + self._pace.idle_s, self._tick)
        return True

    def _call_about(self, at_s: float, call: Callable[[], None]) -> asyncio.TimerHandle | Due:
        """A little later, at an instant that all watches share: waking up for each pod would cost more than asking."""
        return (self._loop if self._pace.idle_s < 10 * SLOT_S else self._slots).call_at(at_s, call)

    def _wait_s(self) -> float:
        """A doubt is settled fast. Once it is, and while a gate is open, there is less hurry: many may be ill. A doubt
        that stays (a proxy that is throttled all day) is looked at less and less often, down to the pace of a fault."""
        if self._alert:
            return self._pace.alert_s
        if not self.suspicious:
            self._doubt_s = None
            return self._pace.idle_s
        now_s = self._loop.time()
        self._doubt_s = now_s if self._doubt_s is None else self._doubt_s
        slower = 1 + (now_s - self._doubt_s) / DOUBT_S
        return max(self._pace.fast_s, min(self._pace.fast_s * slower, self._pace.alert_s))

    def _ask(self) -> None:
        probe = HttpProbe(
            self._namespace.fd,
            ("127.0.0.1", HEALTH),
            READY_PATH,
            lambda result: self._answered(probe, result),
            timeout_s=self._thresholds.probe_timeout_s,
            lag_s=self._thresholds.loop_lag_s,
        )
        self._pending.add(probe)
        if not self.suspicious:
            self._loop.call_later(self._slow_s, self._hurry)

    def _answered(self, probe: HttpProbe, result: Probe) -> None:
        self._pending.discard(probe)
        self._spoke(result)

    def _spoke(self, result: Probe) -> None:
        if result.outcome is ProbeOutcome.OK and not self._was_ready():
            self._forget_comparisons()
        self._remember(result)
        if result.outcome is ProbeOutcome.OK:
            if not self._facts.ever_ready:
                self._facts = replace(self._facts, ever_ready=True)
                self._news()
        elif result.outcome is not ProbeOutcome.INVALID:
            self._hurry()
            if result.outcome is ProbeOutcome.TIMEOUT:
                self._news()

    def _remember(self, result: Probe) -> None:
        """In the order in which they were asked; an answer may come late."""
        late = bool(self._probes) and result.started_s < self._probes[-1].started_s
        self._probes.append(result)
        if late:
            self._probes = deque(sorted(self._probes, key=lambda each: each.started_s), maxlen=KEPT_PROBES)
        if self._calm and result.outcome is ProbeOutcome.OK:
            return
        recent = list(self._probes)[-CALM_PROBES:]
        self._calm = all(probe.outcome is ProbeOutcome.OK for probe in recent)

    def _was_ready(self) -> bool:
        said = (probe.outcome for probe in reversed(self._probes) if probe.outcome is not ProbeOutcome.INVALID)
        return next(said, None) is ProbeOutcome.OK

    def _forget_comparisons(self) -> None:
        """The proxy is ready from now on. What failed in it while it started, or in the one before, says nothing of it;
        and it has to prove itself anew."""
        passes = None if self._path_probe is None else 0
        self._facts = replace(self._facts, path=None, path_streak=1, path_passes=passes)

    @property
    def listening(self) -> frozenset[Port]:
        """Ports that listened at the last look."""
        return self._facts.listeners.ports if self._facts.listeners else frozenset()

    def look_soon(self) -> None:
        """Something changed in the namespace that we were told of (the rescue's doors): look, and tell."""
        if not self.gone:
            self._look()
            self._news()

    def _hurry(self) -> None:
        """Look now instead of at the next idle tick, when there is reason to. Not once that is known: a dead proxy
        refuses every probe at once."""
        late = self._timer is not None and self._timer.when() - self._loop.time() > self._pace.fast_s
        if self._timer and late and self.suspicious and self._doubt_s is None and not self._alert:
            self._timer.cancel()
            self._wanted_fast.set()
            self._tick()

    def _doomed(self) -> None:
        """The hot path, and the shorter one: the kernel is ending Envoy, and all of its sockets still stand."""
        if not self.gone:
            self._news()
            self._loop.call_soon(self._look_at_processes)

    def _cut(self) -> None:
        """The held connection has just broken. Is Envoy on its way out, then that is enough."""
        if self.gone:
            return
        self._look_at_processes()
        if self._facts.envoy_exiting:
            self._news()

    def _tripped(self, looks: int = TEARDOWN_LOOKS) -> None:
        """The hot path: from here to the open gate nothing waits. A killed proxy's sockets close one after another, so
        while some are still listed it looks again at once."""
        if self.gone:
            return
        self._look_at_listeners()
        self._look_at_processes()
        self._news()
        if self._going() and looks and self._proxy_listens():
            self._loop.call_later(TEARDOWN_S, self._tripped, looks - 1)
        else:
            self._loop.call_soon(self._hurry)

    def _going(self) -> bool:
        return self._tripwire.state is not Tripwire.HELD or self._facts.proxy_exiting

    def _proxy_listens(self) -> bool:
        return self._facts.listeners is not None and not PROXY_PORTS.isdisjoint(self._facts.listeners.ports)

    # ---- the app, and the end ----

    async def _compare_paths(self, probe: PathProbe) -> None:
        while True:
            await self._until_next_path()
            self._compared(await probe.compare())

    async def _until_next_path(self) -> None:
        """Idle: a long wait, which suspicion ends at once. A way that failed is tried again soon."""
        blamed = self._facts.path is not None and self._facts.path.blames_proxy
        if not (self.suspicious or self._alert or blamed):
            self._wanted_fast.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.path_idle_s):
                    await self._wanted_fast.wait()
                    return
        else:
            await asyncio.sleep(self._pace.path_fast_s)

    def _compared(self, report: PathReport) -> None:
        last, this = self._facts.path, report.comparison
        same = last is not None and (last.blames_proxy, last.blames_app) == (this.blames_proxy, this.blames_app)
        through = this.proxied in (ProbeOutcome.OK, ProbeOutcome.TLS)
        self._facts = replace(
            self._facts,
            path=this,
            path_streak=self._facts.path_streak + 1 if same else 1,
            path_passes=(self._facts.path_passes or 0) + 1 if through else 0,
        )
        if this.blames_proxy:
            self._look()  # 15021 may say "ready" all the while, and the verdict needs to know who listens, and works
        if self._certificate_matters(report) or not same or self.suspicious or self._alert or not through:
            self._news()

    def _certificate_matters(self, report: PathReport) -> bool:
        """Another one than before, or one that has ended: nothing else of a proxy changes with it (S4.2c)."""
        before, ends = self.certificate_ends_unix_s, report.certificate_ends_unix_s
        if ends is None:
            return False
        self.certificate_ends_unix_s = ends
        return ends != before or ends <= time.time()

    def _link_changed(self) -> None:
        """Links that every namespace has (tunl0 and the like) stay when the pod's network is torn down; its addresses
        go."""
        self._links.events()
        with contextlib.closing(NetlinkSocket(NETLINK_ROUTE, self._namespace.fd)) as asks:
            torn_down = not own_addresses(asks)
        if torn_down:
            self._vanish()

    def _vanish(self) -> None:
        self.gone = True
        self._news()
