"""Openings that nothing in the kernel ends: Istio's own clean-up, run by exec (S4.3, I1, I4). The deadline is ours.

So more care is taken here than elsewhere. A command whose answer was lost may still be running, and take capture away
long after the pod was last seen well: it is looked at until no command can live any longer. And a pod that leaves the
mesh by its label is not dropped while it is open: it is closed first, or found to be gone.
"""

from __future__ import annotations

import asyncio

from hotswitch.act.execing import ACT_TIMEOUT_S
from hotswitch.act.order import Actuator, Order, Outcome
from hotswitch.api.status import PodStatus
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import memory
from hotswitch.controller import pen as pens
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.pen import Pen
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.telling import Teller
from hotswitch.controller.writer import Stale
from hotswitch.decide.codes import Code
from hotswitch.decide.damping import closed, run_out
from hotswitch.model import Generation, Standing

EXPIRY_MARGIN_S = 5.0
LATE_S = 2 * ACT_TIMEOUT_S  # it waits for the lock of iptables for that long, and then has its work to do
LEFT = "the pod left the mesh while it was open by commands that nothing ends: capture is put back"


class Lasting:
    def __init__(self, means: Means, teller: Teller) -> None:
        self._means, self._teller = means, teller
        self._doubt_until_s = float("-inf")
        self._overdue_said: str | None = None

    # ---- commands that may come late ----

    def heed(self, actuator: Actuator | None, status: PodStatus | None) -> None:
        """An act was begun, by us or by whoever led before, and what became of it is not known."""
        if actuator is not None and not actuator.ends_by_itself and status is not None and status.under_way:
            self._doubt_until_s = asyncio.get_running_loop().time() + LATE_S

    @property
    def in_doubt(self) -> bool:
        return asyncio.get_running_loop().time() < self._doubt_until_s

    # ---- what cannot be seen ----

    def may_go_blind(self, actuator: Actuator, about: Standing, status: PodStatus | None, may_be_open: bool) -> bool:
        """Decide although the pod could not be looked into? Not while something may be open there: what cannot be seen
        is no reason to close, nor to renew. Once the kernel has surely closed it, yes; where it closes nothing by
        itself, never."""
        now_s = asyncio.get_running_loop().time()
        if not actuator.ends_by_itself and may_be_open:
            return False
        under_way = status is not None and status.under_way
        expires = status.expires if status is not None and under_way else ""
        if expires and memory.unix_s(expires) + EXPIRY_MARGIN_S >= now_s + self._means.shift_s():
            return False
        return not about.is_open or run_out(about, now_s)

    def say_overdue(
        self, pod: SeenPod, actuator: Actuator, why: str, standing: Standing, protection: Protection
    ) -> None:
        """Once for each reason."""
        now_s = asyncio.get_running_loop().time()
        if actuator.ends_by_itself or not run_out(standing, now_s) or why == self._overdue_said:
            return
        self._overdue_said = why
        sentence = f"the opening by {actuator.name} ran out, nothing closes it by itself, and the pod cannot be reached"
        self._teller.failed(pod, None, f"{sentence}: {why}", protection)

    # ---- pods that left the mesh ----

    async def closed_behind(
        self, pod: SeenPod, actuator: Actuator, protection: Protection, standing: Standing, status: PodStatus | None
    ) -> bool:
        """Whether nothing is left open in a pod that the watch shows no longer. Raises ApiFailure."""
        if not await self._means.writer.exists(pod):
            return True
        order = Order(generation=Generation(standing.generation + 1), code=Code.EXPIRED, reason=LEFT)
        answer = await actuator.carry_out(protection.target(pod), order)
        self._teller.left(pod, order, answer)
        if answer.outcome is not Outcome.DONE:
            self._teller.failed(pod, order, f"{answer.outcome}: {answer.sentence}", protection)
            return False
        if status is not None:
            await self._write_down(Pen(self._means.writer, pod, status), closed(standing))
        return True

    async def _write_down(self, pen: Pen, standing: Standing) -> None:
        """So that nobody takes it for open when the label comes back; whoever changed the pod has the last word."""
        try:
            await pen.turn_to_newest()
            await pen.write(pens.at_rest(pen.page, standing, self._means.shift_s()))
        except (Stale, ApiFailure) as failure:
            self._teller.api_failed(pen.pod.ref, failure)
