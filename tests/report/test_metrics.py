"""Metrics of pods: what is seen now, and nothing of a pod that is gone."""

import pytest
from prometheus_client import generate_latest

from hotswitch.model import Diagnosis, Direction, Fault, Grade, Level, PodRef, PodUid
from hotswitch.report.metrics import Metrics

pytestmark = pytest.mark.unit

GONE, OTHER = PodRef("gone-0", "shop", PodUid("1")), PodRef("other-0", "shop", PodUid("2"))


def test_pod_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics()
    metrics.forget(GONE)  # never shown
    for pod in (GONE, OTHER):
        for fault in (Fault.STARTING, Fault.WELL, Fault.DEAD):
            metrics.saw(pod, Diagnosis(fault, Grade.CONFIRMED, "a sentence"))
        metrics.stands(pod, Direction.INBOUND, Level.RESCUE)
        metrics.identity_lasts(pod, 60.0)
    metrics.forget(GONE)
    told = generate_latest(metrics.registry).decode()
    assert "gone-0" not in told
    assert 'hotswitch_fault{fault="dead",pod="shop/other-0"} 1.0' in told
    assert 'hotswitch_fault{fault="well",pod="shop/other-0"} 0.0' in told
    assert 'hotswitch_level{direction="inbound",pod="shop/other-0"} 2.0' in told
