"""A pod that serves again, in a later generation, after others did: nothing of the earlier one gets out (I7, S0.5).

The doorway shuts when a permit runs out, whoever is stuck; but flows and memories outlive that. Real namespaces, the
real keeper, the real sample app.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from hotswitch.endpoints.app_role import AppRole, serve
from hotswitch.endpoints.doorway import Doorway
from hotswitch.endpoints.keeper import Keeper, Kept, clock_s
from hotswitch.kernel.netns import inside
from hotswitch.sandbox.ask import Answer, ask
from hotswitch.sandbox.httpd import Request, Response, listen
from hotswitch.sandbox.register import Fenced, Register, RegisterConfig
from tests.namespaces import POD_V4, POD_V6, Pair

pytestmark = pytest.mark.netns
PORT, ROLES = 5432, 8109
PATIENCE_S = 30.0
PATH = "/v1/roles/shop/db-1"


def active(generation: int, ttl_s: float = 60.0) -> dict[str, Any]:
    said = {"role": "active", "generation": generation, "withdrawn": generation - 1, "ttl_s": ttl_s}
    return {**said, "mark": f"active-{generation}"}


def keeper(pair: Pair, app: AppRole | None = None, *, build: bool = True) -> Keeper:
    door = Doorway(pair.pod, (PORT,))
    if build:
        door.build()
    kept = Kept(namespace="shop", name="db-1", uid="u", doorway=door, roles=("http://x",), token=lambda: "", app=app)
    return Keeper(kept)


def heed(kept: Keeper, said: dict[str, Any]) -> None:
    kept.heed(said, clock_s(), time.time())


def is_refused(pair: Pair) -> bool:
    try:
        return pair.call(POD_V4, PORT) == b""
    except ConnectionError:
        return True


def until_over(kept: Keeper) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while kept._kept.doorway.is_permitted():
        assert time.monotonic() < end_s
        time.sleep(0.02)


# ---- flows ----


@contextmanager
def flow(pair: Pair, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end and the app's, over which a request has come."""
    with pair.listen(PORT) as server:
        with inside(pair.client):
            client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        with client:
            client.settimeout(PATIENCE_S)
            client.connect((address, PORT))
            kept, _ = server.accept()
            with kept:
                client.sendall(b"a")
                assert kept.recv(1) == b"a"
                yield client, kept


@pytest.mark.parametrize("closes", [False, True], ids=["stays open", "is closed"])
@pytest.mark.parametrize("address", [POD_V4, POD_V6])
def test_what_waits_in_a_flow_is_not_sent_in_the_next_generation(pair: Pair, address: str, closes: bool) -> None:
    """The answer was held back while the doorway was shut, and the kernel would send it again when it opens."""
    door = keeper(pair)
    heed(door, active(2, 1.0))
    with flow(pair, address) as (client, app):
        until_over(door)
        app.sendall(b"too late")
        if closes:
            app.close()
        heed(door, active(4))
        client.settimeout(2.0)
        with pytest.raises((ConnectionError, TimeoutError)):
            client.recv(8)
            pytest.fail("an answer of generation 2 came in generation 4")


def test_a_keeper_that_begins_again_in_one_generation_cuts_nothing(pair: Pair) -> None:
    heed(keeper(pair), active(2))
    with flow(pair, POD_V4) as (client, app):
        again = keeper(pair, build=False)
        again.generation = again._kept.doorway.generation
        assert again.generation == 2
        heed(again, active(2))
        app.sendall(b"b")
        assert client.recv(1) == b"b"


# ---- memories ----


def test_an_app_that_has_not_heard_is_not_reached_until_it_has(pair: Pair) -> None:
    """Cut off or stopped, it believes that it serves in generation 2; generation 3 has been another pod's."""
    role = AppRole()
    door = keeper(pair, role)
    with pair.speaker(PORT, b"me"), ThreadPoolExecutor() as pool:
        assert role.ask("", 0.0)["role"] == "standby"
        opening = pool.submit(heed, door, active(2))
        while (said := role.ask("", 0.0))["role"] != "active":
            time.sleep(0.01)
        role.ask(said["mark"], 0.0)
        opening.result()
        heed(door, active(2, 1.0))  # by now it is surely taken
        assert pair.call(POD_V4, PORT) == b"me"
        until_over(door)
        heed(door, active(4))
        assert is_refused(pair) and door.generation == 2
        assert role.ask("active-2", PATIENCE_S)["mark"] == "active-4"
        heed(door, active(4))
        assert is_refused(pair), "told, and not taken yet"
        role.ask("active-4", 0.0)
        heed(door, active(4))
        assert pair.call(POD_V4, PORT) == b"me" and door.generation == 4


