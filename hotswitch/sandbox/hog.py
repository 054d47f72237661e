"""Takes memory inside a container's cgroup, step by step, and keeps it: `python -m hotswitch.sandbox.hog BYTES`.

It starts outside of the cgroup and is put in by whoever starts it, who also tells the kernel to prefer another victim.
"""

from __future__ import annotations

import mmap
import signal
import sys
import time

from hotswitch.sandbox.process import die_with_parent

STEP_BYTES = 1 << 20
STEP_S = 0.005


def main() -> None:
    die_with_parent()
    wanted = int(sys.argv[1])
    taken = mmap.mmap(-1, wanted)
    for at in range(0, wanted, STEP_BYTES):
        for page in range(at, min(at + STEP_BYTES, wanted), mmap.PAGESIZE):
            taken[page] = 1
        time.sleep(STEP_S)
    signal.pause()


if __name__ == "__main__":
    main()
