"""What is heard of a pod, and whom it concerns: watches, the central prober and agents tell, workers look (S4.1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hotswitch.cluster.pods import Pod
from hotswitch.controller.agents.office import Office
from hotswitch.controller.drills.drills import Drills
from hotswitch.controller.fleet import Fleet
from hotswitch.controller.picture import Picture
from hotswitch.controller.preparing import Preparing
from hotswitch.observe.central import CentralProber


@dataclass(frozen=True, slots=True)
class News:
    """Only `review` waits."""

    picture: Picture
    eyes: CentralProber
    fleet: Fleet
    office: Office
    drills: Drills
    preparing: Preparing

    def heard(self, uid: str, ill: bool) -> None:
        """`ill`: by its status."""
        if ill:
            self.eyes.hurry(uid)
        self.fleet.news(uid, ill=ill or self._doubted(uid))

    def ill(self, uid: str) -> bool:
        return self.picture.ill(uid) or self._doubted(uid)

    def _doubted(self, uid: str) -> bool:
        """15021 does not answer as it should, or an agent has something to tell."""
        return self.eyes.doubts(uid) or self.office.restless(uid)

    def moved(self, pod: Pod) -> None:
        found = self.picture.watched(pod)
        found = None if pod.is_completed else found
        self.drills.moved(pod, found)
        self.office.pod_moved(pod, watched=found is not None)
        if found is not None and pod.addresses:
            self.eyes.watch(pod.uid, pod.addresses[0])
            self.preparing.consider(pod.uid)
        else:
            self.eyes.forget(pod.uid)

    def gone(self, uid: str) -> None:
        self.drills.gone(uid)
        self.office.pod_gone(uid)
        self.eyes.forget(uid)
        self.fleet.news(uid)

    async def review(self) -> None:
        """After another policy, which may switch pods on or off. Not in one go: there may be thousands."""
        for done, pod in enumerate(list(self.picture.pods.values())):
            self.moved(pod)
            if done % 100 == 99:
                await asyncio.sleep(0)
