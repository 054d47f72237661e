"""What `kubectl hotswitch explain POD` shows: each value, who said it, and what it replaced or was cut by (I2, I8)."""

from __future__ import annotations

from collections.abc import Iterator

from hotswitch.config.layers import DEFAULT
from hotswitch.config.merged import Effective


def lines(effective: Effective, *, defaults: bool = True) -> list[str]:
    """One line per value, its notes below it, problems last. `defaults` False leaves out what nobody said anything
    about."""
    shown = {
        name: origin
        for name, origin in sorted(effective.provenance.items())
        if defaults or origin.source != DEFAULT or origin.notes
    }
    name_width = max((len(name) for name in shown), default=0)
    value_width = min(40, max((len(origin.value) for origin in shown.values()), default=0))
    found = []
    for name, origin in shown.items():
        found.append(f"{name:<{name_width}}  {origin.value:<{value_width}}  {origin.source}".rstrip())
        found += [f"{'':<{name_width}}    {note}" for note in origin.notes]
    return [*found, *_problems(effective)]


def _problems(effective: Effective) -> Iterator[str]:
    for each in effective.problems:
        yield f"problem: {each}"