def test_a_late_word_of_what_was_withdrawn_is_told_to_nobody(pair: Pair) -> None:
    role = AppRole()
    door = keeper(pair, role)
    heed(door, {"role": "standby", "generation": 3, "withdrawn": 3, "ttl_s": None, "mark": "standby-3"})
    heed(door, active(2))
    assert role.ask("", 0.0)["role"] == "standby" and not door._kept.doorway.is_permitted()


def test_the_app_is_told_that_its_time_is_over_though_nobody_says_so() -> None:
    now_s = [100.0]
    role = AppRole(lambda: now_s[0])
    role.say(active(2, 5.0), 105.0)
    assert role.ask("", 0.0) == {**active(2), "ttl_s": 5.0}
    assert role.ask("active-2", 0.0)["mark"] == "active-2" and role.is_taken("active-2", 0.0)
    now_s[0] = 105.0
    found = role.ask("active-2", PATIENCE_S)
    assert (found["role"], found["ttl_s"]) == ("standby", None) and found["mark"] != "active-2"


def test_a_question_that_waits_is_answered_when_the_time_is_over() -> None:
    role = AppRole()
    role.say(active(2, 0.3), clock_s() + 0.3)
    assert role.ask("", 0.0)["role"] == "active"
    assert role.ask("active-2", PATIENCE_S)["role"] == "standby"


def test_an_app_believes_for_as_long_as_its_port_is_open_though_its_question_stands() -> None:  # S0.6
    """Else it would refuse before its time is over, and that is when its keeper has stopped and its lease runs out."""
    now_s = [100.0]
    role = AppRole(lambda: now_s[0])
    role.say(active(2, 5.0), 105.0)
    assert role.ask("", 0.0)["ttl_s"] == 5.0
    with ThreadPoolExecutor() as pool:
        standing = pool.submit(role.ask, "active-2", 20.0)
        assert role.is_taken("active-2", PATIENCE_S)
        now_s[0] = 101.0
        role.say(active(2, 5.0), 106.0)
        try:
            assert standing.result(PATIENCE_S)["ttl_s"] == 6.0, "counted from its question, at 100"
        finally:
            now_s[0] = 200.0  # it ends, however it went
            role.say(active(2, 5.0), 106.0)
    now_s[0] = 102.0
    role.say(active(2, 5.0), 107.0)  # between two questions
    assert role.ask("active-2", 20.0)["ttl_s"] == 5.0


def test_an_app_without_an_end_to_its_time_is_not_asked_to_come_back_at_each_renewal() -> None:
    role = AppRole()
    said = {**active(2), "ttl_s": None}
    role.say(said, clock_s() + 60.0)
    role.ask("", 0.0)
    with ThreadPoolExecutor() as pool:
        standing = pool.submit(role.ask, "active-2", PATIENCE_S)
        assert role.is_taken("active-2", PATIENCE_S)
        role.say(said, clock_s() + 61.0)
        role.say({**said, "role": "standby", "mark": "standby-2"}, clock_s())
        assert standing.result(PATIENCE_S)["mark"] == "standby-2"


def test_over_loopback_of_the_pod_in_the_words_of_a_controller(pair: Pair) -> None:
    role = AppRole()
    server = serve(role, PATH, pair.pod, ROLES)
    try:
        waiting: list[Answer] = []

        async def question(path: str) -> Answer:
            return await ask("127.0.0.1", ROLES, path, netns=pair.pod, timeout_s=PATIENCE_S)

        first = asyncio.run(question(f"{PATH}?uid=u"))
        assert first.status == 200 and first.json()["role"] == "standby"
        path = f"{PATH}?uid=u&wait=20&known={first.json()['mark']}"
        thread = threading.Thread(target=lambda: waiting.append(asyncio.run(question(path))))
        thread.start()
        assert role.is_taken(first.json()["mark"], PATIENCE_S), "to wait for another one is to have taken this one"
        role.say(active(2), clock_s() + 60.0)
        thread.join()
        assert waiting[0].json()["mark"] == "active-2"
        assert asyncio.run(question("/v1/roles/shop/db-2")).status == 404
        assert asyncio.run(question(f"{PATH}?wait=nan&known=active-2")).status == 200
    finally:
        server.shutdown()
        server.server_close()


