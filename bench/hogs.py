"""Whatever takes the machine away from others: `python -m bench.hogs cpu | memory BYTES | cache BYTES`.

cpu: one core, for ever. memory: takes BYTES, touches them, gives them back, again and again. cache: reads a file of
BYTES over and over, so that the cgroup it is in has to give pages up all the time.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time

from hotswitch.sandbox.process import die_with_parent

CHUNK_BYTES = 1 << 20
PAUSE_S = 0.002


def burn() -> None:
    while True:
        pass


def churn(size: int) -> None:
    while True:
        with mmap.mmap(-1, size) as taken:
            for at in range(0, size, mmap.PAGESIZE):
                taken[at] = 1


def read_over(size: int) -> None:
    """The file is on a disk: pages of a tmpfs could not be given up."""
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        for _ in range(size // CHUNK_BYTES):
            file.write(os.urandom(CHUNK_BYTES))
        file.flush()
        os.fsync(file.fileno())
        while True:
            for at in range(0, size, CHUNK_BYTES):
                os.pread(file.fileno(), CHUNK_BYTES, at)
                time.sleep(PAUSE_S)


def main(kind: str, size: str = "0") -> None:
    die_with_parent()
    match kind:
        case "cpu":
            burn()
        case "memory":
            churn(int(size))
        case "cache":
            read_over(int(size))
        case _:
            raise SystemExit(f"kind: {kind!r} is none of cpu, memory, cache")


if __name__ == "__main__":
    main(*sys.argv[1:])
