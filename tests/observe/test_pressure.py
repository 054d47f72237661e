"""What readings of a container amount to (S4.2b, I2). The readings are made up; the container is this process's own."""

import os
from pathlib import Path

import pytest

from hotswitch.kernel.cgroup import Container, Reading, Worker
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
    then = {11: Worker(5.0, 0.0, "S"), 12: Worker(6.0, 0.0, "S")}
    now = {11: Worker(5.0 + used_s[0], 0.0, "S"), 12: Worker(6.0 + used_s[1], 0.0, "S"), 13: Worker(0.0, 0.0, "S")}
    assert gauge(calm(1.0, workers=then), calm(1.5, workers=now)).pressure().still_workers == idle
    short = gauge(calm(1.0, workers=then), calm(1.1, workers=now)).pressure()
    assert short.still_workers is None and short.workers == 2 and short.undecided, "too short to say"


def lives(*looks: tuple[Worker, Worker]) -> Pressure:
    """Two workers, looked at every 0.1 s."""
    return gauge(*(calm(1 + 0.1 * at, workers=dict(enumerate(look))) for at, look in enumerate(looks))).pressure()


IDLE = Worker(6.0, 0.0, "S")


def test_a_worker_wants_a_cpu_and_gets_none() -> None:
    """The kernel adds a wait up only when it is over, so all counters stand, as those of a stuck worker do."""
    waits = Worker(5.0, 0.0, "R")
    found = lives(*[(waits, IDLE)] * 5)
    assert found.starved and found.still_workers == 1
    assert lives(*[(waits, waits)] * 5).overworked


def test_a_worker_gets_a_cpu_now_and_then() -> None:
    turns = [(Worker(5.0 + 0.001 * at, 0.07 * at, "R"), IDLE) for at in range(5)]
    assert lives(*turns).starved
    runs = [(Worker(5.0 + 0.07 * at, 0.03 * at, "R"), IDLE) for at in range(5)]
    assert not lives(*runs).starved


@pytest.mark.parametrize(
    ("cpu_s", "waited_s", "busy"), [(0.06, 0.0, True), (0.03, 0.03, True), (0.002, 0.0, False), (0.03, 0.01, False)]
)
def test_busy_workers(cpu_s: float, waited_s: float, busy: bool) -> None:
    """Of each 0.1 s. A few milliseconds, as our own questions take, make nobody busy, though nobody stands."""
    lived = [Worker(5.0 + cpu_s * at, waited_s * at, "S") for at in range(5)]
    found = lives(*zip(lived, lived, strict=True))
    assert found.busy is busy and found.overworked
    assert not lives(*((each, IDLE) for each in lived)).busy, "the other one would answer in time"


def test_a_worker_gets_no_cpu_and_neither_do_we() -> None:
    """Seen with 25 runnable threads on two cores while a gate was open: between two looks at the threads 4 s, filled by
    glances; the one look within the window said that nothing kept the proxy from working, and it passed for hung."""
    then, now = (calm(at_s, workers=dict(enumerate((Worker(5.0, at_s, "R"), IDLE)))) for at_s in (1.0, 5.0))
    glances = [Reading(2.0), Reading(3.0), Reading(4.0)]
    found = gauge(then, *glances, now, Reading(5.1))
    assert found.pressure().starved and not found.pressure().undecided
    found.note(Reading(6.5))
    assert not found.pressure().starved and found.pressure().undecided, "too long ago to say"


def test_another_process_has_its_own_past() -> None:
    before, after = {1: Worker(5.0, 3.0, "S")}, {2: Worker(0.1, 0.0, "S")}
    found = gauge(calm(1.0, workers=before), calm(1.1, workers=before), calm(1.2, workers=after)).pressure()
    assert found.workers == 1 and found.undecided and not found.starved


def test_a_proxy_whose_workers_have_other_names_gets_no_cpu() -> None:
    assert gauge(calm(1.0, waited_s=0.1), calm(1.5, waited_s=0.6)).pressure().starved


def test_a_worker_waited_before_it_was_stuck() -> None:
    waits, stuck = Worker(5.0, 0.0, "R"), Worker(5.0001, 0.1, "S")
    assert not lives((waits, IDLE), *[(stuck, IDLE)] * 5).starved


@pytest.mark.parametrize(("state", "still"), [("S", 2), ("t", 2), ("T", 2), ("D", 0), ("R", 0)])
def test_workers_that_stand(state: str, still: int) -> None:
    """S: waits for a lock that never opens. D: waits for a disk, and may come back."""
    stands = Worker(5.0, 0.0, state)
    assert lives(*[(stands, stands)] * 5).still_workers == still


def test_reading_of_a_real_process(tmp_path: Path) -> None:
    """Our own: no Envoy, so no worker; it runs, so it is neither stopped nor on its way out."""
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tmp_path / "cpu.stat").write_text("nr_periods 0\nnr_throttled 3\n")
    container = Container([tmp_path])
    reading = container.read(1.0)
    assert reading.throttled == 3 and reading.threads >= 1 and reading.cpu_s > 0
    assert reading.workers == {} and not reading.stopped and not container.processes()[0].doomed


@pytest.mark.parametrize(
    ("states", "waited_s", "excused"),
    [
        ("SS", 0.0, False),
        ("RR", 0.0, True),
        ("SS", 0.3, True),
        ("SS", 0.1, False),
        ("DS", 0.0, True),
        ("TT", 0.0, False),
    ],
    ids=["stuck", "throttled", "starved", "a little late", "waits for memory", "stopped"],
)
def test_threads_are_all_there_is_to_see(states: str, waited_s: float, excused: bool) -> None:
    """S4.2b: in a pod that shares its pids, no counter of the proxy's cgroup is in sight."""
    found = Gauge(Container(()))
    for at_s, waited in ((1.0, 0.0), (1.5, waited_s / 2), (2.0, waited_s)):
        workers = {11 + place: Worker(5.0, waited, state) for place, state in enumerate(states)}
        found.note(Reading(at_s, threads=4, workers=workers, stopped=states == "TT"))
    assert found.pressure().known
    assert found.pressure().explains_slowness is excused
