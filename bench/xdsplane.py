"""An xDS server in a process of its own, told by lines on standard input what to publish; each is answered by a line.

python -m bench.xdsplane ADDRESS:PORT
publish NAME=ADDRESS...     answers with the instant at which publishing began (CLOCK_MONOTONIC, ns)
cost COUNT                  one of COUNT endpoints changes, again and again: ms to publish it, ms for one answer
memory COUNT                MB that a register of COUNT backends takes, and the publisher's copy beside it
crowd COUNT                 publishes COUNT endpoints that nobody asks; the instant, as publish does
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from statistics import median

from bench.usage import usage_of_self
from hotswitch.backends import Backend, Locality, ServiceId
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.registry import Registry
from hotswitch.endpoints.xds.callers import caller_of
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.server import XdsServer
from hotswitch.sandbox import eds_service
from hotswitch.sandbox.app import HTTP_PORT
from hotswitch.sandbox.eds_service import HTTP_NAME, SERVICE, published, record

NODES, UPDATES = 100, 200


def backend(number: int, name: str = "", address: str = "", service: ServiceId = SERVICE) -> Backend:
    place = Locality("", "north", f"zone-{number % NODES % 3}", f"node-{number % NODES}")
    address = address or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return eds_service.backend(name or f"db-{number}", address, place, service, kubelet_ready=True)


def cost(size: int) -> tuple[float, float]:
    """Medians in ms."""
    publisher = EdsPublisher(lambda kinds, names: None)
    backends = [backend(number) for number in range(size)]
    caller = Caller(locality=Locality("", "north", "zone-1", "node-1"))
    took, answered = [], []
    for update in range(UPDATES):
        changed = list(backends)
        changed[update % size] = replace(backends[update % size], weight=2 + update)
        news = published(record(), changed)
        began = time.perf_counter()
        publisher.publish(news)
        middle = time.perf_counter()
        publisher.resource(Kind.ENDPOINTS, HTTP_NAME, caller)
        took.append(1e3 * (middle - began))
        answered.append(1e3 * (time.perf_counter() - middle))
    return median(took[1:]), median(answered[1:])


def memory(size: int) -> tuple[float, float]:
    """MB. A hundred Services of the same size."""
    before = usage_of_self().rss_mb
    registry, publisher = Registry(), EdsPublisher(lambda kinds, names: None)
    services = [ServiceId("shop", f"db-{number}") for number in range(100)]
    for number in range(size):
        registry.put(backend(number, service=services[number % len(services)]))
    registered = usage_of_self().rss_mb
    for service in services:
        publisher.publish(published(record(service=service), registry.backends(service)))
        publisher.resource(Kind.ENDPOINTS, f"{service.name}.shop:{HTTP_PORT}", Caller(locality=Locality(node="node-1")))
    return registered - before, usage_of_self().rss_mb - registered


class Plane:
    def __init__(self, address: str) -> None:
        self._publisher = EdsPublisher(lambda kinds, names: self._server.changed(kinds, names))
        self._server = XdsServer(self._publisher, caller_of, address=address)
        self._versions = count(2)

    async def run(self) -> None:
        await self._server.start()
        self._server.open()
        _say("ready")
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode():
            verb, *words = line.split()
            _say(self._do(verb, words))
        await self._server.stop()

    def _do(self, verb: str, words: list[str]) -> str:
        if verb == "cost":
            return " ".join(map(str, cost(int(words[0]))))
        if verb == "memory":
            return " ".join(map(str, memory(int(words[0]))))
        if verb == "crowd":
            newest = replace(backend(0), weight=next(self._versions))
            return self._publish([newest, *(backend(number) for number in range(1, int(words[0])))])
        pairs = (word.partition("=") for word in words)
        return self._publish([backend(number, name, address) for number, (name, _, address) in enumerate(pairs)])

    def _publish(self, backends: Sequence[Backend]) -> str:
        news, began_ns = published(record(), backends), time.monotonic_ns()
        self._publisher.publish(news)
        return str(began_ns)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(Plane(sys.argv[1]).run())
