"""One pod under watch: everything seen of its proxy and app, kept up to date, given out as `Facts` (S4.2, S4.2b).

Slow when idle, fast on suspicion. Idle: one question every `idle_s`, over the held connection; every `fresh_s` over a
fresh one, because only that can meet a worker that is stuck. Suspicion (no answer after 30 ms, the held connection
broken, a bad answer): a probe on a fresh connection, a look at the accept queues and at the container's threads every
`fast_s`, until CALM_PROBES good answers in a row. Once a fault is known: every `alert_s`, and the threads only while
nothing answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.netns import PinnedNamespace
from hotswitch.model import (
    ADMIN,
    PROXY_PORTS,
    Facts,
    Port,
    Probe,
    ProbeOutcome,
    Thresholds,
    Tripwire,
)
from hotswitch.observe.answers import Answers
from hotswitch.observe.comparisons import Comparisons
from hotswitch.observe.fresh import FreshQuestions
from hotswitch.observe.pace import Doubt, Pace
from hotswitch.observe.path import PathProbe
from hotswitch.observe.podlink import PodLink
from hotswitch.observe.pressure import Gauge
from hotswitch.observe.processes import Processes
from hotswitch.observe.queues import Queues
from hotswitch.observe.slots import SLOT_S, Due, slots_of
from hotswitch.observe.tripwire import HeldConnection

SHARED_SLOTS = 10  # a pace that asks in fewer slots than this is too quick for them
DEAF_S = 1.0  # a held connection that gives no answer for so long is replaced
TEARDOWN_S = 0.0003  # between looks while a killed proxy's sockets close; all are closed about 2 ms after the kill
TEARDOWN_LOOKS = 20


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
        self._namespace, self._news = namespace, news
        self._thresholds, self._pace = thresholds, pace
        self._gauge = Gauge(container)
        self._slow_s = pace.slow_s
        self._loop = asyncio.get_running_loop()
        self._slots = slots_of(self._loop)
        self._queues = Queues(namespace.path)
        self._link = PodLink(namespace.path, self._vanish)
        self._tripwire = HeldConnection(namespace.fd, self._tripped, cut=self._cut)
        self._admin = HeldConnection(namespace.fd, _nothing, cut=self._cut, port=ADMIN)
        self._processes = Processes(container, self._doomed)
        self._answers = Answers()
        self._comparisons = Comparisons(path_probe, pace, self)
        self._fresh = FreshQuestions(namespace.fd, self._spoke)
        self._fresh_due_s = 0.0
        self._doubt = Doubt(pace)
        self._facts = Facts(at_s=self._loop.time(), app_ports=app_ports)
        self._timer: asyncio.TimerHandle | Due | None = None
        self._alert = False  # somebody outside wants us fast: the gate is open, or a decision is near
        self.gone = False

    # ---- life ----

    def start(self) -> None:
        self._link.start()
        self._tripwire.arm()
        self._admin.arm()
        self._look()
        now_s = self._loop.time()
        self._fresh_due_s = now_s + random.uniform(0, self._pace.fresh_s)
        self._timer = self._call_about(now_s + random.uniform(0, self._pace.idle_s), self._tick)
        self._comparisons.start()

    def close(self) -> None:
        """Let go of everything in the namespace. Timers that still come find nothing to do."""
        self.gone = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._comparisons.close()
        self._fresh.close()
        self._link.close()
        self._tripwire.close()
        self._admin.close()
        self._processes.close()
        self._queues.close()

    def be_alert(self, alert: bool) -> None:
        """The fault is known, or a gate is open: look often although nothing is in doubt; recovery is awaited."""
        self._alert = alert
        if alert:
            self._comparisons.hurry()

    def see_container(self, container: Container) -> None:
        """The proxy runs in another container from now on."""
        self._gauge = Gauge(container)
        self._processes.see_container(container)

    def obey(self, thresholds: Thresholds, *, strict: bool) -> None:
        """Other settings for the same pod. `strict`: the port of the app's probe takes mTLS only."""
        self._thresholds = thresholds
        self._comparisons.obey(strict=strict)

    # ---- what is known ----

    def facts(self, now_s: float) -> Facts:
        """The present picture."""
        return replace(
            self._comparisons.add_to(self._facts),
            at_s=now_s,
            listeners=self._queues.seen,
            tripwire=self._tripwire.state,
            tripwire_since_s=self._tripwire.since_s,
            tripwire_cut_s=self._tripwire.cut_s,
            admin_closed_s=self._admin.closed_s,
            proxy_exiting=self._processes.exiting,
            envoy_exiting=self._processes.envoy_exiting,
            envoy_doomed_s=self._processes.doomed_s,
            probes=self._answers.kept,
            pressure=self._gauge.pressure(),
            container_running=self._processes.running,
        )

    @property
    def suspicious(self) -> bool:
        return (
            self._tripwire.state is not Tripwire.HELD
            or not self._answers.calm
            or self._tripwire.waited_s > self._slow_s
            or self._fresh.wait_longer_than(self._slow_s)
        )

    @property
    def urgent(self) -> bool:
        return self.suspicious or self._alert

    @property
    def certificate_ends_unix_s(self) -> float | None:
        """The proxy's own, as it was last presented."""
        return self._comparisons.certificate_ends_unix_s

    # ---- looking ----

    def _look(self) -> None:
        """The accept queues, and the container's threads: about 1 ms, so only at the start and on suspicion."""
        self._queues.look(self._loop.time())
        self._gauge.look(self._loop.time())
        self._processes.look()

    def _tick(self) -> None:
        self._tripwire.listen()
        if self._ask_cheaply():
            return
        if not self._namespace.still_named():
            self._vanish()
            return
        if self._tripwire.state is not Tripwire.HELD or self._tripwire.waited_s > DEAF_S:
            self._tripwire.arm()
        if self._admin.state is not Tripwire.HELD:
            self._admin.arm()
        if self.suspicious:  # of a pod that is open, too: a queue that stands tells nothing while threads are unseen
            self._look()
        else:
            self._gauge.glance(self._loop.time())
            if self._alert:
                self._queues.look(self._loop.time())
                self._processes.look()
        self._ask()
        since_s = self._loop.time() if self.urgent else self._now_s
        self._timer = self._call_about(since_s + self._wait_s(), self._tick)
        if self.urgent:
            self._news()

    def _ask_cheaply(self) -> bool:
        """All is well and a fresh connection is not due yet."""
        now_s = self._now_s
        if self.urgent or self._fresh or now_s >= self._fresh_due_s:
            self._fresh_due_s = now_s + self._pace.fresh_s
            return False
        if not self._tripwire.ask(self._spoke):
            return False
        self._doubt.end()
        self._call_about(now_s + self._slow_s, self._listen)
        self._timer = self._call_about(now_s + self._pace.idle_s, self._tick)
        return True

    def _listen(self) -> None:
        self._tripwire.listen()
        self._hurry()

    @property
    def _now_s(self) -> float:
        """When the present tick was due, unless it is much later: else each would make all later ones a slot later."""
        now_s = self._loop.time()
        due_s = now_s if self._timer is None else self._timer.when()
        return due_s if now_s - SLOT_S < due_s < now_s else now_s

    def _call_about(self, at_s: float, call: Callable[[], None]) -> asyncio.TimerHandle | Due:
        """A little later, at an instant that all watches share: waking up for each pod would cost more than asking."""
        shared = self._pace.idle_s >= SHARED_SLOTS * SLOT_S and not self.urgent
        return (self._slots if shared else self._loop).call_at(at_s, call)

    def _wait_s(self) -> float:
        """A doubt is settled fast. Once it is, and while a gate is open, there is less hurry: many may be ill."""
        if self._alert:
            return self._pace.alert_s
        if not self.suspicious:
            self._doubt.end()
            return self._pace.idle_s
        return self._doubt.wait_s(self._loop.time())

    def _ask(self) -> None:
        self._fresh.ask(self._thresholds)
        if not self.suspicious:
            self._call_about(self._loop.time() + self._slow_s, self._hurry)

    def _spoke(self, result: Probe) -> None:
        if result.outcome is ProbeOutcome.OK and not self._answers.were_ready:
            self._comparisons.forget()
        self._answers.remember(result)
        if result.outcome is ProbeOutcome.OK:
            if not self._facts.ever_ready:
                self._facts = replace(self._facts, ever_ready=True)
                self._news()
        elif result.outcome is not ProbeOutcome.INVALID:
            self._hurry()
            if result.outcome is ProbeOutcome.TIMEOUT:
                self._news()

    @property
    def listening(self) -> frozenset[Port]:
        """Ports that listened at the last look."""
        return self._queues.ports

    def look_soon(self) -> None:
        """Something changed in the namespace that we were told of (the rescue's doors): look, and tell."""
        if not self.gone:
            self._look()
            self._news()

    def _hurry(self) -> None:
        """Look now instead of at the next idle tick, when there is reason to. Not once that is known: a dead proxy
        refuses every probe at once."""
        late = self._timer is not None and self._timer.when() - self._loop.time() > self._pace.fast_s
        if self._timer and late and self.suspicious and not self._doubt and not self._alert:
            self._timer.cancel()
            self._timer = None
            self._comparisons.hurry()
            self._tick()

    def _doomed(self) -> None:
        """The hot path, and the shorter one: the kernel is ending Envoy, and all of its sockets still stand."""
        if not self.gone:
            self._news()
            self._loop.call_soon(self._processes.look)

    def _cut(self) -> None:
        """A held connection has just broken. Is Envoy on its way out, or all that is held broken, that is enough."""
        if self.gone:
            return
        self._processes.look()
        self._tripwire.heed()
        self._admin.heed()
        if self._processes.envoy_exiting or self._admin.closed_s is not None:
            self._news()

    def _tripped(self, looks: int = TEARDOWN_LOOKS) -> None:
        """The hot path: from here to the open gate nothing waits. A killed proxy's sockets close one after another, so
        while some are still listed it looks again at once."""
        if self.gone:
            return
        self._queues.look(self._loop.time())
        self._processes.look()
        self._news()
        if self._going() and looks and self._proxy_listens():
            self._loop.call_later(TEARDOWN_S, self._tripped, looks - 1)
        else:
            self._loop.call_soon(self._hurry)

    def _going(self) -> bool:
        return self._tripwire.state is not Tripwire.HELD or self._processes.exiting

    def _proxy_listens(self) -> bool:
        return not PROXY_PORTS.isdisjoint(self._queues.ports)

    # ---- the app, and the end ----

    def blamed(self) -> None:
        """15021 may say "ready" all the while, and the verdict needs to know who listens, and works."""
        self._look()

    def compared(self) -> None:
        self._news()

    def _vanish(self) -> None:
        self.gone = True
        self._news()


def _nothing() -> None: ...
