"""Figures that are counted only when somebody asks for /metrics: what stands, and what is used of budgets (I3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hotswitch.controller.invalid import InvalidObjects
from hotswitch.controller.picture import Picture
from hotswitch.controller.worker import PodWorker
from hotswitch.model import Level
from hotswitch.report.conditions import worst
from hotswitch.report.controller_metrics import ControllerMetrics


def refresh(
    metrics: ControllerMetrics, picture: Picture, workers: Sequence[PodWorker], invalid: Iterable[InvalidObjects]
) -> None:
    standing = [(worst(worker.standing.levels), str(worker.standing.fault)) for worker in workers]
    metrics.stands([each for each in standing if each[0] is not Level.CAPTURE])
    metrics.watches(picture.by_mode)
    metrics.invalid_objects(sum((each.by_kind for each in invalid), Counter[str]()))
    metrics.budget(budgets(picture, workers))


def budgets(picture: Picture, workers: Sequence[PodWorker]) -> dict[tuple[str, str], tuple[int, int]]:
    """(kind, whose) -> (used, of how many), where anything is open."""
    opened = [worker.pod for worker in workers if worker.counts_as_open]
    of_namespace = Counter(pod.namespace for pod in opened)
    of_workload = Counter(f"{pod.namespace}/{pod.workload}" for pod in opened)
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for pod in opened:
        limits, scope = picture.limits(pod), f"{pod.namespace}/{pod.workload}"
        found["mesh", ""] = (len(opened), limits.mesh)
        found["namespace", pod.namespace] = (of_namespace[pod.namespace], limits.namespace)
        found["workload", scope] = (of_workload[scope], limits.workload)
    return found
