"""Is the pod's network still there? A descriptor keeps a deleted pod's namespace alive, so its links are heard (I6)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from hotswitch.kernel.netlink import NETLINK_ROUTE, RTMGRP_LINK, NetlinkSocket
from hotswitch.kernel.netns import Where
from hotswitch.kernel.routing import own_addresses


class PodLink:
    """Calls `torn_down` once the last address is gone. Links that every namespace has (tunl0 and the like) stay when
    the pod's network is torn down. Raises OSError when the namespace cannot be entered."""

    def __init__(self, netns: Where, torn_down: Callable[[], None]) -> None:
        self._netns, self._torn_down = netns, torn_down
        self._loop = asyncio.get_running_loop()
        self._links = NetlinkSocket(NETLINK_ROUTE, netns, RTMGRP_LINK)

    def start(self) -> None:
        self._loop.add_reader(self._links, self._changed)

    def _changed(self) -> None:
        self._links.events()
        with contextlib.closing(NetlinkSocket(NETLINK_ROUTE, self._netns)) as asks:
            addresses = own_addresses(asks)
        if not addresses:
            self._torn_down()

    def close(self) -> None:
        self._loop.remove_reader(self._links)
        self._links.close()
