"""Small named steps of a longer act: each can be written down before it is begun, and done again (I4, I6).

Whoever carries them out (the controller) writes a step's name into the pod's status first; after a crash it goes on at
that step, because doing one twice is doing it once. Nothing is remembered here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.failure import ApiFailure

T = TypeVar("T")
FORBIDDEN = 403
AGAIN_S, AGAIN_AT_MOST_S, WITHIN_S = 0.1, 2.0, 10.0


class StepFailed(RuntimeError):
    """The step is not done; the message is a sentence. `again`: it may be tried again as it is. `is_refused`: the API
    server does not allow it, and will not until somebody changes that."""

    def __init__(self, sentence: str, *, again: bool = True, is_refused: bool = False) -> None:
        super().__init__(sentence)
        self.again, self.is_refused = again, is_refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`do` raises StepFailed. `done`: seen from outside, so that one that was done before a crash is not waited for
    again; raises StepFailed when it cannot be seen. `says`: what it does, as a person would (for a plan)."""

    name: str
    do: Callable[[], Awaitable[None]]
    done: Callable[[], Awaitable[bool]]
    says: str


async def carry_out(steps: Sequence[Step], begin: Callable[[str], Awaitable[None]], after: str = "") -> None:
    """One after the other. `begin` is told each step's name before it is begun, and may raise to stop there. `after`:
    the step that was begun last before a crash; those before it are done. Raises StepFailed."""
    names = [step.name for step in steps]
    first = names.index(after) if after in names else 0
    for step in steps[first:]:
        if not await step.done():
            await begin(step.name)
            await step.do()


def step_failed(what: str, right: str, failure: ApiFailure) -> StepFailed:
    """`what` is not done, because of this answer. `right`: what one must be allowed to do, verb and resource."""
    if failure.status == FORBIDDEN:
        sentence = (
            f"{what}: hotswitch may not {right}, which is a right that its account lacks or an admission policy's no"
        )
        return StepFailed(f"{sentence}: {failure}", is_refused=True)
    return StepFailed(f"{what}: {failure}", again=not failure.is_missing)


async def again(call: Callable[[], Awaitable[T]], within_s: float = WITHIN_S) -> T:
    """What the API server cannot do at this moment is asked for again: a step that fails takes back all before it.
    Raises ApiFailure."""
    loop, backoff = asyncio.get_running_loop(), Backoff(AGAIN_S, AGAIN_AT_MOST_S)
    until_s = loop.time() + within_s
    while True:
        try:
            return await call()
        except ApiFailure as failure:
            pause_s = max(backoff.next_s(), failure.retry_after_s or 0.0)
            if not failure.may_pass or loop.time() + pause_s > until_s:
                raise
        await asyncio.sleep(pause_s)
