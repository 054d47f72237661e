"""The keeper finds the controller that leads, wherever a name leads to (S0.6, I7)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from hotswitch.endpoints.doorway import Doorway
from hotswitch.endpoints.keeper import Keeper, Kept

pytestmark = pytest.mark.unit
FOLLOWS, LEADS = "127.0.0.1", "127.0.0.2"
ACTIVE = {"role": "active", "generation": 1, "withdrawn": 0, "ttl_s": 5.0, "mark": "active-1"}


PERMITS: list[float] = []
ASKED: list[str] = []


class Door(Doorway):
    """Of which only the permits are looked at."""

    def permit(self, until_unix_s: float, at_most_s: float, generation: int = 0) -> None:
        PERMITS.append(at_most_s)

    def shut(self) -> int:
        return 0


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append(self.path)
        leads = self.connection.getsockname()[0] == LEADS
        body = json.dumps(ACTIVE if leads else {"error": "does not lead"}).encode()
        self.send_response(200 if leads else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return None


@contextmanager
def controllers() -> Iterator[int]:
    """Two of them, on one port."""
    first = ThreadingHTTPServer((FOLLOWS, 0), Answering)
    second = ThreadingHTTPServer((LEADS, first.server_port), Answering)
    threads = [Thread(target=each.serve_forever, args=(0.01,)) for each in (first, second)]
    for thread in threads:
        thread.start()
    try:
        yield first.server_port
    finally:
        for each in (first, second):
            each.shutdown()
            each.server_close()
        for thread in threads:
            thread.join()


def test_the_resolver_puts_the_one_that_does_not_lead_first_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def resolved(host: str, port: Any, *more: Any, **words: Any) -> Any:
        addresses = (FOLLOWS, LEADS) if host == "roles.test" else (host,)
        return [found for each in addresses for found in known(each, port, *more, **words)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    PERMITS.clear()
    with controllers() as port:
        keeper = Keeper(
            Kept(
                namespace="shop",
                name="db-0",
                uid="one",
                doorway=Door(None, (5432,)),
                roles=(f"http://roles.test:{port}",),
                token=lambda: "",
            )
        )
        assert [keeper.turn() for _ in range(2)] == [False, True]
        assert len(PERMITS) == 1 and "permitted=0" in ASKED[-1]
        keeper.turn()
        assert "permitted=1" in ASKED[-1], "data planes are told of it when the port is open"
        assert "wait=0.000" in ASKED[-1], "the first permit may be short: its question may have stood"
        keeper.turn()
        assert "wait=1.000&known=active-1" in ASKED[-1]


def test_a_standby_becomes_active_by_a_question_that_stood_longer_than_a_permit_lasts() -> None:  # S0.7
    asks: list[str] = []

    class Heard(Keeper):
        def _request(self, method: str, more: str, query: dict[str, str], *rest: Any) -> tuple[int, bytes]:  # type: ignore[override]
            asks.append(f"{query['wait']} {query['known']} {query['permitted']}")
            now[0] += 6.0 if len(asks) == 1 else 0.0
            return 200, json.dumps(ACTIVE).encode()

    now = [0.0]
    PERMITS.clear()
    keeper = Heard(
        Kept(
            namespace="shop", name="db-0", uid="one", doorway=Door(None, (5432,)), roles=("http://nobody",),
            token=str, clock=lambda: now[0],
        )
    )  # fmt: skip
    assert keeper.turn() and PERMITS == []
    assert keeper.turn() and PERMITS == [5.0], "asked once more, at once"
    keeper.turn()
    assert asks == ["0.000  0", "0.000  0", "1.000 active-1 1"]
