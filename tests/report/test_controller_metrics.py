"""Metrics of the controller: bounded, true at every scrape, and read by a real Prometheus (S4.6)."""

import asyncio

import pytest
from prometheus_client import generate_latest

from hotswitch.model import Level
from hotswitch.report.controller_metrics import OTHER, SCOPES, ControllerMetrics
from tests.report import monitoring


def told(metrics):
    return generate_latest(metrics.registry).decode()


@pytest.mark.unit
def test_pod_that_is_restored_leaves_no_series() -> None:
    metrics = ControllerMetrics()
    metrics.stands([(Level.RESCUE, "dead"), (Level.RESCUE, "dead"), (Level.HOLD, "hung")])
    assert 'hotswitch_bypassed_pods{level="rescue",reason="dead"} 2.0' in told(metrics)
    metrics.stands([(Level.RESCUE, "dead")])
    assert 'hotswitch_bypassed_pods{level="rescue",reason="dead"} 1.0' in told(metrics)
    assert "hung" not in told(metrics)
    metrics.stands([])
    assert "hotswitch_bypassed_pods{" not in told(metrics)


@pytest.mark.unit
def test_whoever_names_things_cannot_fill_the_memory() -> None:
    metrics = ControllerMetrics()
    for number in range(1000):
        metrics.decided(f"HSD{number}")
        metrics.alert(f"shop/{number}", "sent")
        metrics.stands([(Level.HOLD, f"fault{number}")])
    metrics.budget({("workload", f"shop/{number}"): (number, 2000) for number in range(1000)} | {("mesh", ""): (0, 9)})
    lines = told(metrics).splitlines()
    assert 200 <= sum(line.startswith("hotswitch_decisions_total{") for line in lines) <= 201
    assert sum(line.startswith("hotswitch_alerts_total{") for line in lines) == 101
    assert f'hotswitch_alerts_total{{receiver="{OTHER}",result="sent"}} 900.0' in lines
    assert sum(line.startswith("hotswitch_budget_used{") for line in lines) == SCOPES
    assert 'hotswitch_budget_used{of="shop/999",scope="workload"} 999.0' in lines
    assert 'hotswitch_budget_limit{of="",scope="mesh"} 9.0' in lines


@pytest.mark.unit
def test_receiver_that_is_gone_leaves_no_series_and_makes_room() -> None:
    metrics = ControllerMetrics()
    for number in range(100):
        metrics.alerts_queued(f"r{number}", 1)
    metrics.forget_receiver("r7")
    metrics.forget_receiver("never seen")
    assert '"r7"' not in told(metrics)
    metrics.alerts_queued("new", 3)
    assert 'hotswitch_alerts_queued{receiver="new"} 3.0' in told(metrics)


@pytest.mark.unit
def test_watch_that_hears_nothing_grows_old_between_scrapes() -> None:
    metrics, age = ControllerMetrics(), [1.0]
    metrics.watch("pods", lambda: age[0])
    assert 'hotswitch_watch_age_seconds{kind="pods"} 1.0' in told(metrics)
    age[0] = 99.0
    assert 'hotswitch_watch_age_seconds{kind="pods"} 99.0' in told(metrics)


@pytest.mark.prometheus
def test_real_prometheus_reads_what_the_controller_shows(tmp_path) -> None:
    metrics = ControllerMetrics()
    metrics.leads(True)
    metrics.stands([(Level.DIRECT, "dead")])
    metrics.detected("dead", 0.004)
    metrics.acted("helper", "done", 0.02)
    metrics.restored("HSD010", 31.0)
    metrics.api_failed("PATCH", 409)
    metrics.budget({("mesh", ""): (1, 3)})
    server = metrics.serve("127.0.0.1", 0)
    try:
        with monitoring.prometheus(tmp_path / "prometheus", f"127.0.0.1:{server.server_port}") as url:
            asyncio.run(_asked(url))
    finally:
        server.shutdown()
        server.server_close()


async def _asked(url):
    await monitoring.ready(url)

    async def value(query):
        found = (await monitoring.get(f"{url}/api/v1/query", query=query))["data"]["result"]
        return found[0]["value"][1] if found else None

    assert await monitoring.eventually(lambda: value("hotswitch_leader"), bool) == "1"
    assert await value('hotswitch_bypassed_pods{level="direct",reason="dead"}') == "1"
    assert await value('hotswitch_api_errors_total{verb="patch",code="409"}') == "1"
    assert await value('hotswitch_restore_seconds_bucket{reason="HSD010",le="60.0"}') == "1"
    assert await value("hotswitch_budget_used / hotswitch_budget_limit") == "0.3333333333333333"
    assert await value("up") == "1"
