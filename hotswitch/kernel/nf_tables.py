"""Does the kernel have nf_tables? Asked of itself, by the smallest request: the number of the rule set's generation.

The request is well formed, so where nf_tables is there it is answered, and the errors below can only mean that it is
not. nfnetlink answers EINVAL for a subsystem that it does not have, after it has tried to load the module (see
net/netfilter/nfnetlink.c; tried with a subsystem that no kernel has).
"""

from __future__ import annotations

import errno
import struct

from hotswitch.kernel.netlink import NETLINK_NETFILTER, NLM_F_REQUEST, NetlinkSocket, message

NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETGEN = 16
_ABSENT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOENT})


def answer(netns: str | None = None, subsystem: int = NFTABLES) -> int:
    """The kernel's errno for the request; 0: it was answered. Raises FileNotFoundError when the namespace is gone."""
    try:
        asks = NetlinkSocket(NETLINK_NETFILTER, netns)
    except FileNotFoundError:
        raise
    except OSError as failure:
        return failure.errno or errno.EIO
    try:
        asks.ask(message(subsystem | _GETGEN, NLM_F_REQUEST, struct.pack("=BBH", 0, 0, 0)))
    except OSError as failure:
        return failure.errno or errno.EIO
    finally:
        asks.close()
    return 0


def means_absent(code: int) -> bool:
    """Whether errno `code` says that there is no nf_tables. Any other (EPERM, a timeout) says nothing about that."""
    return code in _ABSENT


def absent(netns: str | None = None) -> bool:
    """Whether the kernel has no nf_tables; some 100 us. Raises FileNotFoundError."""
    return means_absent(answer(netns))
