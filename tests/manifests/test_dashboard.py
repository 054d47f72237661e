"""The dashboard: every panel asks for metrics that exist, and a real Prometheus answers every question (S4.6)."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics import MetricWrapperBase

from hotswitch.model import PodRef, PodUid
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.metrics import Metrics
from hotswitch.report.pod_series import PodSeries
from hotswitch.sandbox.manifests import MANIFESTS
from tests.report import monitoring

DASHBOARD = json.loads((MANIFESTS / "components" / "monitoring" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
QUERIES += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
POD = PodRef("web-0", "shop", PodUid("u"), "deploy/web")
UNASKED = {"hotswitch_pages_total", "hotswitch_endpoint_slice_writes_total"}
"""Not on it: pages are alerts, and slices that are written are of use in a search for faults alone."""


def registries() -> tuple[CollectorRegistry, CollectorRegistry]:
    return ControllerMetrics().registry, Metrics().registry


def families(*registries: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    """A family's name as it is documented, and the names of its samples."""
    kinds = {"counter": ["_total"], "histogram": ["_count", "_sum", "_bucket"]}
    for registry in registries:
        for family in registry.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, {family.name + end for end in kinds.get(family.type, [""])}


@pytest.mark.unit
@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_that_is_asked_for_exists(query: str) -> None:
    known = set().union(*(samples for _, samples in families(*registries())))
    asked = set(re.findall(r"hotswitch_\w+", query))
    assert asked and asked <= known


@pytest.mark.unit
def test_nothing_that_is_exported_is_left_out() -> None:
    asked = set(re.findall(r"hotswitch_\w+", " ".join(QUERIES)))
    assert {name for name, samples in families(*registries()) if not samples & asked} <= UNASKED


@pytest.mark.unit
def test_labels_that_are_shown_are_those_that_are_left() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            given = {name.strip() for each in kept for name in each.split(",")} - {"le"}
            assert shown <= (given or {"pod"}), panel["title"]


@pytest.mark.unit
def test_panels_have_names_words_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"] for panel in PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


def fill(registry: CollectorRegistry) -> None:
    """Something of everything, more each time."""
    values = {"scope": "mesh", "fault": "dead", "outcome": "lost", "direction": "inbound", "receiver": "ops"}
    for metric in dict.fromkeys(registry._collector_to_names):
        if isinstance(metric, PodSeries):
            metric.set(POD, 2.0, *(values.get(name, "x") for name in metric.labels[1:]))
        else:
            assert isinstance(metric, MetricWrapperBase)
            _move(metric, values)


def _move(metric: MetricWrapperBase, values: dict[str, str]) -> None:
    names = metric._labelnames
    child: Any = metric.labels(*(values.get(name, "x") for name in names)) if names else metric
    if hasattr(child, "observe"):
        child.observe(0.01)
    elif metric._type == "counter":
        child.inc()
    else:
        child.set(1.0 if metric._name == "hotswitch_drill_last_success_timestamp_seconds" else 2.0)


@pytest.mark.prometheus
def test_real_prometheus_answers_every_question(tmp_path) -> None:
    both = registries()
    servers = [start_http_server(0, "127.0.0.1", registry=registry)[0] for registry in both]
    try:
        targets = [f"127.0.0.1:{server.server_port}" for server in servers]
        with monitoring.prometheus(tmp_path / "prometheus", *targets) as url:
            asyncio.run(_asked(url, both))
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


async def _asked(url: str, both: tuple[CollectorRegistry, CollectorRegistry]) -> None:
    await monitoring.ready(url)
    open_, leads = set(QUERIES), False

    async def ask_all() -> set[str]:
        nonlocal leads
        for registry in both:
            fill(registry)
        leads = not leads
        both[0]._names_to_collectors["hotswitch_leader"].set(leads)
        for query in sorted(open_):
            found = await monitoring.get(f"{url}/api/v1/query", query=query.replace("$__rate_interval", "30s"))
            assert found["status"] == "success", query
            if any(not math.isnan(float(each["value"][1])) for each in found["data"]["result"]):
                open_.discard(query)
        return set(open_)

    await monitoring.eventually(ask_all, lambda left: not left, within_s=60.0)
