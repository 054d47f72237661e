"""The demo's picture: requests over time, each stream without and with hotswitch, one above the other.

One time axis for all, so that a fault is at the same place in every row. What failed and what passed beside a broken
sidecar (rescue) stand out, what passed the sidecar as always is pale; colour-blind people can tell the three apart
(Okabe and Ito's blue and vermilion).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotswitch.sandbox.score import STREAMS, WITH, WITHOUT, WORLDS, Bucket, Mark, Rows, Stream, tally, timeline

SUFFIXES = (".png", ".svg")
WIDTH_IN, HEIGHT_IN, DPI = 12.0, 8.4, 100
BUCKET_S = 0.25
LEFT, RIGHT, TOP, BOTTOM = 0.145, 0.885, 0.79, 0.062
SIDECAR, RESCUE, FAILED, INK = "#D3E5F2", "#0072B2", "#D55E00", "#222222"
COLOURS = (SIDECAR, RESCUE, FAILED)
MEANINGS = ("served through the sidecar", "served past it, by the rescue: mTLS is kept", "failed")
NAMES = {WITHOUT: "without", WITH: "with hotswitch"}
SIZE = 10
LEVELS = 3
CHARACTER_IN = 0.078  # width of a character of SIZE, about


def draw(path: Path, rows: Rows, marks: Sequence[Mark], start_s: float, end_s: float) -> None:
    """Write the picture, PNG or SVG by the path's suffix. Raises OSError, ValueError for another suffix."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"picture: {str(path)!r} ends neither with .png nor with .svg")
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white")
    panels = _panels(figure)
    for place, (stream, world) in enumerate((stream, world) for stream in STREAMS for world in WORLDS):
        panel, mine = panels[place], rows[world, stream]
        _fill(panel, timeline(mine, start_s, end_s, BUCKET_S), start_s)
        for mark in marks:
            panel.axvline(mark.at_s - start_s, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
        _label(panel, stream, world)
        counted = tally(mine, start_s, end_s)
        _count(panel, f"{counted.failed:,} failed\nof {counted.requests:,}", counted.failed)
    _name_faults(_strip(figure, end_s - start_s), marks, start_s, end_s - start_s)
    _finish(figure, panels, end_s - start_s)
    figure.savefig(path)


def _panels(figure: Any) -> list[Any]:
    """Two rows close together for each stream, and a gap between streams."""
    groups = figure.add_gridspec(len(STREAMS), 1, left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, hspace=0.4)
    found: list[Any] = []
    for group in groups:
        for cell in group.subgridspec(len(WORLDS), 1, hspace=0.22):
            found.append(figure.add_subplot(cell, sharex=found[0] if found else None))
    return found


def _fill(panel: Any, buckets: Sequence[Bucket], start_s: float) -> None:
    """Stacked shares of what began in each slice; a slice without requests stays white."""
    asked = [bucket for bucket in buckets if bucket.requests]
    edges = [bucket.at_s - start_s for bucket in asked]
    base = [0.0] * len(asked)
    for colour, name in zip(COLOURS, ("sidecar", "past", "failed"), strict=True):
        shares = [100 * getattr(bucket, name) / bucket.requests for bucket in asked]
        panel.bar(edges, shares, BUCKET_S * 1.02, bottom=base, color=colour, align="edge", linewidth=0)
        base = [low + share for low, share in zip(base, shares, strict=True)]


def _label(panel: Any, stream: Stream, world: str) -> None:
    panel.set_ylim(0, 100)
    panel.set_yticks((0, 100))
    panel.tick_params(axis="y", labelsize=SIZE - 3, length=2)
    panel.tick_params(axis="x", labelsize=SIZE, length=2, labelbottom=False)
    for side in panel.spines.values():
        side.set_visible(False)
    name = {"ha": "right", "va": "center", "size": SIZE, "weight": "bold" if world == WITH else "normal"}
    panel.text(-0.027, 0.5, NAMES[world], transform=panel.transAxes, **name)
    if world == WITHOUT:
        panel.text(0, 1.14, str(stream), transform=panel.transAxes, size=SIZE + 1, weight="bold", va="bottom")


def _count(panel: Any, text: str, failed: int) -> None:
    colour = FAILED if failed else RESCUE
    panel.text(1.01, 0.5, text, transform=panel.transAxes, ha="left", va="center", size=SIZE, color=colour)


# ---- the faults' names, above everything ----


def _strip(figure: Any, length_s: float) -> Any:
    """An axis of its own: a bar as long as each fault lasted, and its name above."""
    strip = figure.add_axes((LEFT, TOP + 0.035, RIGHT - LEFT, 0.012))
    strip.set_axis_off()
    strip.set_xlim(0, length_s)
    strip.set_ylim(0, 1)
    return strip


def _name_faults(strip: Any, marks: Sequence[Mark], start_s: float, length_s: float) -> None:
    per_s = WIDTH_IN * (RIGHT - LEFT) / length_s
    begins = [(mark.at_s - start_s) * per_s for mark in marks]
    widths = [CHARACTER_IN * (len(mark.name) + 1) for mark in marks]
    for mark, level in zip(marks, heights(begins, widths), strict=True):
        at_s = mark.at_s - start_s
        strip.barh(0.5, (mark.undone_s or mark.at_s + 0.3) - mark.at_s, 0.8, left=at_s, color=INK)
        style = "normal" if mark.bypass else "italic"
        lift = {"xytext": (0, 3 + level * (SIZE + 4)), "textcoords": "offset points"}
        strip.annotate(mark.name, (at_s, 1), **lift, size=SIZE, style=style)


def heights(begins: Sequence[float], widths: Sequence[float]) -> list[int]:
    """For each label the lowest of LEVELS lines that is free where it begins; same unit for both."""
    free_from, found = [float("-inf")] * LEVELS, []
    for begin, width in zip(begins, widths, strict=True):
        level = next((level for level, free in enumerate(free_from) if free <= begin), LEVELS - 1)
        free_from[level] = begin + width
        found.append(level)
    return found


def _finish(figure: Any, panels: Sequence[Any], length_s: float) -> None:
    from matplotlib.patches import Patch

    panels[-1].tick_params(axis="x", labelbottom=True)
    panels[-1].set_xlim(0, length_s)
    panels[-1].set_xlabel("time since the start (s)", size=SIZE)
    label = f"share of the requests that began in each {BUCKET_S * 1000:.0f} ms (%)"
    figure.text(0.01, (TOP + BOTTOM) / 2, label, rotation=90, va="center", ha="left", size=SIZE)
    title = "The same faults at the same instants, in two worlds: without and with hotswitch"
    figure.text(0.01, 0.972, title, size=SIZE + 4, weight="bold", va="center")
    handles = [Patch(color=colour, label=meaning) for colour, meaning in zip(COLOURS, MEANINGS, strict=True)]
    where = {"loc": "center left", "bbox_to_anchor": (0.002, 0.938), "ncols": len(handles)}
    figure.legend(handles=handles, **where, frameon=False, fontsize=SIZE)
    note = "in italics: to be left alone"
    figure.text(0.99, 0.938, note, size=SIZE, style="italic", ha="right", va="center")
