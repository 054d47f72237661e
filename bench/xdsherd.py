"""Many subscribers to endpoints in one process: `python -m bench.xdsherd ADDRESS:PORT COUNT`.

Says "ready" when each has its first answer; then, after each change, the instant at which the last of them had it
(CLOCK_MONOTONIC, ns).
"""

from __future__ import annotations

import asyncio
import sys
import time

import grpc
import grpc.aio

from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.protowire import first, message, string, text

STREAM = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
NAME = "db.shop:8080"


class Herd:
    def __init__(self, size: int) -> None:
        self._size, self._answers = size, dict[int, int]()  # how many had their n-th answer

    async def follow(self, target: str, number: int) -> None:
        own = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20))
        place = message(3, message(1, text(1, "node") + message(2, text(3, f"node-{number % 100}"))))
        head = message(2, text(1, f"client-{number}") + place) + text(3, NAME) + text(4, Kind.ENDPOINTS)
        async with grpc.aio.insecure_channel(target, own) as channel:
            stream, turn = channel.stream_stream(STREAM)(), 0
            await stream.write(head)
            while isinstance(answer := await stream.read(), bytes):
                self._had(turn)
                turn += 1
                await stream.write(text(3, NAME) + text(4, Kind.ENDPOINTS) + text(5, string(first(answer, 5))))

    def _had(self, turn: int) -> None:
        self._answers[turn] = self._answers.get(turn, 0) + 1
        if self._answers[turn] == self._size:
            sys.stdout.write(f"{time.monotonic_ns() if turn else 'ready'}\n")
            sys.stdout.flush()


async def main() -> None:
    size = int(sys.argv[2])
    herd = Herd(size)
    tasks = [asyncio.create_task(herd.follow(sys.argv[1], number)) for number in range(size)]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
