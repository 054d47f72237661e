"""A drill that a controller has ordered of its helper: opened and ended by orders, like everything else (S4.4, I4, I6).

The controller has judged by the settings and by what it knows of the mesh; here it is judged once more by what is seen
beside the proxy. Two generations are the drill's: one opens, the next closes. An order of the controller that comes
meanwhile has a later one, so it goes first and ends the drill. A fault ends it, too, and what the drill has opened then
is left to the controller, which takes it over, or to the kernel.
"""

from __future__ import annotations

from dataclasses import replace

from hotswitch.agent.drill import unfit
from hotswitch.agent.ordered import OrderedGuard
from hotswitch.api.orders import OpeningText, OrderText
from hotswitch.decide import drill as rules
from hotswitch.decide.codes import Code
from hotswitch.decide.damping import in_episode
from hotswitch.model import Direction, Level, Mode


class OrderedHands:
    """`order`: the controller's, whose policy the guard has taken already."""

    def __init__(self, guard: OrderedGuard, order: OrderText) -> None:
        self._guard, self._order = guard, order
        self._opening: OrderText | None = None

    def refusal(self) -> str:
        """The settings are not known here: that the rescue may be used is in the order."""
        guard = self._guard
        if why := unfit(guard):
            return why
        view = guard.view()
        policy = replace(view.policy, mode=Mode.AUTO, inbound=(Level.RESCUE, Level.HOLD))
        return rules.refusal(replace(view, policy=policy), guard.diagnosis)

    async def open(self, expiry_s: float, reason: str) -> None:
        order = self._order
        self._opening = OrderText(
            uid=order.uid,
            generation=order.generation,
            openings={Direction.INBOUND: OpeningText(Level.RESCUE)},
            expiry_s=expiry_s,
            code=Code.OPENED_BY_ORDER,
            reason=reason,
            who=order.who,
        )
        await self._guard.order(self._opening)

    async def close(self) -> None:
        """Not by the generation alone: an order that came during the trial may have the same one, and the same gate."""
        guard, order = self._guard, self._order
        ours = guard.standing.is_open and guard.obeyed is self._opening
        if not ours or guard.closed or in_episode(guard.standing):
            return
        await guard.order(
            OrderText(
                uid=order.uid,
                generation=order.generation + 1,
                code=Code.CLOSED_BY_ORDER,
                reason="the drill is over",
                who=order.who,
            )
        )
