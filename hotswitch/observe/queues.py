"""Who listens in a namespace, and for how long the head of each accept queue has not moved (S4.2)."""

from __future__ import annotations

from dataclasses import replace

from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.netns import Where
from hotswitch.kernel.sockdiag import accept_queues
from hotswitch.model import Listeners, Port


class Queues:
    """`seen`: as of the last look. Raises OSError when the namespace cannot be entered."""

    def __init__(self, netns: Where) -> None:
        self._diag = NetlinkSocket(NETLINK_SOCK_DIAG, netns)
        self._waiting: dict[int, tuple[int, float]] = {}  # by inode: how many, and since when the head has not moved
        self.seen: Listeners | None = None

    @property
    def ports(self) -> frozenset[Port]:
        """Ports that listened at the last look."""
        return self.seen.ports if self.seen else frozenset()

    def look(self, now_s: float) -> None:
        try:
            queues = accept_queues(self._diag)
        except OSError:  # an answer was lost; the next look will do
            return
        fresh: dict[int, tuple[int, float]] = {}
        for queue in queues:
            waiting, since_s = self._waiting.get(queue.inode, (0, now_s))
            moved = queue.waiting == 0 or waiting == 0 or queue.waiting < waiting
            fresh[queue.inode] = (queue.waiting, now_s if moved else since_s)
        self._waiting = fresh
        timed = tuple(replace(queue, stuck_s=now_s - fresh[queue.inode][1]) for queue in queues)
        self.seen = Listeners(now_s, timed)

    def close(self) -> None:
        self._diag.close()
