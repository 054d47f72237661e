"""Clients at work: each asks again and again from a namespace of its own, and it is known who answered and when.

Envoys and gRPC take their endpoints from an xDS server, as their bootstraps say; others learn from the API server.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hotswitch.sandbox.clients import EnvoyClient
from hotswitch.sandbox.estate import Estate
from hotswitch.sandbox.network import Attachment, Network
from hotswitch.sandbox.process import HOME, Process, module_argv, start
from hotswitch.sandbox.xds_client import XdsClientSpec

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `who`: the pod that answered, in `generation` (0: it says none); "" and `failure` when none did."""

    start_s: float
    end_s: float
    who: str
    failure: str = ""
    generation: int = 0

    @classmethod
    def read(cls, line: str) -> Asked:
        """A line of `follow`."""
        start_ns, end_ns, answer = line.split()
        start_s, end_s = int(start_ns) / 1e9, int(end_ns) / 1e9
        if answer.startswith("!"):
            return cls(start_s, end_s, "", answer[1:])
        who, _, generation = answer.partition("/")
        return cls(start_s, end_s, who, "", int(generation or 0))


class Follower:
    """One client. `asked`: all its requests, oldest first."""

    def __init__(self, process: Process) -> None:
        self._process, self.asked = process, list[Asked]()
        self._more = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._process.output)
        while line := await reader.readline():
            self.asked.append(Asked.read(line.decode()))
            self._more.set()
        self._more.set()

    async def until(self, condition: Callable[[list[Asked]], object], what: str) -> None:
        """Raises TimeoutError that says what was waited for."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition(self.asked):
                    if self._reading.done():
                        raise RuntimeError(f"the client has ended; waited for {what}")
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise TimeoutError(f"{what}; last: {self.asked[-5:]}") from None

    async def answered_by(self, *names: str, times: int = 20) -> None:
        """Wait until of as many requests as `times`, begun from now on, each of these and nobody else answered some."""
        begun = self.mark() + 1

        def done(asked: list[Asked]) -> bool:
            last = asked[begun:][-times:]
            return len(last) == times and {each.who for each in last} == set(names)

        await self.until(done, f"{' and '.join(names)} to answer, and nobody else")

    async def first(self, wanted: Callable[[Asked], bool], what: str, since: int = 0) -> Asked:
        """The first of those since that mark."""

        def found(asked: list[Asked]) -> Asked | None:
            return next((each for each in asked[since:] if wanted(each)), None)

        await self.until(found, what)
        first = found(self.asked)
        assert first is not None
        return first

    async def newer(self, generation: int, since: int = 0) -> Asked:
        """The first that was answered in a later generation."""
        return await self.first(lambda each: each.generation > generation, f"an answer after {generation}", since)

    def mark(self) -> int:
        return len(self.asked)

    def since(self, mark: int) -> list[Asked]:
        return self.asked[mark:]

    def failures(self, since: int = 0) -> list[Asked]:
        return [each for each in self.asked[since:] if each.failure]

    def counts(self, since: int = 0) -> Counter[str]:
        return Counter(each.who for each in self.asked[since:])

    async def stop(self) -> None:
        await self._process.stop()
        await self._reading


class Followers:
    """Made in one sandbox; `close` ends them all, and their Envoys."""

    def __init__(self, estate: Estate, network: Network) -> None:
        self._estate, self._network = estate, network
        self._every: list[Follower] = []
        self._envoys: list[EnvoyClient] = []

    async def envoy(self, spec: XdsClientSpec, *, ads: bool = False) -> EnvoyClient:
        client = EnvoyClient(self._estate, await self._network.attach(spec.name), spec.name)
        self._envoys.append(client)
        spec.save(client.bootstrap, spec.envoy_ads() if ads else spec.envoy_eds())
        await client.restart()
        return client

    def http(self, client: EnvoyClient, port: int, *more: str) -> Follower:
        """Through that Envoy."""
        return self.start(client.netns, "follow", ("http", f"127.0.0.1:{port}", *more))

    async def grpc(self, spec: XdsClientSpec, target: str, interval_s: float = 0.002) -> Follower:
        place = await self._network.attach(spec.name)
        path = self._estate.directory / f"{spec.name}-bootstrap.json"
        spec.save(path, spec.grpc_bootstrap())
        words = ("grpc", target, str(interval_s))
        return self.start(place.netns, "follow", words, {"GRPC_XDS_BOOTSTRAP": str(path)})

    def api(self, place: Attachment, *words: str) -> Follower:
        """`words` of follow_api; the API server has to be reachable in there."""
        return self.start(place.netns, "follow_api", words)

    def start(
        self, netns: str, module: str, words: tuple[str, ...], variables: Mapping[str, str] | None = None
    ) -> Follower:
        log = self._estate.directory / f"follow-{len(self._every)}.log"
        said = tuple(f"{name}={value}" for name, value in (variables or {}).items())
        argv = ("env", f"PYTHONPATH={HOME}", *said, *module_argv(module, *words))
        follower = Follower(start(self._estate, argv, log=log, netns=netns, pipe=True))
        self._every.append(follower)
        return follower

    async def close(self) -> None:
        await asyncio.gather(*(each.stop() for each in self._every))
        await asyncio.gather(*(each.close() for each in self._envoys))
