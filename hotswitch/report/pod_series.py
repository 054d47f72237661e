"""Gauges of pods, kept as plain numbers: with an object of the library for each of its series a pod took 5 kB, most of
it in objects that nobody reads between two scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hotswitch.model import PodRef


class PodSeries(Collector):
    """`labels`: first the pod's name, then `more`. Scraped by another thread than the one that sets."""

    def __init__(self, registry: CollectorRegistry, name: str, help_: str, *more: str) -> None:
        self._name, self._help, self.labels = name, help_, ("pod", *more)
        self._values: dict[PodRef, dict[tuple[str, ...], float]] = {}
        registry.register(self)

    def set(self, pod: PodRef, value: float, *labels: str) -> None:
        self._values.setdefault(pod, {})[labels] = value

    def only(self, pod: PodRef, *labels: str) -> None:
        """1 for these labels, and nothing for others that the pod had."""
        self._values[pod] = {labels: 1.0}

    def forget(self, pod: PodRef) -> None:
        self._values.pop(pod, None)

    def describe(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self._name, self._help, labels=self.labels)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._help, labels=self.labels)
        for pod, values in self._values.copy().items():
            for labels, value in values.copy().items():
                family.add_metric((str(pod), *labels), value)
        yield family
