"""A bypass without a rescue, as a process, and the quickest one can be: `python -m bench.plain_bypass WARDS DIARY`.

The same eyes and the same gate as hotswitch (two threads of Envoy and a connection to 15021 held, one netlink message),
but no policy, no second opinion and no spare Envoy: the gate always leads straight to the app. What differs from
hotswitch in the figures is the rescue. A hang is known by three probes unanswered in a row, 0.25 s each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

from bench.pods import CLOSE, OPEN, READY, Diary, Ward, load_wards
from hotswitch.capture.flows import cut_stuck, forget_commands
from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import scope_of
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.command import run
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.model import HEALTH, Direction, Generation, Level, Opening, Probe, ProbeOutcome, Tripwire
from hotswitch.observe.ending import Ending
from hotswitch.observe.health import HttpProbe
from hotswitch.observe.tripwire import HeldConnection

PERIOD_S = 0.25
UNANSWERED = 3
WELL = 4  # good answers in a row before capture comes back: a second
EXPIRY_S = 3600.0
NICE = -10  # as hotswitch's agent
BOTH_WAYS = dict.fromkeys(Direction, Opening(Level.DIRECT))


class Bypass:
    """One pod."""

    def __init__(self, ward: Ward, diary: Diary) -> None:
        self._ward, self._diary = ward, diary
        self._gate = Gate(ward.netns, scope_of(ward.capture))
        self._gate.install()
        self._diag = NetlinkSocket(NETLINK_SOCK_DIAG, ward.netns)
        self._wire = HeldConnection(ward.netns, self._wire_changed)
        self._wire.arm()
        self._container = Container(ward.cgroups)
        self._ending = Ending(self._container, lambda: self._switch(OPEN))
        self._open = False
        self._unanswered = self._well = self._acts = 0

    async def watch(self) -> None:
        while True:
            if self._wire.state is not Tripwire.HELD:
                self._wire.arm()
            self._ending.follow(self._container.processes())
            HttpProbe(
                self._ward.netns, ("127.0.0.1", HEALTH), "/healthz/ready", self._answered, timeout_s=0.25, lag_s=1
            )
            await asyncio.sleep(PERIOD_S)

    def _wire_changed(self) -> None:
        if self._wire.state is Tripwire.REFUSED:
            self._switch(OPEN)

    def _answered(self, probe: Probe) -> None:
        self._unanswered = self._unanswered + 1 if probe.outcome is ProbeOutcome.TIMEOUT else 0
        self._well = self._well + 1 if probe.outcome is ProbeOutcome.OK else 0
        if self._unanswered >= UNANSWERED:
            self._switch(OPEN)
        elif self._well >= WELL and self._wire.state is Tripwire.HELD:
            self._switch(CLOSE)

    def _switch(self, what: str) -> None:
        opening = what == OPEN
        if opening is self._open:
            return
        began_s = time.monotonic()
        self._acts += 1
        openings = BOTH_WAYS if opening else {}
        self._gate.write(openings, expiry_s=EXPIRY_S, generation=Generation(self._acts), reason="plain bypass")
        self._open, self._well = opening, 0
        self._diary.note(what, self._ward.name, began_s)
        if opening:
            self._following = asyncio.ensure_future(asyncio.to_thread(self._end_old_flows))

    def _end_old_flows(self) -> None:
        cut_stuck(self._diag, self._gate.scope)
        for command in forget_commands(self._ward.netns, self._gate.scope):
            run(command)


async def main(wards: Path, diary_path: Path) -> None:
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    diary = Diary(diary_path)
    bypasses = [Bypass(ward, diary) for ward in load_wards(wards)]
    diary.note(READY)
    await asyncio.gather(*(bypass.watch() for bypass in bypasses))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
