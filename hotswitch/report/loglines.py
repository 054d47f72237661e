"""What a process of ours logs: one line to standard error for each matter, with the particulars that belong to it (I8).

A log call names the matter and hands its particulars over as `extra`, which Python's own formatter does not print.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

OURS = "hotswitch."
_LAYOUT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_PYTHONS = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})


class Lines(logging.Formatter):
    """`2026-11-01 08:00:00,123 WARNING hotswitch.controller cluster problem="..."`. A value is JSON: an API server's
    words cannot begin a line of their own."""

    def __init__(self) -> None:
        super().__init__(_LAYOUT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record) + "".join(f" {name}={value}" for name, value in _particulars(record))


def _particulars(record: logging.LogRecord) -> list[tuple[str, str]]:
    """Of our own loggers alone: libraries put whole objects there."""
    if not record.name.startswith(OURS):
        return []
    return [(name, json.dumps(value, default=str)) for name, value in vars(record).items() if name not in _PYTHONS]


def to_standard_error(stream: TextIO | None = None) -> None:
    """For the whole process, from INFO on. `stream`: another one."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
