"""What receivers were told outlives the process: leaders come and go, the store is away, slow, or spoilt (S4.6, I8)."""

import asyncio
import json

import pytest

from hotswitch.report.alerts.store import FileStore, MemoryStore, file_name
from tests.report.receiving import OK, Server, dispatching, notice, receiver, status, until

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("when", ["before it was sent", "while it was on its way", "after it was sent"])
def test_controller_restarts(tmp_path, when) -> None:
    """Nothing is lost, and what was said is not said anew."""

    async def run():
        store = FileStore(tmp_path)
        answer = {"before it was sent": status(503), "while it was on its way": None, "after it was sent": OK}[when]
        async with Server([answer]) as server, dispatching(receiver(server), store=store) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)
            if answer is OK:
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
        async with Server() as server:
            async with dispatching(receiver(server), store=store) as dispatcher:
                dispatcher.tell(notice(sentence="Told again by a controller that starts."))
                if answer is OK:
                    dispatcher.tell(notice(ends=1_764_230_500.0))
                (got,) = await server.requests(1)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
            return json.loads(got.body)["phase"]

    assert asyncio.run(run()) == ("resolved" if when == "after it was sent" else "fired")


def test_controller_is_killed_without_a_word(tmp_path) -> None:
    """No stop, no last save: what was saved soon after the notice is enough."""

    async def run():
        store = FileStore(tmp_path)
        async with Server([status(503)]) as server, dispatching(receiver(server), store=store) as dispatcher:
            dispatcher.tell(notice())
            await until(lambda: list(tmp_path.glob("*.json")))
            kept = next(tmp_path.glob("*.json")).read_bytes()
        next(tmp_path.glob("*.json")).write_bytes(kept)
        async with Server() as server, dispatching(receiver(server), store=store):
            (got,) = await server.requests(1)
            return json.loads(got.body)["key"]

    assert asyncio.run(run()) == "u1/HSD001"


class BrokenStore:
    async def load(self, name):
        raise OSError("the API server is away")

    async def save(self, name, content):
        raise AssertionError("what was not read must not be overwritten")

    async def remove(self, name):
        raise OSError


def test_store_is_away_and_alerts_go_out_all_the_same() -> None:
    async def run():
        async with Server() as server, dispatching(receiver(server), store=BrokenStore()) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)

    asyncio.run(run())


class SlowStore(MemoryStore):
    """Nothing is read before `opens`."""

    def __init__(self, saved=None) -> None:
        super().__init__()
        self.saved = dict(saved or {})
        self.asked, self.opens = asyncio.Event(), asyncio.Event()

    async def load(self, name):
        self.asked.set()
        await self.opens.wait()
        return await super().load(name)


def test_what_was_said_before_is_read_late() -> None:
    """A leader begins with its own words before the API server has answered: nobody hears the same twice."""

    async def run():
        before, matter = MemoryStore(), notice()
        async with Server() as server, dispatching(receiver(server), store=before) as dispatcher:
            dispatcher.tell(matter)
            await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
        store = SlowStore(before.saved)
        async with Server() as server, dispatching(receiver(server), store=store, read_within_s=60) as dispatcher:
            dispatcher.tell(matter)
            await store.asked.wait()
            store.opens.set()
            dispatcher.tell(notice("u2/HSD001"))
            await server.requests(1)
            await until(lambda: dispatcher.counts.results["team", "sent"] >= 1)
            return [json.loads(request.body)["key"] for request in server.got]

    assert asyncio.run(run()) == ["u2/HSD001"]


def test_store_never_answers_and_alerts_go_out_all_the_same() -> None:
    async def run():
        store = SlowStore()
        async with Server() as server, dispatching(receiver(server), store=store, read_within_s=0.01) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)
            store.opens.set()

    asyncio.run(run())


def test_save_that_was_given_up_comes_late(tmp_path) -> None:
    """Its thread gets the file after a newer one: the newer content stays."""
    store = FileStore(tmp_path)
    store._carry_out("team", b"new", 2)
    store._carry_out("team", b"old", 1)
    assert asyncio.run(store.load("team")) == b"new"


def test_store_holds_garbage(tmp_path) -> None:
    async def run():
        (tmp_path / f"{file_name('team')}.json").write_bytes(b'{"matters": [{"notice": 7}]')
        async with Server() as server, dispatching(receiver(server), store=FileStore(tmp_path)) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)

    asyncio.run(run())


def test_state_is_for_its_owner_alone(tmp_path) -> None:
    async def run():
        store = FileStore(tmp_path / "alerts")
        await store.save("shop/team", b"{}")
        await store.save("shop-team", b"[]")
        assert await store.load("shop/team") == b"{}" and await store.load("none") is None
        await store.remove("shop/team")
        await store.remove("shop/team")

    asyncio.run(run())
    (left,) = (tmp_path / "alerts").iterdir()
    assert (left.stat().st_mode & 0o777, left.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("deposed", [True, False])
def test_deposed_leader_leaves_the_state_to_the_next(deposed) -> None:
    async def run():
        store = MemoryStore()
        async with Server() as server, dispatching(receiver(server), store=store, save_every_s=3600) as dispatcher:
            dispatcher.tell(notice())
            await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
            store.saved["team"] = b"the next leader's"
            await dispatcher.stop(save=not deposed)
            return store.saved["team"]

    assert (asyncio.run(run()) == b"the next leader's") is deposed
