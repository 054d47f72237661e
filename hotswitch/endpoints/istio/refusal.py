"""Why a Service is not, or not wholly, written as Istio's configuration; for people (S0.5, S2.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from hotswitch.backends import ServiceRecord


class Refusal(StrEnum):
    NOT_ALLOWED = "HSE030"
    NOT_OURS = "HSE031"
    UNSAID = "HSE032"
    NOT_SERVED = "HSE033"
    NOT_WRITTEN = "HSE034"
    TOO_MANY = "HSE035"


Refused = Callable[[ServiceRecord, Refusal | None, str], None]
"""Why a Service is not, or not wholly, written so; None: it is. Told each time it is looked at."""


class No(RuntimeError):
    """It cannot be written so, and writing it again would change nothing."""

    def __init__(self, refusal: Refusal, sentence: str) -> None:
        super().__init__(sentence)
        self.refusal = refusal
