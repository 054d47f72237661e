"""What a watch has seen and what befell it, counted since its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """`unreadable`: times an object could not be decoded; `failed_callbacks`: exceptions out of `on_event`."""

    events: int = 0
    bookmarks: int = 0
    lists: int = 0
    watches: int = 0
    failures: int = 0
    silences: int = 0
    unreadable: int = 0
    failed_callbacks: int = 0
