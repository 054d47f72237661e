"""What somebody else wrote, checked word by word: an agent may be anybody who is root on a node (I2)."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TypeVar

WORDS_AT_MOST = 4096  # characters
AGE_AT_MOST_S = 366 * 86400.0
COUNT_AT_MOST = 2**53

E = TypeVar("E", bound=StrEnum)


class Malformed(ValueError):
    """The message names field and value."""


def seconds(name: str, value: float, *, at_least: float = 0.0, at_most: float = AGE_AT_MOST_S) -> float:
    if not (math.isfinite(value) and at_least <= value <= at_most):
        raise Malformed(f"{name}: {value} is not between {at_least:g} and {at_most:g} s")
    return value


def count(name: str, value: int, at_most: int = COUNT_AT_MOST) -> int:
    if not 0 <= value <= at_most:
        raise Malformed(f"{name}: {value} is not between 0 and {at_most}")
    return value


def word(name: str, value: str, known: type[E]) -> E:
    try:
        return known(value)
    except ValueError:
        raise Malformed(f"{name}: {value[:40]!r} is none of {', '.join(known)}") from None


def text(value: str) -> str:
    return value[:WORDS_AT_MOST]
