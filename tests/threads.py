"""Whether this kernel tells of the end of single threads (Linux 6.9): where not, a death is known by its sockets."""

import contextlib
import os

from hotswitch.kernel.process import PIDFD_THREAD


def _kernel_tells() -> bool:
    with contextlib.suppress(OSError):
        os.close(os.pidfd_open(os.getpid(), PIDFD_THREAD))
        return True
    return False


KERNEL_TELLS = _kernel_tells()
