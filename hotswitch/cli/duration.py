"""Durations as people write them: 90s, 30m, 1h30m, 2d, or plain seconds."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def seconds(text: str) -> float:
    """Raises ValueError naming the text."""
    clean = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", clean):
        return float(clean)
    if not clean or _PART.sub("", clean):
        raise ValueError(f"{text!r} is not a duration like 90s, 30m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(clean))
