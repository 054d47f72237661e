"""Leaders come and go, a Lease is deleted, a record is spoilt: nobody new is given a place too early (I3, I6)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hotswitch.controller.agents import desk, record
from hotswitch.controller.app import Controller
from hotswitch.controller.ledgers import NAME as RECORDS
from hotswitch.controller.settings import LEASE, SYSTEM_NAMESPACE
from tests.controller.agency import agent_pod, link, running, token_of
from tests.controller.test_agents import leads, may_open, run, serving
from tests.controller.town import Town

pytestmark = pytest.mark.k8s

SHORT_S, SKEW_S = 4.0, 1.0  # of a life, and of clocks, where a story has to outlast both
Content = dict[str, Any]


def written(made: Town) -> str:
    return str(made.api.admin.get("configmaps", RECORDS, SYSTEM_NAMESPACE).get("data", {}).get(record.KEY, ""))


def write(made: Town, text: str) -> None:
    known = made.api.admin.get("configmaps", RECORDS, SYSTEM_NAMESPACE)
    made.api.admin.replace({**known, "data": {**known.get("data", {}), record.KEY: text}})


def is_careful(controller: Controller) -> bool:
    ledger = controller.office.desk.ledger
    assert ledger is not None
    return ledger.is_cautious(asyncio.get_running_loop().time())


async def noted(made: Town, controller: Controller) -> None:
    await leads(made, controller)
    noting = controller.office._noting
    await made.until(lambda: noting is not None and noting.done(), "the record is written")


async def gets_nothing(made: Town, controller: Controller, tls: Path, name: str, uid: str) -> None:
    """An agent that is new: it is granted, and may not open anything, whatever it is told."""
    async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
        guard = node.attach(name, uid)
        await made.until(lambda: node.authority.grant(guard.pod.uid) and node.authority.lease.serial > 1, "granted")
        assert not may_open(node, uid)


def test_the_first_of_all_gives_places_at_once(tmp_path: Path) -> None:
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls) as controller:
            await noted(made, controller)
            assert written(made) == '{"term":1}' and not is_careful(controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted")

    run(story, tmp_path)


def test_the_leader_changes_twice_within_a_life(tmp_path: Path) -> None:  # I3
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        for term, identity in enumerate(("c0", "c1", "c2"), start=1):
            async with serving(made, tls, identity) as controller:
                await noted(made, controller)
                assert controller.office.desk.term == term
                assert written(made) == f'{{"term":{term}}}'
                assert is_careful(controller) is (term > 1)
                if term > 1:
                    await gets_nothing(made, controller, tls, "web-0", uid)

    run(story, tmp_path)


def test_the_lease_was_deleted(tmp_path: Path) -> None:  # I3, I6
    """Nobody who leads now has ever seen it; its term is later all the same, and it is as careful as any other."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        async with serving(made, tls, "c0") as controller:
            await noted(made, controller)
        made.api.admin.delete("leases", LEASE, SYSTEM_NAMESPACE)
        async with serving(made, tls, "c1") as controller:
            await noted(made, controller)
            assert controller.office.desk.term == 2 and is_careful(controller)
            await gets_nothing(made, controller, tls, "web-0", uid)

    run(story, tmp_path)


@pytest.fixture
def clocks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "SKEW_S", SKEW_S)


