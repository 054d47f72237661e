"""How the demo is watched: a live board where there is a terminal, a line for each event where there is none.

Both are the same `Teller` to the story. The live board says per pod what is seen, decided and done, and per stream how
many requests were served and failed, in both worlds; below it the last things that hotswitch said.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hotswitch.sandbox.board import Board, Counter, PodLine, Remark
from hotswitch.sandbox.score import STREAMS, WITH, WITHOUT, WORLDS, Stream
from hotswitch.sandbox.walk import Step

REMARKS_SHOWN = 5
BACK_OFF = "CrashLoopBackOff"
FOOT = "Back-off 5 times as fast. With hotswitch, an open pod keeps its endpoint."
GOOD, BAD = "bright_blue", "bold orange1"


def stamp(elapsed_s: float) -> str:
    return f"[{elapsed_s:5.1f} s]"


class PlainView:
    """Lines of text, in order of time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: Board | None = None
        self._before: Board | None = None

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sum_up()

    def begin(self, elapsed_s: float, step: Step, number: int, of: int) -> None:
        self._sum_up()
        self._before = self._last
        self._line(f"{stamp(elapsed_s)} {number}/{of} {step.name.upper()}: {step.happens}")
        self._line(f"{' ' * 9}    expect: {step.expect}")

    def remark(self, elapsed_s: float, said: Remark) -> None:
        self._line(f"{stamp(elapsed_s)}    hotswitch: {said}")

    def say(self, elapsed_s: float, sentence: str) -> None:
        self._line(f"{stamp(elapsed_s)} {sentence}")

    def show(self, board: Board) -> None:
        self._last = board

    def _sum_up(self) -> None:
        """What the last fault has cost, with and without."""
        if self._before is None or self._last is None:
            return
        for stream in STREAMS:
            lost = [self._failed_since(world, stream) for world in (WITHOUT, WITH)]
            self._line(f"{stamp(self._last.elapsed_s)}    {stream}: failed {lost[0]} without, {lost[1]} with hotswitch")

    def _failed_since(self, world: str, stream: Stream) -> int:
        assert self._last is not None and self._before is not None
        return self._last.counters[world, stream].failed - self._before.counters[world, stream].failed

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A board on the terminal, redrawn whenever it is shown; made for 80 columns and 24 lines or more."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._seconds = seconds
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._remarks: deque[str] = deque(maxlen=REMARKS_SHOWN)
        self._head = Text("Two equal worlds are being made: pods with real Envoys, clients, load.")
        self._title = "getting ready"

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        self._live.update(self._panel(), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def begin(self, elapsed_s: float, step: Step, number: int, of: int) -> None:
        self._title = f"{number} of {of}: {step.name.upper()}"
        self._head = Text.assemble(step.happens + "\n", ("Expect: ", "bold"), step.expect)

    def remark(self, elapsed_s: float, said: Remark) -> None:
        self._remarks.append(f"{stamp(elapsed_s)} {said}")

    def say(self, elapsed_s: float, sentence: str) -> None:
        self._remarks.append(f"{stamp(elapsed_s)} {sentence}")

    def show(self, board: Board) -> None:
        said = Text("\n".join(self._remarks), no_wrap=True, overflow="ellipsis")
        title = f"{board.elapsed_s:.0f} s of about {self._seconds:.0f} s"
        parts = (self._panel(title), requests_table(board), pods_table(board), said, Text(FOOT, "dim"))
        self._live.update(Group(*parts), refresh=True)

    def _panel(self, subtitle: str = "") -> RenderableType:
        return Panel(self._head, title=f"hotswitch demo - {escape(self._title)}", subtitle=subtitle, title_align="left")


def _table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def requests_table(board: Board) -> Table:
    table = _table("requests")
    for title in ("without: ok", "with: ok"):
        for name in (title, "failed", "last s"):
            table.add_column(name, justify="right", no_wrap=True)
    for stream in STREAMS:
        cells = [cell for world in WORLDS for cell in _counts(board.counters[world, stream])]
        table.add_row(str(stream).replace(" client", ""), *cells)
    return table


def _counts(counter: Counter) -> tuple[Text, Text, Text]:
    recent = "-" if counter.recent is None else f"{counter.recent:.0%}"
    well = counter.recent is None or counter.recent > 0.99
    failed = Text(f"{counter.failed:,}", BAD if counter.failed else GOOD)
    return Text(f"{counter.served:,}"), failed, Text(recent, GOOD if well else BAD)


def pods_table(board: Board) -> Table:
    table = _table("pods")
    for name in ("without", "with", "seen", "decided", "done: in, out"):
        table.add_column(name, no_wrap=True)
    for bare, kept in zip(board.pods[WITHOUT], board.pods[WITH], strict=True):
        done = Text(kept.done, BAD if kept.is_open else GOOD)
        table.add_row(bare.pod, _state(bare), _state(kept), kept.seen, kept.decided, done)
    return table


def _state(line: PodLine) -> Text:
    well = line.kubelet == "Ready" and line.proxy == "runs"
    return Text(line.kubelet if line.kubelet == BACK_OFF else f"{line.kubelet}, {line.proxy}", GOOD if well else BAD)
