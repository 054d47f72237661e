"""Metrics of an agent, in Prometheus' form. Names are stable; labels are bounded by the pods an agent is given."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from hotswitch.model import Diagnosis, Direction, Fault, Level, PodRef
from hotswitch.report.drill_metrics import DrillMetrics
from hotswitch.report.pod_series import PodSeries

SWITCH_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
LEVELS = {Level.CAPTURE: 0, Level.HOLD: 1, Level.RESCUE: 2, Level.DIRECT: 3}


class Metrics:
    """One registry per agent, so that several can live in one process (tests, sandbox)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.level = PodSeries(
            self.registry, "hotswitch_level", "Where new flows go: 0 capture, 1 hold, 2 rescue, 3 direct", "direction"
        )
        self.fault = PodSeries(self.registry, "hotswitch_fault", "1 for the fault seen now", "fault")
        self.acts = Counter("hotswitch_acts_total", "Acts carried out", ["act", "code"], registry=self.registry)
        self.failures = Counter("hotswitch_act_failures_total", "Acts that failed", ["act"], registry=self.registry)
        self.pages = Counter("hotswitch_pages_total", "A person was needed", ["code"], registry=self.registry)
        self.alone = Counter(
            "hotswitch_hangs_not_seconded_total",
            "Hangs that nothing was done about, because no second observer saw them",
            ["why"],
            registry=self.registry,
        )
        self.decide_s = Histogram(
            "hotswitch_evidence_to_gate_seconds",
            "From the news to the written gate",
            buckets=SWITCH_BUCKETS_S,
            registry=self.registry,
        )
        self.gate_s = Histogram(
            "hotswitch_gate_write_seconds", "One write of the gate", buckets=SWITCH_BUCKETS_S, registry=self.registry
        )
        self.rescue_deaths = Counter("hotswitch_rescue_deaths_total", "Rescue Envoy deaths", registry=self.registry)
        self.identity_s = PodSeries(
            self.registry, "hotswitch_identity_expires_seconds", "Life left of the identity held for the rescue"
        )
        self.identity_way = PodSeries(
            self.registry, "hotswitch_identity_way", "1 for the way by which the rescue's identity was come by", "way"
        )
        self.stand_in = PodSeries(
            self.registry, "hotswitch_stand_in", "1 while the app's probes are answered in pilot-agent's place"
        )
        self.stand_in_answers = Counter(
            "hotswitch_stand_in_answers_total", "Probes answered in pilot-agent's place", ["pod", "result"],
            registry=self.registry,
        )  # fmt: skip
        self.pods = Gauge("hotswitch_pods", "Pods under watch", registry=self.registry)
        self.drills = DrillMetrics(self.registry)
        self._last_fault: dict[PodRef, Fault] = {}

    def saw(self, pod: PodRef, diagnosis: Diagnosis) -> None:
        last = self._last_fault.get(pod)
        if last is not diagnosis.fault:
            if last is not None:
                self.fault.set(pod, 0, last)
            self.fault.set(pod, 1, diagnosis.fault)
            self._last_fault[pod] = diagnosis.fault

    def stands(self, pod: PodRef, direction: Direction, level: Level) -> None:
        self.level.set(pod, LEVELS[level], direction)

    def identity_lasts(self, pod: PodRef, seconds: float | None) -> None:
        """None: the rescue holds no identity for this pod."""
        if seconds is not None:
            self.identity_s.set(pod, seconds)

    def identity_came(self, pod: PodRef, way: str) -> None:
        """`way`: as in agent.identities; "": the rescue holds none that this agent has fetched."""
        if way:
            self.identity_way.only(pod, way)
        else:
            self.identity_way.forget(pod)

    def stands_in(self, pod: PodRef, answers: bool) -> None:
        self.stand_in.set(pod, answers)

    def probe_answered(self, pod: PodRef, result: str) -> None:
        """`result`: passed, failed, or refused (no declared probe was asked)."""
        self.stand_in_answers.labels(str(pod), result).inc()

    def forget(self, pod: PodRef) -> None:
        """A pod that is gone leaves no series behind, of the faults that it once had neither."""
        self._last_fault.pop(pod, None)
        for series in (self.fault, self.level, self.identity_s, self.identity_way, self.stand_in):
            series.forget(pod)
        self.stand_in_answers.remove_by_labels({"pod": str(pod)})

    def serve(self, address: str, port: int) -> None:
        """Serve /metrics from a thread of its own. Raises OSError when the address is taken."""
        start_http_server(port, address, registry=self.registry)