def test_an_app_that_is_killed_while_it_waits_is_one_line_of_the_log(
    pair: Pair, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    role, gone = AppRole(), threading.Event()
    caplog.set_level("DEBUG", "hotswitch.endpoints.app_role")
    handler = logging.Handler()
    handler.emit = lambda record: gone.set()  # type: ignore[method-assign]
    logging.getLogger("hotswitch.endpoints.app_role").addHandler(handler)
    server = serve(role, PATH, pair.pod, ROLES)
    try:
        with inside(pair.pod):
            app = socket.create_connection(("127.0.0.1", ROLES))
        app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # goes with a reset
        app.sendall(f"GET {PATH}?wait=30&known=unheard HTTP/1.0\r\n\r\n".encode())
        assert role.is_taken("unheard", PATIENCE_S)
        app.close()
        role.say(active(2), clock_s() + 60.0)
        assert gone.wait(PATIENCE_S)
    finally:
        logging.getLogger("hotswitch.endpoints.app_role").removeHandler(handler)
        server.shutdown()
        server.server_close()
    assert "went away before it was answered" in caplog.text
    assert "Traceback" not in capfd.readouterr().err


# ---- the sample app ----


class Waiting(Register):
    """Whose storage answers when it is let go."""

    def __init__(self, *roles: str) -> None:
        super().__init__(RegisterConfig("shop", "db-1", "u", "", roles))
        self.goes = asyncio.Event()
        self._until_s = math.inf

    async def _store(self, what: str, generation: int) -> int:
        await self.goes.wait()
        if generation == 5:
            raise Fenced("generation 6 has begun")
        return 10 * generation


class Late(Waiting):
    """Whose writes are answered in the order of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = {1: asyncio.Event(), 2: asyncio.Event()}

    async def _store(self, what: str, generation: int) -> int:
        if what == "/take":
            return 0
        number = int(what.rpartition("=")[2])
        await self.answers[number].wait()
        return number


def test_the_app_answers_nothing_of_before_while_it_takes_a_new_generation() -> None:
    async def story() -> None:
        app = Waiting()
        app.goes.set()
        await app._become(True, 2)
        read = Request(b"GET /read HTTP/1.1", b"", "")
        assert _said(app, read)["generation"] == 2
        app.goes.clear()
        taking = asyncio.create_task(app._become(True, 4))
        await asyncio.sleep(0)
        assert "error" in _said(app, read)
        app.goes.set()
        await taking
        assert _said(app, read) == {"pod": "db-1", "generation": 4, "seq": 40}
        with pytest.raises(ConnectionError):
            await app._become(True, 5)
        assert "error" in _said(app, read)

    asyncio.run(story())


def test_answers_of_the_storage_that_overtake_each_other_take_nothing_back() -> None:
    """A read would tell less than what was acknowledged."""

    async def story() -> None:
        app = Late()
        await app._become(True, 2)
        writes = [asyncio.create_task(app._write(2, str(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        for n in (2, 1):
            app.answers[n].set()
            await writes[n - 1]
        assert [json.loads(each.result().body)["seq"] for each in writes] == [1, 2]
        assert _said(app, Request(b"GET /read HTTP/1.1", b"", ""))["seq"] == 2

    asyncio.run(story())


def test_the_app_asks_again_well_before_its_word_is_over() -> None:
    """Else it would think, for a part of each second, that it is active no more."""

    async def story() -> None:
        asked: list[float] = []
        again = asyncio.Event()

        def answered(request: Request) -> Response:
            asked.append(float(request.query["wait"]))
            if len(asked) == 2:
                again.set()
            return Response(json.dumps(active(2, 2.0)).encode())

        server = await listen(answered, 0, "127.0.0.1")
        app = Waiting(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        app.goes.set()
        async with server, asyncio.timeout(PATIENCE_S):
            follows = asyncio.create_task(app.follow())
            await again.wait()
            follows.cancel()
        assert asked[1] <= 0.5

    asyncio.run(story())


def _said(app: Register, request: Request) -> Any:
    found = app.handle(request)
    assert not asyncio.iscoroutine(found)
    return json.loads(found.body)  # type: ignore[union-attr]
