"""Metrics of the controller, in Prometheus' form (S4.6; docs/reference/metrics.md).

Names are stable. Labels are bounded whatever workloads do: codes, levels, verbs and kinds are few, and where a label is
a name that others choose, only so many of them are shown and the rest is counted as `other`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from hotswitch.backends import ClusterState, Staleness
from hotswitch.model import Level
from hotswitch.report.drill_metrics import DrillMetrics

DETECT_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ACT_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RESTORE_BUCKETS_S = (1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
OTHER = "other"
SCOPES = 300


class Bounded:
    """At most `at_most` different values of a label; all further ones are `other`. First come, first shown."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._shown: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._shown and len(self._shown) >= self._at_most:
            return OTHER
        self._shown.add(value)
        return value

    def forget(self, value: str) -> None:
        self._shown.discard(value)


class ControllerMetrics:
    """One registry per controller, so that several can live in one process (tests, sandbox). Durations in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[Gauge, set[tuple[str, ...]]] = {}
        self._pods()
        self._work()
        self._api()
        self._telling()
        self._endpoints()
        self._of_agents()
        self.drills = DrillMetrics(self.registry)
        self._receivers, self._codes, self._reasons = Bounded(100), Bounded(200), Bounded(64)

    def _pods(self) -> None:
        self.watched = self._gauge("hotswitch_watched_pods", "Meshed pods under watch", ["mode"])
        self.bypassed = self._gauge("hotswitch_bypassed_pods", "Pods not at capture", ["level", "reason"])
        self.used = self._gauge("hotswitch_budget_used", "Pods open at once that count", ["scope", "of"])
        self.limit = self._gauge("hotswitch_budget_limit", "Pods that may be open at once", ["scope", "of"])
        self.frozen = self._gauge("hotswitch_frozen", "1 while mass failure forbids opening anything new", [])
        self.invalid = self._gauge("hotswitch_invalid_objects", "Objects with a value that cannot be used", ["kind"])

    def _work(self) -> None:
        self.decisions = self._counter("hotswitch_decisions_total", "Decisions by their code", ["code"])
        self.refusals = self._counter("hotswitch_refusals_total", "Acts refused, by code", ["code"])
        self.detect_s = self._histogram("hotswitch_detect_seconds", "Fault to its proof", ["fault"], DETECT_BUCKETS_S)
        self.act_s = self._histogram(
            "hotswitch_act_seconds", "Decision to the answer of the act", ["actuator", "outcome"], ACT_BUCKETS_S
        )
        self.restore_s = self._histogram(
            "hotswitch_restore_seconds", "First opening to capture again", ["reason"], RESTORE_BUCKETS_S
        )

    def _api(self) -> None:
        self.api_errors = self._counter("hotswitch_api_errors_total", "API requests that failed", ["verb", "code"])
        self.watch_age_s = self._gauge("hotswitch_watch_age_seconds", "Since a watch last heard anything", ["kind"])
        self.leader = self._gauge("hotswitch_leader", "1 while this controller may act", [])
        self.leader.set(0)

    def _telling(self) -> None:
        self.alerts = self._counter("hotswitch_alerts_total", "What became of alerts", ["receiver", "result"])
        self.queued = self._gauge("hotswitch_alerts_queued", "Alerts due and not yet sent", ["receiver"])
        self.events = self._counter("hotswitch_events_total", "Kubernetes Events", ["result"])

    def _endpoints(self) -> None:
        self.services = self._gauge("hotswitch_endpoints_services", "Services that are published", ["mode"])
        self.backends = self._gauge("hotswitch_endpoints_backends", "Backends of these Services", ["state"])
        self.headless = self._gauge(
            "hotswitch_endpoints_without_active", "Services with an active one of which none serves", []
        )
        self.cluster_age_s = self._gauge(
            "hotswitch_endpoints_cluster_age_seconds", "Since a further cluster was last heard", ["cluster"]
        )
        self.cluster_backends = self._gauge(
            "hotswitch_endpoints_cluster_backends", "Backends of further clusters", ["cluster", "state"]
        )
        self.elections = self._counter("hotswitch_endpoints_elections_total", "Steps of elections by code", ["code"])
        self.adopted_services = self._gauge(
            "hotswitch_adopted_services", "Ordinary Services that may be taken over, by where they are", ["phase"]
        )
        self.adoptions = self._counter("hotswitch_adoptions_total", "What became of such Services, by code", ["code"])
        self.slice_writes = self._counter("hotswitch_endpoint_slice_writes_total", "EndpointSlices written", ["verb"])
        self.istio_writes = self._counter(
            "hotswitch_istio_config_writes_total", "ServiceEntries and DestinationRules written", ["verb"]
        )
        self.switch_s = self._histogram(
            "hotswitch_endpoints_switch_seconds", "An active one withdrawn to its successor", [], ACT_BUCKETS_S
        )
        self.xds_streams = self._gauge("hotswitch_xds_streams", "Clients that are subscribed to endpoints", [])
        self.xds_pushes = self._counter("hotswitch_xds_pushes_total", "Answers sent to such clients", ["kind"])
        self.xds_bytes = self._counter("hotswitch_xds_sent_bytes_total", "Bytes sent to such clients", ["kind"])
        self.xds_nacks = self._counter("hotswitch_xds_nacks_total", "Answers that a client has refused", ["kind"])
        self.xds_ended = self._counter("hotswitch_xds_ended_total", "Streams that were ended from here", ["reason"])
        self._counted: dict[tuple[Counter, str], float] = {}

    def _of_agents(self) -> None:
        self.agents = self._gauge("hotswitch_agents", "Agents whose link is up", [])
        self.agent_refusals = self._counter(
            "hotswitch_agent_refusals_total", "What agents said and was not believed", ["reason"]
        )
        self.agent_lines_lost = self._gauge(
            "hotswitch_agent_lines_lost", "Lines that did not fit the buffers of agents that are connected", []
        )

    def _gauge(self, name: str, help_: str, labels: list[str]) -> Gauge:
        return Gauge(name, help_, labels, registry=self.registry)

    def _counter(self, name: str, help_: str, labels: list[str]) -> Counter:
        return Counter(name, help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_, labels, buckets=buckets, registry=self.registry)

    # ---- pods and budgets

    def watches(self, by_mode: Mapping[str, int]) -> None:
        self._set_all(self.watched, {(mode,): number for mode, number in by_mode.items()})

    def stands(self, pods: Iterable[tuple[Level, str]]) -> None:
        """All pods that are not at capture: their worse level, and why (a fault's name)."""
        counted: dict[tuple[str, ...], float] = {}
        for level, reason in pods:
            labels = (level.value, self._reasons(reason))
            counted[labels] = counted.get(labels, 0) + 1
        self._set_all(self.bypassed, counted)

    def budget(self, scopes: Mapping[tuple[str, str], tuple[int, int]]) -> None:
        """(scope, of what) -> (used, limit), for the mesh and whatever else has something open: `scope` is mesh, node,
        namespace or workload. The fullest are shown."""
        fullest = sorted(scopes.items(), key=lambda each: (each[0][0] != "mesh", -each[1][0], each[0]))
        for place, gauge in enumerate((self.used, self.limit)):
            self._set_all(gauge, {labels: pair[place] for labels, pair in fullest[:SCOPES]})

    def invalid_objects(self, by_kind: Mapping[str, int]) -> None:
        self._set_all(self.invalid, {(kind,): number for kind, number in by_kind.items()})

    def _set_all(self, gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
        """These and no others: a series of what is over would tell a lie for ever. What stays is never away meanwhile,
        for a scrape may come at any moment."""
        for labels, value in values.items():
            gauge.labels(*labels).set(value)
        for gone in self._series.get(gauge, set()) - values.keys():
            gauge.remove(*gone)
        self._series[gauge] = set(values)

    # ---- work

    def decided(self, code: str) -> None:
        self.decisions.labels(self._codes(code)).inc()

    def refused(self, code: str) -> None:
        self.refusals.labels(self._codes(code)).inc()

    def detected(self, fault: str, seconds: float) -> None:
        self.detect_s.labels(self._reasons(fault)).observe(seconds)

    def acted(self, actuator: str, outcome: str, seconds: float) -> None:
        self.act_s.labels(actuator, outcome).observe(seconds)

    def restored(self, reason: str, seconds: float) -> None:
        self.restore_s.labels(self._codes(reason)).observe(seconds)

    # ---- the API server

    def api_failed(self, verb: str, status: int) -> None:
        """`status` 0: no answer."""
        self.api_errors.labels(verb.lower(), str(status)).inc()

    def watch(self, kind: str, age_s: Callable[[], float]) -> None:
        """Asked at each scrape, so that a watch that hears nothing is seen to grow old."""
        self.watch_age_s.labels(kind).set_function(age_s)

    def leads(self, leads: bool) -> None:
        self.leader.set(leads)

    # ---- agents

    def agent_refused(self, reason: str) -> None:
        self.agent_refusals.labels(reason).inc()

    # ---- telling people (alerts.worker.Counts)

    def alert(self, receiver: str, result: str, number: int = 1) -> None:
        self.alerts.labels(self._receivers(receiver), str(result)).inc(number)

    def alerts_queued(self, receiver: str, number: int) -> None:
        self.queued.labels(self._receivers(receiver)).set(number)

    def forget_receiver(self, receiver: str) -> None:
        self._receivers.forget(receiver)
        for series in (self.alerts, self.queued):
            series.remove_by_labels({"receiver": receiver})

    def event(self, result: str) -> None:
        self.events.labels(result).inc()

    # ---- endpoints

    def serving(self, modes: Mapping[str, int], backends: Mapping[str, int], without_active: int) -> None:
        self._set_all(self.services, {(mode,): number for mode, number in modes.items()})
        self._set_all(self.backends, {(state,): number for state, number in backends.items()})
        self.headless.set(without_active)

    def clusters(self, states: Iterable[ClusterState]) -> None:
        """Of clusters but the home one: how long ago each was heard, and its backends: fresh, stale, lost."""
        ages: dict[tuple[str, ...], float] = {}
        backends: dict[tuple[str, ...], float] = {}
        for each in states:
            ages[each.name,] = each.age_s
            backends |= {(each.name, str(word)): each.backends.get(word, 0) for word in Staleness}
        self._set_all(self.cluster_age_s, ages)
        self._set_all(self.cluster_backends, backends)

    def election(self, code: str) -> None:
        self.elections.labels(self._codes(code)).inc()

    def adopted(self, phases: Mapping[str, int]) -> None:
        self._set_all(self.adopted_services, {(phase,): number for phase, number in phases.items()})

    def adoption(self, code: str) -> None:
        self.adoptions.labels(self._codes(code)).inc()

    def switched(self, seconds: float) -> None:
        self.switch_s.observe(seconds)

    def xds(self, streams: int, *totals: Mapping[str, int]) -> None:
        """`totals` since the start: answers, bytes, refusals by type URL; streams ended by reason."""
        self.xds_streams.set(streams)
        counters = self.xds_pushes, self.xds_bytes, self.xds_nacks, self.xds_ended
        for counter, by_kind in zip(counters, totals, strict=True):
            for url, total in by_kind.items():
                kind = url.rpartition(".")[2]
                counter.labels(kind).inc(total - self._counted.get((counter, kind), 0))
                self._counted[counter, kind] = total

    def slice_written(self, verb: str) -> None:
        self.slice_writes.labels(verb).inc()

    def istio_written(self, verb: str) -> None:
        self.istio_writes.labels(verb).inc()

    def serve(self, address: str, port: int) -> WSGIServer:
        """Serve /metrics from a thread of its own, until `shutdown()` and `server_close()` of what is returned. Raises
        OSError when the address is taken."""
        server, _ = start_http_server(port, address, registry=self.registry)
        return server
