"""What readings of a container amount to (S4.2b, I2). The readings are made up; the container is this process's own."""

import os
from pathlib import Path

import pytest

from hotswitch.kernel.cgroup import Container, Reading
from hotswitch.model import Pressure
from hotswitch.observe.pressure import Gauge

pytestmark = pytest.mark.unit


class Known(Container):
    known = True


def gauge(*readings: Reading) -> Gauge:
    found = Gauge(Known(()))
    for reading in readings:
        found.note(reading)
    return found


def calm(at_s: float, **more: object) -> Reading:
    return Reading(at_s, threads=4, **more)  # type: ignore[arg-type]


def test_nothing_rises() -> None:
    assert gauge(calm(1.0, throttled=7, memory=9), calm(1.5, throttled=7, memory=9)).pressure() == Pressure(known=True)


def test_nothing_is_known() -> None:
    found = Gauge(Container(()))
    found.look(1.0)
    found.look(2.0)
    assert found.pressure() == Pressure()


def test_only_the_window_counts() -> None:
    rose = gauge(calm(1.0), calm(1.1, throttled=1), calm(1.2, throttled=1))
    assert rose.pressure().throttled
    rose.note(calm(2.3, throttled=1))
    assert not rose.pressure().throttled


def test_a_wait_for_memory_is_counted_when_it_begins() -> None:
    """Seen: blocked for 1.3 s at its limit, one count at the start of it."""
    waits = gauge(calm(1.0), calm(1.1, memory=1), *(calm(1.1 + 0.1 * each, memory=1) for each in range(1, 20)))
    assert waits.pressure().memory
    waits.note(calm(11.5, memory=1))
    assert not waits.pressure().memory


@pytest.mark.parametrize(
    ("used_s", "idle"), [((0.1, 0.2), 0), ((0.1, 0.0), 1), ((0.0, 0.0001), 2)], ids=["both work", "one", "none"]
)
def test_workers_that_use_no_cpu(used_s: tuple[float, float], idle: int) -> None:
    then, now = {11: 5.0, 12: 6.0}, {11: 5.0 + used_s[0], 12: 6.0 + used_s[1], 13: 0.0}
    assert gauge(calm(1.0, workers=then), calm(1.5, workers=now)).pressure().idle_workers == idle
    assert gauge(calm(1.0, workers=then), calm(1.1, workers=now)).pressure().idle_workers is None, "too short to say"


def test_reading_of_a_real_process(tmp_path: Path) -> None:
    """Our own: no Envoy, so no worker; it runs, so it is neither stopped nor on its way out."""
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "cpu.stat").write_text("nr_periods 0\nnr_throttled 3\n")
    container = Container([tmp_path])
    reading = container.read(1.0)
    assert reading.throttled == 3 and reading.threads >= 1 and reading.cpu_s > 0
    assert reading.workers == {} and not reading.stopped and container.exiting() == frozenset()
