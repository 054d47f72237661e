"""What an ordinary Service's annotations say about taking it over for a while (S0.2, S2.1, I2).

Such a Service has a selector, and Kubernetes makes its slices. While bypass leaves it fewer ready endpoints than its
minimum, hotswitch may make them instead. The selector stands in an annotation for as long, in the words of
endpoints.hotswitch.io/selector, so that anybody can put it back by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.api.service import PREFIX, selector_words
from hotswitch.api.values import Allowance, InvalidValue, allowance, duration_s

ADOPT = "endpoints.hotswitch.io/adopt"  # when-below: without it a Service is never taken over
ADOPT_MINIMUM = "endpoints.hotswitch.io/adopt-minimum"  # 2 | 50%: ready endpoints that it needs
ADOPT_HOLD = "endpoints.hotswitch.io/adopt-hold"  # 30s: so long it must do without before it is handed back
ADOPT_AGAIN = "endpoints.hotswitch.io/adopt-again"  # another word than before: try again after somebody else has won
ADOPTED = "endpoints.hotswitch.io/adopted"  # app=web: the selector, while it is taken away; written by hotswitch alone
ADOPT_ANNOTATIONS = (ADOPT, ADOPT_MINIMUM, ADOPT_HOLD, ADOPT_AGAIN, ADOPTED)

WHEN_BELOW = "when-below"
LEAST_HOLD_S, LONGEST_HOLD_S = 1.0, 3600.0
LONGEST_AGAIN = 64  # characters


ONE = Allowance(count=1)


@dataclass(frozen=True, slots=True)
class Wish:
    """`minimum`: of the pods that are to serve, how many must be ready; a share is rounded up. `again`: as written."""

    opted_in: bool = False
    minimum: Allowance = ONE
    hold_s: float = 30.0
    again: str = ""


CAREFUL = Wish(opted_in=True, minimum=Allowance(percent=100))
"""Of a Service that is taken over and whose words cannot be read: kept as long as its pods need it."""


def wish(annotations: Mapping[str, str]) -> Wish:
    """Raises InvalidValue."""
    said = annotations.get(ADOPT)
    if said is None:
        return Wish()
    if said.strip() != WHEN_BELOW:
        raise InvalidValue(ADOPT, said, f"is not {WHEN_BELOW}, which is all that it can be")
    _nothing_else(annotations)
    return Wish(True, _minimum(annotations), _hold_s(annotations), _again(annotations))


def _nothing_else(annotations: Mapping[str, str]) -> None:
    for name, text in annotations.items():
        if name.startswith(PREFIX) and name not in ADOPT_ANNOTATIONS:
            raise InvalidValue(name, text, f"means nothing on a Service with {ADOPT}")


def _minimum(annotations: Mapping[str, str]) -> Allowance:
    text = annotations.get(ADOPT_MINIMUM)
    if text is None:
        return Wish().minimum
    word = text.strip()
    try:
        found = allowance(int(word) if word.isascii() and word.isdigit() and len(word) <= 6 else word)
    except ValueError as failure:
        raise InvalidValue(ADOPT_MINIMUM, text, str(failure)) from failure
    if not (found.count or found.percent):
        raise InvalidValue(ADOPT_MINIMUM, text, "is none, and no Service has less; leave the Service alone instead")
    return found


def _hold_s(annotations: Mapping[str, str]) -> float:
    text = annotations.get(ADOPT_HOLD)
    if text is None:
        return Wish().hold_s
    try:
        seconds = duration_s(text.strip())
    except ValueError as failure:
        raise InvalidValue(ADOPT_HOLD, text, str(failure)) from failure
    if not LEAST_HOLD_S <= seconds <= LONGEST_HOLD_S:
        raise InvalidValue(ADOPT_HOLD, text, f"is not from {LEAST_HOLD_S:g}s to {LONGEST_HOLD_S:g}s")
    return seconds


def _again(annotations: Mapping[str, str]) -> str:
    text = annotations.get(ADOPT_AGAIN, "").strip()
    if len(text) > LONGEST_AGAIN:
        raise InvalidValue(ADOPT_AGAIN, text, f"is longer than {LONGEST_AGAIN} characters")
    return text


def kept_selector(annotations: Mapping[str, str]) -> dict[str, str] | None:
    """The selector that was taken away; None: it was not. Raises InvalidValue."""
    text = annotations.get(ADOPTED)
    if text is None:
        return None
    try:
        return selector_words(text)
    except ValueError as failure:
        raise InvalidValue(ADOPTED, text, str(failure)) from failure


def shown_selector(selector: Mapping[str, str]) -> str:
    """As `kept_selector` reads it."""
    return ",".join(f"{key}={text}" for key, text in sorted(selector.items()))
