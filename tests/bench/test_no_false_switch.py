"""A proxy that is merely slow is left alone, and a failed one is acted on under the same stress (S4.2b, I2).

The short version of `python -m bench.stress --minutes 30`.
"""

from __future__ import annotations

import asyncio

import pytest

from bench.stress import measure

pytestmark = pytest.mark.envoy
SECONDS = 20.0
RATE = 20.0


def test_slow_proxy_is_not_taken_for_a_failed_one() -> None:
    report = asyncio.run(measure(SECONDS, hogs=1, rate=RATE))
    print(report.table())
    assert report.breaches() == []
    assert all(found.probes > 0 and found.requests > 0 for found in report.findings), "nothing was watched"
