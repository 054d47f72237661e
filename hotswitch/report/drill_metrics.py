"""What drills have shown, by workload: a fallback that is never exercised fails when it is needed (S4.4, S4.6).

A workload whose drills do not succeed any longer is told by an instant in the past, so that an alert needs no knowledge
of the schedule. Labels are bounded by the pods that an agent is given.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class DrillMetrics:
    """Durations in seconds, instants as Unix time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, help_: str) -> Gauge:
            return Gauge(f"hotswitch_drill_{name}", help_, ["workload"], registry=registry)

        self.results = Counter("hotswitch_drills_total", "Drills by result", ["workload", "result"], registry=registry)
        self.requests = Counter(
            "hotswitch_drill_requests_total", "Requests of drills", ["workload", "outcome"], registry=registry
        )
        self.success = gauge("last_success_timestamp_seconds", "When a drill passed last")
        self.overdue = gauge("overdue_timestamp_seconds", "When drills are overdue unless one passes before")
        self.failed = gauge("failed", "1 while the last drill of the workload failed")
        self.open_s = gauge("open_seconds", "From the order to the first answer through the rescue, last drill")
        self.restore_s = gauge("restore_seconds", "From the end to the first answer through the proxy, last drill")

    def ended(self, workload: str, result: str, *, served: int, lost: int, judges: bool = True) -> None:
        """`result`: passed, failed, interrupted or refused; the last two say nothing about the rescue. `judges`: it is
        told here how the workload stands; not where a controller ordered the drill, who sees all pods of it."""
        self.results.labels(workload, result).inc()
        self.requests.labels(workload, "served").inc(served)
        self.requests.labels(workload, "lost").inc(lost)
        if judges and result in ("passed", "failed"):
            self.failed.labels(workload).set(result == "failed")

    def passed(self, workload: str, at_unix_s: float, open_s: float, restore_s: float) -> None:
        self.success.labels(workload).set(at_unix_s)
        self.open_s.labels(workload).set(open_s)
        self.restore_s.labels(workload).set(restore_s)

    def knows(self, workload: str, success_unix_s: float | None, overdue_unix_s: float) -> None:
        """What a schedule knows before its first drill, and after each."""
        if success_unix_s is not None:
            self.success.labels(workload).set(success_unix_s)
        self.overdue.labels(workload).set(overdue_unix_s)

    def forget(self, workload: str) -> None:
        series: tuple[Counter | Gauge, ...] = (
            self.results, self.requests, self.success, self.overdue, self.failed, self.open_s, self.restore_s,
        )  # fmt: skip
        for each in series:
            each.remove_by_labels({"workload": workload})
