"""How users write single values, in a policy and in an annotation alike: durations, allowances, lists, instants.

One grammar for both places, the one that the API server checks for the policy too (api.schema). Every error names the
field, the value as it was given, and why it is not one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

DURATION_PATTERN = r"^([0-9]{1,8}([.][0-9]{1,3})?(ms|s|m|h))+$"
"""What Go and CEL call a duration; without days, because CEL has none."""
DURATION_CHARACTERS = 32
PERCENT_PATTERN = r"^(100|[1-9]?[0-9])%$"
CODE_PATTERN = r"^HSW[0-9]{4}$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
WEEK_S = 7 * 86400.0

_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PERCENT = re.compile(PERCENT_PATTERN)
_SHOWN_CHARACTERS = 80
_RFC3339 = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")


class InvalidValue(ValueError):
    """`field` as the user wrote it (an annotation's name, a path in a policy), the `value` given, and `why` it is
    wrong."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(f"{field}: {shortened(value)}: {why}")
        self.field, self.value, self.why = field, shortened(value), why


def shortened(value: object) -> str:
    """As people are shown a value that may be anything, of any length."""
    text = str(value) if isinstance(value, str | Allowance) else repr(value)
    text = text.encode("unicode_escape").decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def duration_s(value: object) -> float:
    """ "90s", "1h30m", "250ms" in seconds. Raises ValueError."""
    if not isinstance(value, str) or len(value) > DURATION_CHARACTERS or not _DURATION.fullmatch(value):
        raise ValueError("is not a duration like 90s, 30m, 1h30m or 250ms")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(value))


def shown_duration(seconds: float) -> str:
    """The shortest way to write it, e.g. 1h30m."""
    left_ms = round(seconds * 1000)
    parts = []
    for unit, size_ms in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left_ms = divmod(left_ms, size_ms)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def instant_unix_s(text: str) -> float:
    """RFC 3339 in Unix seconds. Raises ValueError."""
    if not _RFC3339.fullmatch(text):
        raise ValueError("is not an instant like 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text.upper().replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError) as failure:
        raise ValueError(f"is not an instant: {failure}") from failure


def shown_instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def words(text: str) -> list[str]:
    """A comma-separated list; spaces do not count, and an empty text is an empty list. Raises ValueError."""
    if not text.strip():
        return []
    found = [word.strip() for word in text.split(",")]
    if "" in found:
        raise ValueError("has an empty place between two commas")
    return found


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many of a number of pods: a count, a share, or whichever of the two is less. None: not limited by it.

    A share is rounded up, so that one per cent of three pods is one; only 0 and 0% are none (I3)."""

    count: int | None = None
    percent: int | None = None

    def of(self, total: int) -> int:
        """How many of `total` pods may be open at once."""
        share = total if self.percent is None else -(-total * self.percent // 100)
        return min(share, total if self.count is None else self.count)

    def meet(self, other: Allowance) -> Allowance:
        """Never more than either, whatever the total is."""
        return Allowance(_least(self.count, other.count), _least(self.percent, other.percent))

    def __str__(self) -> str:
        said = [str(self.count)] if self.count is not None else []
        said += [f"{self.percent}%"] if self.percent is not None else []
        return " and ".join(said) or "unlimited"


def _least(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return min(known, default=None)


def allowance(value: object) -> Allowance:
    """3, "3" or "25%". Raises ValueError."""
    if isinstance(value, Allowance):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000:
        return Allowance(count=value)
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        return Allowance(percent=int(value[:-1]))
    raise ValueError("is not a count like 3 or a share like 25%")
