"""Looking into a pod: which actuator could act there, and what stands in its namespace (S4.3, I6).

A look costs a command in the pod, so it is taken no oftener than it is of use. Whoever opened a gate also closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from hotswitch.act.order import Ability, Actuator, Target

NOBODY = Ability(actuator="", refusal="no actuator is allowed for this pod")


class Look:
    """`ability`: of `chosen`, as it was seen last; when nobody can do anything, with the refusals of all."""

    def __init__(self) -> None:
        self.ability = NOBODY
        self.chosen: Actuator | None = None
        self._at_s = float("-inf")

    def forget(self) -> None:
        """What was seen before an act is not the truth after it."""
        self._at_s = float("-inf")

    async def take(self, candidates: Sequence[Actuator], target: Target, patience_s: float) -> Actuator | None:
        """The first of them that can do anything. `patience_s`: what was seen so lately still counts."""
        now_s = asyncio.get_running_loop().time()
        if not candidates:
            self.ability, self.chosen = NOBODY, None
        elif now_s - self._at_s >= patience_s or self.chosen not in candidates:
            await self._ask(candidates, target)
            self._at_s = asyncio.get_running_loop().time()
        return self.chosen

    async def _ask(self, candidates: Sequence[Actuator], target: Target) -> None:
        refusals = []
        for each in candidates:
            able = await each.ability(target)
            if not able.refusal:
                self.ability, self.chosen = able, each
                return
            refusals.append(able)
        sentence = "; ".join(f"{each.actuator}: {each.refusal}" for each in refusals)
        truth = next((each.truth for each in refusals if each.truth is not None), None)
        self.ability, self.chosen = replace(refusals[0], refusal=sentence, truth=truth), candidates[0]
