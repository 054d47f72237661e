"""The demo: what it counts, what it shows, what it complains about, and one short run from start to a clean end."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from hotswitch import precheck
from hotswitch.decide.evidence import OVERWORKED_FACTOR, WORKER_FACTOR
from hotswitch.model import Act, Thresholds
from hotswitch.report.journal import Entry
from hotswitch.sandbox import demo, result
from hotswitch.sandbox.board import Board, Counter, PodLine, remark
from hotswitch.sandbox.estate import CGROUP_ROOT, RUN_ROOT
from hotswitch.sandbox.outcome import Kind, Row
from hotswitch.sandbox.picture import draw, heights
from hotswitch.sandbox.protector import JournalTail, openings
from hotswitch.sandbox.score import (
    STREAMS,
    WITH,
    WITHOUT,
    WORLDS,
    Bucket,
    Mark,
    Stream,
    lines,
    served_within,
    spans,
    tally,
    timeline,
)
from hotswitch.sandbox.view import LiveView, PlainView
from hotswitch.sandbox.walk import SHORTEST_S, WALK, length, plan
from hotswitch.sandbox.world import HIT, PREFIX

OK, PAST, BAD = Kind.VIA_PROXY, Kind.DIRECT, Kind.REFUSED
PLAIN_1 = Stream("plain", 1)


def row(start_s: float, kind: Kind = OK, took_s: float = 0.001) -> Row:
    return Row(start_s, start_s + took_s, kind)


def mark(name: str, at_s: float, *, bypass: bool = True, undone_s: float | None = None) -> Mark:
    return Mark(name, bypass, {(world, pod): at_s for world in WORLDS for pod in HIT}, undone_s)


def entry(event: str, at_s: float, pod: str = "one-0", **fields: object) -> Entry:
    """A journal line of monotonic instant `at_s`."""
    at = datetime.fromtimestamp(time.time() - time.monotonic() + at_s, UTC).isoformat(timespec="microseconds")
    return msgspec.convert({"at": at, "event": event, "pod": f"default/{pod}", **fields}, Entry)


@pytest.mark.unit
class TestTimeline:
    def test_requests_fall_into_the_slice_in_which_they_began(self) -> None:
        rows = [row(10.0), row(10.1, PAST), row(10.24, BAD), row(10.25), row(10.6, Kind.TIMEOUT)]
        assert timeline(rows, 10.0, 10.75, 0.25) == [
            Bucket(10.0, sidecar=1, past=1, failed=1),
            Bucket(10.25, sidecar=1),
            Bucket(10.5, failed=1),
        ]

    def test_requests_outside_are_left_out_and_empty_slices_stay(self) -> None:
        assert [each.requests for each in timeline([row(9.99), row(11.0)], 10.0, 11.0, 0.5)] == [0, 0]

    def test_a_request_that_never_ended_has_failed(self) -> None:
        assert timeline([Row(10.0, 0.0, Kind.PENDING)], 10.0, 10.5, 0.5)[0].failed == 1

    def test_no_time_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"from 5\.0 to 5\.0"):
            timeline([], 5.0, 5.0, 0.25)


@pytest.mark.unit
class TestTally:
    def test_longest_outage_goes_to_the_next_request_that_is_served(self) -> None:
        rows = [row(1.0), row(1.1, BAD), row(1.2), row(1.3, BAD), row(1.4, BAD), row(1.7), row(1.8)]
        counted = tally(rows, 1.0, 2.0)
        assert (counted.requests, counted.failed, counted.lasting) == (7, 3, False)
        assert counted.outage_s == pytest.approx(0.4)

    def test_an_outage_that_does_not_end_lasts_until_the_end(self) -> None:
        counted = tally([row(1.0), row(1.5, BAD)], 1.0, 3.0)
        assert counted.lasting
        assert counted.outage_s == pytest.approx(1.5)

    def test_a_request_in_flight_belongs_to_the_fault_in_which_it_ended(self) -> None:
        slow = row(0.9, Kind.TIMEOUT, took_s=1.0)
        assert tally([slow], 0.0, 1.0).requests == 0
        assert tally([slow], 1.0, 2.0).failed == 1

    def test_table_has_a_line_for_each_fault_and_stream(self) -> None:
        rows = {(world, stream): [row(at / 10) for at in range(100, 200)] for world in WORLDS for stream in STREAMS}
        rows[WITHOUT, PLAIN_1] = [row(at / 10, BAD if 110 <= at < 120 else OK) for at in range(100, 200)]
        made = lines(rows, [mark("killed", 11.0), mark("hung", 15.0)], 20.0, {"killed": 3.5})
        assert [(line.fault, line.stream) for line in made] == [(f, s) for f in ("killed", "hung") for s in STREAMS]
        assert made[0].tallies[WITHOUT].failed == 10
        assert made[0].tallies[WITHOUT].outage_s == pytest.approx(1.0)
        assert made[0].tallies[WITH].failed == 0
        assert sum(line.tallies[WITHOUT].failed for line in made) == 10
        assert [line.gate_ms for line in made] == [3.5] * 4 + [None] * 4

    def test_stretches_of_a_state_and_what_was_served_in_them(self) -> None:
        unready = spans([(0.0, False), (2.0, True), (3.0, False), (8.0, True)], 9.0)
        assert unready == [(2.0, 3.0), (8.0, 9.0)]
        assert served_within([row(2.5), row(2.6, BAD), row(5.0), row(8.5, PAST)], unready) == 2


@pytest.mark.unit
class TestPlan:
    def test_all_faults_fit_into_a_minute(self) -> None:
        assert [step.name for step in plan(60)] == [step.name for step in WALK]

    def test_a_stuck_worker_is_held_longer_than_a_busy_machine_needs_to_believe_it(self) -> None:
        (step,) = [step for step in plan(60) if step.name == "one worker stuck"]
        assert step.hold_s > Thresholds().hung_queue_s * WORKER_FACTOR * OVERWORKED_FACTOR + 1

    def test_short_walk_takes_fewer_faults_and_keeps_one_to_be_left_alone(self) -> None:
        steps = plan(SHORTEST_S)
        assert 2 <= len(steps) < len(WALK)
        assert {step.bypass for step in steps} == {True, False}
        assert length(list(steps)) == pytest.approx(SHORTEST_S)

    def test_long_walk_lets_faults_last_longer(self) -> None:
        assert length(list(plan(120))) == pytest.approx(120)
        assert all(long.hold_s > short.hold_s for long, short in zip(plan(120), WALK, strict=True))

    def test_too_short_a_walk_is_refused_by_name_and_value(self) -> None:
        with pytest.raises(ValueError, match="seconds: 19"):
            plan(19)


# ---- the picture ----


def pictured(path: Path) -> None:
    marks = [mark("killed", 102.0, undone_s=105.0), mark("drained", 107.0, bypass=False, undone_s=108.0)]
    rows = {
        (world, stream): [row(100 + at / 50, _fate(world, 100 + at / 50)) for at in range(500)]
        for world in WORLDS
        for stream in STREAMS
    }
    draw(path, rows, marks, 100.0, 110.0)


def _fate(world: str, at_s: float) -> Kind:
    if not 102 <= at_s < 105:
        return OK
    return BAD if world == WITHOUT else PAST


@pytest.mark.unit
class TestPicture:
    def test_png_shows_failures_without_and_the_rescue_with(self, tmp_path: Path) -> None:
        pictured(tmp_path / "demo.png")
        from matplotlib.image import imread

        data = (tmp_path / "demo.png").read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) < 300_000
        pixels = (imread(tmp_path / "demo.png")[:, :, :3] * 255).round().astype(int)
        assert pixels.shape[1] == 1200
        failed = (abs(pixels - (0xD5, 0x5E, 0x00)).sum(axis=2) < 6).sum()
        rescued = (abs(pixels - (0x00, 0x72, 0xB2)).sum(axis=2) < 6).sum()
        assert failed > 20_000, "three of ten seconds, in four rows"
        assert rescued > 20_000

    def test_svg_is_well_formed_and_drawn(self, tmp_path: Path) -> None:
        pictured(tmp_path / "demo.svg")
        root = ElementTree.parse(tmp_path / "demo.svg").getroot()
        assert root.tag.endswith("svg")
        assert sum(each.tag.endswith("path") for each in root.iter()) > 200

    def test_another_suffix_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"demo\.gif"):
            pictured(tmp_path / "demo.gif")

    def test_names_that_would_meet_get_another_height(self) -> None:
        assert heights([0.0, 0.5, 3.0], [1.0, 1.0, 1.0]) == [0, 1, 0]


# ---- the journal, the verdict ----


def opening(at_s: float, pod: str = "one-0", levels: str = "inbound rescue, outbound direct") -> Entry:
    return entry(Act.OPEN, at_s, pod, code="HSD001", why="opened", rules_after=levels, durations_ms={"gate_ms": 0.2})


def closing(at_s: float, pod: str = "one-0", unchanged: str = "True") -> list[Entry]:
    proof = entry("verified", at_s + 0.1, pod, evidence={"istio_rules_unchanged": unchanged})
    return [entry(Act.CLOSE, at_s, pod, code="HSD010", why="restored", rules_after="closed"), proof]


def whole_story() -> list[Entry]:
    return [each for pod in HIT for each in (opening(10.004, pod), *closing(12.0, pod))]


MARKS = [mark("killed", 10.0), mark("drained", 20.0, bypass=False)]


@pytest.mark.unit
class TestVerdict:
    def test_nothing_to_complain_about(self) -> None:
        assert result.complaints(whole_story(), MARKS, 30.0) == []

    def test_time_from_fault_to_gate(self) -> None:
        assert openings(whole_story(), MARKS[0], WITH, 20.0)["one-0"] == pytest.approx(4.0, abs=0.5)

    def test_gate_that_was_not_opened(self) -> None:
        entries = [each for each in whole_story() if each.pod.endswith("one-0")]
        assert result.complaints(entries, MARKS, 30.0) == ["killed: the gate of two-0 was not opened"]

    def test_gate_that_was_opened_for_an_operators_drain(self) -> None:
        entries = [*whole_story(), opening(21.0), *closing(23.0)]
        assert result.complaints(entries, MARKS, 30.0) == ["drained: the gate of one-0 was opened, and should not"]

    def test_gate_left_open(self) -> None:
        entries = [opening(10.004), *(each for each in whole_story() if each.pod.endswith("two-0"))]
        said = result.complaints(entries, MARKS, 30.0)
        assert "one-0: by the journal its gate was not closed" in said

    def test_rules_that_are_not_what_they_were(self) -> None:  # I4
        entries = [opening(10.004), *closing(12.0, unchanged="False"), opening(10.004, "two-0"), *closing(12, "two-0")]
        said = result.complaints(entries, MARKS, 30.0)
        assert said == ["one-0: by the journal Istio's rules are not what they were"]

    def test_restore_that_was_never_verified(self) -> None:
        said = result.complaints([*whole_story(), opening(13.0), closing(14.0)[0]], MARKS, 30.0)
        assert said == ["one-0: by the journal its rules were not verified after the last restore"]

    def test_endpoints_kept_are_counted_in_requests(self) -> None:
        rows = {(world, stream): [row(at / 10, PAST) for at in range(100)] for world in WORLDS for stream in STREAMS}
        kept = result.endpoints({WITHOUT: [(1.0, 3.0)], WITH: [(1.0, 2.0), (5.0, 6.0)]}, rows)
        assert (kept.unready_s[WITHOUT], kept.times[WITH], kept.served) == (2.0, 2, 40)


@pytest.mark.unit
class TestJournalTail:
    def test_half_a_line_waits_for_its_other_half(self, tmp_path: Path) -> None:
        tail, line = JournalTail(tmp_path / "journal"), msgspec.json.encode(opening(1.0)) + b"\n"
        assert tail.catch_up() == []
        tail.path.write_bytes(line + line[:20])
        assert len(tail.catch_up()) == 1
        tail.path.write_bytes(line + line)
        assert len(tail.catch_up()) == 1
        assert len(tail.entries) == 2

    def test_pods_are_served_while_their_inbound_gate_is_open(self, tmp_path: Path) -> None:
        tail = JournalTail(tmp_path / "journal")
        write(tail.path, [opening(1.0), opening(1.1, "two-0", "inbound hold, outbound direct")])
        tail.catch_up()
        assert tail.open_pods == {"one-0"}
        write(tail.path, closing(2.0))
        tail.catch_up()
        assert tail.open_pods == set()

    def test_a_gate_is_unverified_from_its_opening_to_the_proof_after_its_closing(self, tmp_path: Path) -> None:
        tail = JournalTail(tmp_path / "journal")
        expected = [
            (entry("attached", 0.5), False),
            (opening(1.0), True),
            *zip(closing(2.0), (True, False), strict=True),
        ]
        for line, unverified in expected:
            write(tail.path, [line])
            tail.catch_up()
            assert tail.unverified("one-0") is unverified


def write(path: Path, entries: Iterable[Entry]) -> None:
    with path.open("ab") as journal:
        journal.writelines(msgspec.json.encode(each) + b"\n" for each in entries)


# ---- the views ----


def board(failed: int = 0) -> Board:
    counters = {(world, stream): Counter(100, failed, 0.5) for world in WORLDS for stream in STREAMS}
    bare = PodLine("one-0", "CrashLoopBackOff", "dead")
    kept = PodLine("one-0", "NotReady", "dead", "stuck-worker", "HSD001", "RESCUED, DIRECT", is_open=True)
    return Board(12.0, counters, {WITHOUT: [bare], WITH: [kept]})


@pytest.mark.unit
class TestViews:
    def test_plain_view_tells_the_fault_the_remark_and_the_loss(self) -> None:
        out = io.StringIO()
        with PlainView(Console(file=out, width=100)) as view:
            view.show(board())
            view.begin(2.0, WALK[0], 1, 8)
            said = remark(opening(10.004), MARKS, WITH)
            assert said is not None
            view.remark(2.0, said)
            view.show(board(failed=7))
        text = out.getvalue()
        assert "1/8 KILLED: kill -9 on Envoy" in text
        assert re.search(r"hotswitch: one-0 HSD001 [34]\.\d ms after the fault, written in 0\.20 ms: opened", text)
        assert "plain client, 1 replica: failed 7 without, 7 with hotswitch" in text

    def test_live_board_shows_what_is_seen_decided_and_done(self) -> None:
        out = io.StringIO()
        with LiveView(Console(file=out, force_terminal=True, width=120, height=60), 60.0) as view:
            view.begin(2.0, WALK[0], 1, 8)
            view.show(board(failed=7))
        text = out.getvalue()
        for expected in (
            "KILLED",
            "CrashLoopBackOff",
            "stuck-worker",
            "HSD001",
            "RESCUED, DIRECT",
            "50%",
        ):
            assert expected in text

    def test_bookkeeping_is_not_shown(self) -> None:
        assert remark(entry("attached", 1.0), MARKS, WITH) is None


# ---- the whole ----


@pytest.mark.unit
class TestRefusals:
    def test_what_the_machine_lacks_is_said(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        lacks = precheck.Finding("CAP_NET_ADMIN", frozenset(demo.NEEDS), "The right is missing: run as root (sudo).")
        monkeypatch.setattr(precheck, "look", lambda needs: (lacks,))
        assert demo.main(60.0, tmp_path / "demo.png", plain=True) == 1
        assert "CAP_NET_ADMIN: The right is missing: run as root (sudo)." in capsys.readouterr().err

    def test_a_picture_that_cannot_be_written_is_said_before_anything_is_made(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert demo.main(60.0, tmp_path / "nowhere" / "demo.jpg", plain=True) == 1
        said = capsys.readouterr().err
        assert "must end with .png or .svg" in said
        assert "no folder that can be written to" in said


def remains() -> set[str]:
    """Everything of any demo on this machine: namespaces, folders, cgroups, processes."""
    places = (Path("/run/netns"), RUN_ROOT, CGROUP_ROOT, *(CGROUP_ROOT / name for name in ("cpu", "memory")))
    found = {str(path) for place in places if place.is_dir() for path in place.glob(f"*{PREFIX}*")}
    return found | {words for words in commands().values() if f"{RUN_ROOT}/{PREFIX}" in words}


def commands() -> Mapping[int, str]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[int(path.parent.name)] = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def start_demo(picture: Path) -> subprocess.Popen[str]:
    argv = (sys.executable, "-m", "hotswitch.cli.main", "demo", "--seconds", "20", "--plain", "--picture", str(picture))
    return subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _lost(said: str) -> dict[str, tuple[int, int]]:
    """By fault, of all clients: failed without hotswitch, and with it."""
    row = r"^\| ([\w ]*?) *\| *(?:plain|meshed) *\| *\d *\| *[\d,]+ *\| *([\d,]+) *\| *([\d,]+) *\|"
    found: dict[str, tuple[int, int]] = {}
    fault = ""
    for name, *counts in re.findall(row, said, re.MULTILINE):
        fault = name or fault
        without, kept = (int(count.replace(",", "")) for count in counts)
        before = found.get(fault, (0, 0))
        found[fault] = (before[0] + without, before[1] + kept)
    return found


@pytest.mark.envoy
def test_short_demo_loses_less_with_hotswitch_and_leaves_nothing(tmp_path: Path) -> None:
    """S4, I4: the whole story, as a user sees it."""
    before = remains()
    with start_demo(tmp_path / "demo.png") as run:
        said, _ = run.communicate(timeout=150)
    assert run.returncode == 0, said
    counted = re.search(r"Of ([\d,]+) requests in each world ([\d,]+) failed without hotswitch, ([\d,]+) with", said)
    assert counted is not None, said
    asked, without, kept = (int(number.replace(",", "")) for number in counted.groups())
    assert asked > 20 * 4 * 10 and kept < without
    lost = _lost(said)
    assert set(lost) >= {"killed", "hung"}, said
    for fault in ("killed", "hung"):  # the third is the app's own, and left alone
        assert lost[fault][1] < lost[fault][0] / 2, said
    assert {"HSD001", "HSD010", "HSD026"} <= set(re.findall(r"HSD\d{3}", said))
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert remains() <= before


@pytest.mark.envoy
def test_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """^C in the middle of making the worlds, the moment at which most is half made."""
    before = remains()
    with start_demo(tmp_path / "demo.png") as run:
        deadline = time.monotonic() + 60
        while len(remains() - before) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert "interrupted; everything that was made has been removed" in said
    assert remains() <= before