@pytest.mark.usefixtures("clocks_agree")
def test_it_is_careful_for_one_life_and_no_longer(tmp_path: Path) -> None:
    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        write(made, '{"term":7}')
        async with serving(made, tls, agents_life_s=SHORT_S) as controller:
            await noted(made, controller)
            assert controller.office.desk.term == 8 and is_careful(controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "granted after a life")
                assert not is_careful(controller)

    run(story, tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nonsense", "malformed"),
        ('{"term":"seven"}', "int"),
        ('{"term":0}', "not between"),
        ('{"term":99999999999}', "not between"),
        ("{}", "term"),
        (f'{{"term":1,"more":"{"x" * 300}"}}', "longer than"),
        ("", "data was truncated"),
    ],
)
def test_a_record_that_cannot_be_read(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        record.read(text)
    assert f"data['{record.KEY}'] of ConfigMap {RECORDS}" in str(refused.value) and len(str(refused.value)) < 300
    assert text[:20] in str(refused.value)


def test_somebody_spoilt_the_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # I2, I3
    """It is said with field and value; the leader is careful although its Lease is new; the next one can read it."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        write(made, '{"term":"seven"}')
        async with serving(made, tls) as controller:
            await noted(made, controller)
            assert controller.office.desk.term == 1 and is_careful(controller)
            said = [each.__dict__["why"] for each in caplog.records if each.message == "record of places not read"]
            assert said and f"data['{record.KEY}']" in said[0] and '{"term":"seven"}' in said[0]
            await gets_nothing(made, controller, tls, "web-0", uid)
            assert written(made) == '{"term":1}'

    run(story, tmp_path)


def test_a_later_version_wrote_more(tmp_path: Path) -> None:
    assert record.read('{"term":5,"until":"tomorrow"}') == 5


def test_whoever_leads_no_longer_writes_nothing(tmp_path: Path) -> None:  # I6
    async def story(made: Town, tls: Path) -> None:
        async with serving(made, tls) as controller:
            await noted(made, controller)
            deposed = record.Record(controller.cluster, SYSTEM_NAMESPACE, lambda: False)
            write(made, '{"term":9}')
            assert not await deposed.note(3)
            leading = record.Record(controller.cluster, SYSTEM_NAMESPACE, lambda: True)
            assert not await leading.note(3)  # nor does the term go back
            assert written(made) == '{"term":9}' and leading.highest_term == 9

    run(story, tmp_path)


def test_the_record_cannot_be_written_yet(tmp_path: Path) -> None:  # I3
    """Until it can, nobody new is given anything; then all at once."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        gone = made.api.admin.get("configmaps", RECORDS, SYSTEM_NAMESPACE)
        made.api.admin.delete("configmaps", RECORDS, SYSTEM_NAMESPACE)
        async with serving(made, tls) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                guard = node.attach("web-0", uid)
                await made.until(
                    lambda: node.authority.grant(guard.pod.uid) and node.authority.lease.serial > 1, "heard"
                )
                assert not may_open(node, uid) and is_careful(controller)
                made.api.admin.apply([{key: gone[key] for key in ("apiVersion", "kind")} | {
                    "metadata": {"name": RECORDS, "namespace": SYSTEM_NAMESPACE}}])  # fmt: skip
                await made.until(lambda: may_open(node, uid), "given")

    run(story, tmp_path)


def test_something_odd_happens_to_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # I3
    """An answer that is no object, say: it is tried again, and who leads next finds what it relies on."""

    async def story(made: Town, tls: Path) -> None:
        read, calls = record.Record._read, 0

        async def odd(self: record.Record) -> Content:
            nonlocal calls
            calls += 1
            if calls <= 2:  # before anybody leads, and when the first one does
                raise ValueError("told to")
            return await read(self)

        monkeypatch.setattr(record.Record, "_read", odd)
        async with serving(made, tls) as controller:
            await noted(made, controller)
            assert written(made) == '{"term":1}' and calls > 2

    run(story, tmp_path)


@pytest.mark.usefixtures("clocks_agree")
def test_the_record_cannot_be_written_for_a_life(tmp_path: Path) -> None:  # I1
    """Protection does not end for good by an object that somebody has deleted."""

    async def story(made: Town, tls: Path) -> None:
        uid = await made.pod("web-0")
        made.api.admin.delete("configmaps", RECORDS, SYSTEM_NAMESPACE)
        async with serving(made, tls, agents_life_s=SHORT_S) as controller:
            await leads(made, controller)
            async with running(link(made, controller, tls, token_of(made, agent_pod(made)))) as node:
                node.attach("web-0", uid)
                await made.until(lambda: may_open(node, uid), "given after a life")
                noting = controller.office._noting
                assert noting is not None and not noting.done()

    run(story, tmp_path)
