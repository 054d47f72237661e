"""Drills in the town: how they are ordered, and what becomes of them."""

from __future__ import annotations

import itertools
import time
from typing import Any

from hotswitch.api import names
from hotswitch.api.drills import DrillOrder, DrillRecord, read_record, text_of
from hotswitch.api.values import shown_instant
from hotswitch.controller.app import Controller
from hotswitch.decide.drill import Schedule, turn_s
from tests.controller.agency import Guard, Node
from tests.controller.test_agents import AGENTS, may_open
from tests.controller.town import Town

EVERY_S = 60.0


BY_SCHEDULE = {**AGENTS, "spec": {**AGENTS["spec"], "drill": {"every": "60s", "for": "2s"}}}


def record(made: Town, name: str) -> DrillRecord | None:
    return read_record(made.annotations(name), made.api.admin.get("pods", name, "shop")["metadata"]["uid"])


def order(made: Town, name: str, **more: Any) -> DrillOrder:
    """A person's, as the command writes it."""
    said = DrillOrder(**{"id": f"o-{time.monotonic_ns()}", "at": shown_instant(time.time()), "by": "ann", **more})
    annotations = {names.DRILL_ORDER: text_of(said)}
    made.api.admin.patch("pods", name, {"metadata": {"annotations": annotations}}, namespace="shop")
    return said


async def heeded(made: Town, guard: Guard, number: int = 1) -> None:
    await made.until(lambda: len(guard.orders) >= number, "the agent is told to drill")


async def ended(made: Town, name: str, said: str, result: str) -> DrillRecord:
    """The pod says so."""
    found: list[DrillRecord] = []

    def told() -> bool:
        known = record(made, name)
        found[:] = [known] if known is not None and known.id == said and not known.under_way else []
        return bool(found)

    await made.until(told, f"{name}: {result}; {made.annotations(name).get(names.DRILLED)}")
    assert found[0].result == result, found[0]
    return found[0]


def metric(controller: Controller, name: str, **labels: str) -> float | None:
    controller.refresh_metrics()
    return controller.metrics.registry.get_sample_value(name, labels)


def soon(number: int) -> list[str]:
    """Names of workloads whose turn comes in a second or two."""
    now_s = time.time()
    every = (f"w{number}" for number in itertools.count())
    schedule = Schedule(EVERY_S)
    near = (each for each in every if 1.0 < turn_s(schedule, f"shop/deploy/{each}", now_s) - now_s < 2.0)
    return list(itertools.islice(near, number))


async def attached(made: Town, node: Node) -> Guard:
    guard = node.attach("web-0", await made.pod("web-0"))
    await made.until(lambda: may_open(node, guard.pod.uid), "granted")
    return guard
