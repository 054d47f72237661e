"""A process of a pod, without a pod: `python stranger.py UID [own]` in its network namespace, until its input ends.

With `own` it makes a user and a network namespace first and waits for its ids to be mapped, as a runtime does it.
"""

import ctypes
import os
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def main(uid: int, own: bool) -> None:
    if own:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
        print("unmapped", flush=True)
        sys.stdin.readline()
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] == ["own"])
