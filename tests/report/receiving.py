"""Receivers of alerts as real servers on loopback, well behaved and hostile, and notices to send them."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_network

from hotswitch.model import PodRef, PodUid
from hotswitch.report.alerts.dispatcher import Dispatcher
from hotswitch.report.alerts.guard import Rules
from hotswitch.report.alerts.receiver import Kind, Receiver
from hotswitch.report.alerts.store import MemoryStore
from hotswitch.report.alerts.worker import Surroundings
from hotswitch.report.notice import Notice, Severity

POD = PodRef("web-0", "shop", PodUid("u1"), "deploy/web")
LOOPBACK = Rules(
    allow_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")), allow_http=frozenset({"127.0.0.1", "localhost"})
)
DEADLINE_S = 20.0


def notice(key="u1/HSD001", *, ends=None, starts=1_764_230_400.0, severity=Severity.WARNING, code="HSD001", **fields):
    words = {"sentence": "The proxy died.", "pod": POD} | fields
    return Notice(key=key, code=code, severity=severity, starts_unix_s=starts, ends_unix_s=ends, **words)


class Counted:
    """Counts of a dispatcher, as its metrics would have them."""

    def __init__(self):
        self.results = Counter()
        self.queued = {}

    def alert(self, receiver, result, number=1):
        self.results[receiver, str(result)] += number

    def alerts_queued(self, receiver, number):
        self.queued[receiver] = number

    def forget_receiver(self, receiver):
        self.queued.pop(receiver, None)


class Secrets:
    def __init__(self, **values):
        self.values = values

    async def read(self, ref):
        return self.values[ref.key]


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Raw HTTP/1.1. `answers`: bytes for one request each, the last one for all further ones; None: no answer ever;
    an async function gets the writer and does what it likes."""

    answers: list = field(default_factory=lambda: [OK])
    got: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls: object = None

    async def __aenter__(self):
        self._news = asyncio.Condition()
        self._tasks = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        writer.transport.abort()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        async with self._news:
            self.got.append(Request(head[0].split()[1], {k: v for k, v in _pairs(head[1:])}, body))
            self._news.notify_all()
        if answer is None:
            await asyncio.sleep(3600)
        elif callable(answer):
            await answer(writer)
        else:
            writer.write(answer)
            await writer.drain()
            await reader.read()  # until the other side closes

    async def requests(self, number):
        """Wait until there were so many."""
        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(lambda: len(self.got) >= number)
        return self.got


def _pairs(lines):
    return [line.split(": ", 1) for line in lines if line]


def status(code, *headers):
    return "\r\n".join([f"HTTP/1.1 {code} x", *headers, "content-length: 0", "", ""]).encode()


OK = status(200)


@contextlib.asynccontextmanager
async def dispatching(*receivers, store=None, secrets=None, **around):
    """A dispatcher with these receivers; afterwards it is stopped as a controller stops it."""
    counts = Counted()
    fields = {"store": store or MemoryStore(), "counts": counts, "save_every_s": 0.01, "backoff_base_s": 0.01} | around
    dispatcher = Dispatcher(secrets or Secrets(), Surroundings(**fields))
    dispatcher.counts = counts
    await dispatcher.configure(receivers)
    try:
        yield dispatcher
    finally:
        await dispatcher.stop()


def receiver(server_or_url, kind=Kind.WEBHOOK, name="team", **fields):
    url = server_or_url if isinstance(server_or_url, str) else getattr(server_or_url, "url", server_or_url)
    return Receiver(
        **(
            {"name": name, "kind": kind, "namespace": "istio-system", "url": url, "default": True, "rules": LOOPBACK}
            | fields
        )
    )


async def until(condition, what=""):
    """Poll what cannot be awaited (a count)."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)
