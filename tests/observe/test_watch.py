"""A watch that was ended stays so: its timers must not look into a namespace that is another pod's by now (I6)."""

import asyncio
import socket
from typing import Any

import pytest

from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.netns import PinnedNamespace, inside
from hotswitch.model import HEALTH, Thresholds
from hotswitch.observe.watch import SLOW_S, Pace, PodWatch

pytestmark = pytest.mark.netns


def test_ended_while_a_probe_is_on_its_way(netns: str) -> None:
    asyncio.run(_end_early(netns))


async def _end_early(netns: str) -> None:
    loop, errors, news = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    namespace = PinnedNamespace(netns)
    with inside(netns):
        silent = socket.create_server(("127.0.0.1", HEALTH))  # nobody accepts, so the probe goes unanswered
    more: dict[str, Any] = {"path_probe": None, "container": Container(()), "app_ports": frozenset({8080})}
    watch = PodWatch(namespace, lambda: news.append(loop.time()), thresholds=Thresholds(), pace=Pace(), **more)
    watch.start()
    watch._ask()  # as its timer does: it will want to look again after SLOW_S
    watch.close()
    namespace.close()
    silent.close()
    news.clear()
    await asyncio.sleep(2 * SLOW_S)  # nothing is to happen, so there is nothing to wait for
    assert errors == []
    assert news == []
