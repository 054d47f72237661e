"""Openings that nothing in the kernel ends: Istio's own clean-up, run by exec (S4.3, I1, I4). The deadline is ours.

So more care is taken here than elsewhere. A command whose answer was lost may still be running, and take capture away
long after the pod was last seen well: it is looked at until no command can live any longer. What becomes of a pod that
leaves the mesh meanwhile: behind.py.
"""

from __future__ import annotations

import asyncio

from hotswitch.act.execing import ACT_TIMEOUT_S
from hotswitch.act.order import Actuator
from hotswitch.api import names
from hotswitch.api.status import PodStatus
from hotswitch.controller import memory
from hotswitch.controller.kept import Kept
from hotswitch.controller.means import Means, Protection
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.telling import Teller
from hotswitch.decide.damping import run_out
from hotswitch.model import Standing

EXPIRY_MARGIN_S = 5.0
LATE_S = 2 * ACT_TIMEOUT_S  # it waits for the lock of iptables for that long, and then has its work to do


class Lasting:
    def __init__(self, means: Means, teller: Teller) -> None:
        self._means, self._teller = means, teller
        self._doubt_until_s = float("-inf")
        self._overdue_said: str | None = None
        self._orphan_said = ""

    # ---- commands that may come late ----

    def heed(self, actuator: Actuator | None, status: PodStatus | None) -> None:
        """An act was begun, by us or by whoever led before, and what became of it is not known."""
        if actuator is not None and not actuator.ends_by_itself and status is not None and status.under_way:
            self._doubt_until_s = asyncio.get_running_loop().time() + LATE_S

    @property
    def in_doubt(self) -> bool:
        return asyncio.get_running_loop().time() < self._doubt_until_s

    def may_be_open(self, pod: SeenPod, kept: Kept) -> bool:
        """By commands: an agent that comes can neither see such an opening nor end it, and what it says of the gate is
        not to be written down before it is closed."""
        label = pod.labels.get(names.OPENED_BY_LABEL, "")
        opener = self._means.actuators.get(kept.actuator or label)
        lasts = bool(label) if opener is None else not opener.ends_by_itself
        return lasts and (kept.standing.is_open or kept.under_way or self.in_doubt or kept.status is None)

    def is_orphaned(self, pod: SeenPod, protection: Protection) -> bool:
        """Opened by an actuator that this controller was not given. People are told once."""
        opener = pod.labels.get(names.OPENED_BY_LABEL, "")
        if not opener or opener in self._means.actuators:
            return False
        if opener != self._orphan_said:
            self._orphan_said = opener
            sentence = f"label {names.OPENED_BY_LABEL}: {opener!r}: this controller was not given that actuator"
            self._teller.failed(pod, None, f"{sentence}, so nobody closes what it has opened", protection)
        return True

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
