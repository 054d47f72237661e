"""Holds one thread still until it is told to end: `python -m hotswitch.sandbox.hold TID`.

Seized and interrupted by ptrace, the thread stops while its process goes on, like a worker in an endless loop or on a
lock. The kernel lets it go when this process ends, however that happens (ptrace(2), PTRACE_SEIZE).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from hotswitch.sandbox.process import die_with_parent

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000  # __WALL: threads that are not children count too

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def hold(tid: int) -> int:
    """Stop the thread; time.monotonic_ns() just before. Raises OSError when it is gone or may not be traced."""
    at_ns = time.monotonic_ns()
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if _libc.ptrace(request, tid, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace of thread {tid}: {os.strerror(ctypes.get_errno())}")
    os.waitpid(tid, WALL)
    return at_ns


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("held", hold(int(sys.argv[1])), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
