"""A pod leaves the mesh, by its label, while it is open by commands that nothing ends: it is closed all the same (I1).

The watch of the mesh shows such a pod no longer, and a leader that comes later never saw it there. So it bears another
label from before it is opened until it is closed (controller.writer), and a second watch shows those that bear it and
are not in the mesh. What ends by itself is left to its end (S4.3b).
"""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.act.order import Actuator, Answer, Order, Outcome
from hotswitch.api import names
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller import pen as pens
from hotswitch.controller.kept import Kept
from hotswitch.controller.lasting import Lasting
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.pen import Pen
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.telling import Teller
from hotswitch.controller.writer import Stale
from hotswitch.decide.codes import Code
from hotswitch.decide.damping import closed
from hotswitch.model import Generation

LEFT = "the pod left the mesh while it was open by commands that nothing ends: capture is put back"


class Behind:
    """`load`: reads what the pod's annotation says into `kept`. `last`: the pod as it was looked at last, in the mesh.
    `shown`: it is not there any longer, and has still to be closed."""

    def __init__(
        self, means: Means, teller: Teller, lasting: Lasting, kept: Kept, load: Callable[[SeenPod], None]
    ) -> None:
        self._means, self._teller, self._lasting, self._kept, self._load = means, teller, lasting, kept, load
        self.last: tuple[SeenPod, Protection, Actuator | None] | None = None
        self.shown = False
        self._said = ""

    async def is_left_alone(self, uid: str) -> bool:
        """Nothing of ours is left in a pod that the watch of the mesh does not show. Raises ApiFailure."""
        pod = self._means.picture.left_open(uid)
        self.shown = pod is not None
        if pod is not None and self.last is None:
            self.last = await self._taken_up(pod)
        may_be_open = self._kept.standing.is_open or self._kept.under_way or self._lasting.in_doubt
        if self.last is None or not (self.shown or may_be_open):
            return True
        seen, protection, actuator = self.last
        if pod is not None and actuator is None:
            actuator = self._opener(pod)
            if self._lasting.is_orphaned(pod, protection):
                return False
        if actuator is None or actuator.ends_by_itself:
            return True
        if self._means.term() is None:
            return False
        return await self._closed(pod or seen, actuator, protection)

    async def _taken_up(self, pod: SeenPod) -> tuple[SeenPod, Protection, Actuator | None]:
        """It was opened under another leader, and had left the mesh before this one looked."""
        self._load(pod)
        protection = await self._means.picture.protection(pod)
        actuator = self._opener(pod)
        self._lasting.heed(actuator, self._kept.status)
        return pod, protection, actuator

    def _opener(self, pod: SeenPod) -> Actuator | None:
        return self._means.actuators.get(self._kept.actuator or pod.labels.get(names.OPENED_BY_LABEL, ""))

    async def _closed(self, pod: SeenPod, actuator: Actuator, protection: Protection) -> bool:
        if not await self._means.writer.exists(pod):
            return True
        generation = Generation(self._kept.standing.generation + 1)
        order = Order(generation=generation, code=Code.EXPIRED, reason=LEFT)
        answer = await actuator.carry_out(protection.target(pod), order)
        self._say(pod, order, answer, protection)
        if answer.outcome is not Outcome.DONE or (self.shown and self._lasting.in_doubt):
            return False
        if not self.shown and self._kept.status is None:
            return True
        return await self._written(Pen(self._means.writer, pod, self._kept.status))

    def _say(self, pod: SeenPod, order: Order, answer: Answer, protection: Protection) -> None:
        """Once for each answer."""
        said = f"{answer.outcome}: {answer.sentence}"
        if said == self._said:
            return
        self._said = said
        self._teller.left(pod, order, answer)
        if answer.outcome is not Outcome.DONE:
            self._teller.failed(pod, order, said, protection)

    async def _written(self, pen: Pen) -> bool:
        """So that nobody takes it for open when the label comes back. Whoever changed the pod has the last word; as
        long as it is shown it is tried again."""
        try:
            if not self.shown:
                await pen.turn_to_newest()
            await pen.write(pens.at_rest(pen.page, closed(self._kept.standing), self._means.shift_s()))
        except (Stale, ApiFailure) as failure:
            self._teller.api_failed(pen.pod.ref, failure)
            return not self.shown
        return True
