"""The source's way, as a process: `python -m bench.source_way WARDS DIARY`.

As written there: health port 15021 is asked each second; three failures in a row, and the commands that stop the
capture are run inside the pod. When the proxy answers again, the rules are put back (S4.2b, S4.3, S4.3b, S4.5).

The 17 commands are those that `istio-clean-iptables` runs for IPv4 without DNS capture (Istio 1.23,
tools/istio-clean-iptables/pkg/cmd/cleanup.go: three deletions, then flush and delete of seven chains), errors ignored
as there. One word differs: since 1.25 the jump to ISTIO_OUTPUT is set for all protocols, so it is deleted so.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.pods import CLOSE, OPEN, READY, Diary, Ward, load_wards
from hotswitch.capture.render import commands
from hotswitch.kernel.command import Command, run
from hotswitch.model import HEALTH
from hotswitch.sandbox.ask import ask

PERIOD_S = 1.0
TIMEOUT_S = 1.0
FAILURES = 3
TOOL = "iptables-nft"

_JUMPS = (
    ("nat", "PREROUTING", "-p", "tcp", "-j", "ISTIO_INBOUND"),
    ("mangle", "PREROUTING", "-p", "tcp", "-j", "ISTIO_INBOUND"),
    ("nat", "OUTPUT", "-j", "ISTIO_OUTPUT"),
)
_CHAINS = (
    ("nat", "ISTIO_OUTPUT"),
    ("nat", "ISTIO_INBOUND"),
    ("mangle", "ISTIO_INBOUND"),
    ("mangle", "ISTIO_DIVERT"),
    ("mangle", "ISTIO_TPROXY"),
    ("nat", "ISTIO_REDIRECT"),
    ("nat", "ISTIO_IN_REDIRECT"),
)


def clean_commands(netns: str) -> list[Command]:
    """In the order of the original."""
    jumps = [(TOOL, "-t", table, "-D", *words) for table, *words in _JUMPS]
    chains = [(TOOL, "-t", table, does, chain) for table, chain in _CHAINS for does in ("-F", "-X")]
    return [Command(argv, netns) for argv in (*jumps, *chains)]


def clean(ward: Ward) -> None:
    """Stop the capture."""
    for command in clean_commands(ward.netns):
        run(command)


def put_back(ward: Ward) -> None:
    """What istio-init would run again. Raises CommandFailed."""
    for command in commands(ward.capture, netns=ward.netns):
        run(command, check=True)


class Watchman:
    """One pod."""

    def __init__(self, ward: Ward, diary: Diary) -> None:
        self._ward, self._diary = ward, diary
        self._failures = 0
        self._open = False

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked_s = loop.time()
            healthy = await self._healthy()
            self._failures = 0 if healthy else self._failures + 1
            if healthy and self._open:
                await self._do(CLOSE)
            elif not self._open and self._failures >= FAILURES:
                await self._do(OPEN)
            await asyncio.sleep(asked_s + PERIOD_S - loop.time())

    async def _healthy(self) -> bool:
        try:
            answer = await ask("127.0.0.1", HEALTH, "/healthz/ready", netns=self._ward.netns, timeout_s=TIMEOUT_S)
        except OSError:
            return False
        return answer.status == 200

    async def _do(self, what: str) -> None:
        began_s = time.monotonic()
        await asyncio.to_thread(clean if what == OPEN else put_back, self._ward)
        self._open = what == OPEN
        self._diary.note(what, self._ward.name, began_s)


async def main(wards: Path, diary_path: Path) -> None:
    diary = Diary(diary_path)
    watchmen = [Watchman(ward, diary) for ward in load_wards(wards)]
    diary.note(READY)
    await asyncio.gather(*(watchman.watch() for watchman in watchmen))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
