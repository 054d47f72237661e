"""An agent that is started again goes on with what its predecessor was told, and with no more than that (I1, I4); and
what one pod or one word does to its link."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from hotswitch.agent import link
from hotswitch.agent.dialer import LinkSettings
from hotswitch.agent.grants import STRANGERS_AT_MOST
from hotswitch.agent.kept import Memory, boot_s
from hotswitch.agent.link import ControllerAuthority
from hotswitch.api.agent.grants import policy_message
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.decide.grants import Refused
from hotswitch.model import Mode, Opinion, PodRef, PodUid, Policy

pytestmark = pytest.mark.unit

OLD, NEW, THIRD = PodUid("pod-of-an-earlier-leader"), PodUid("pod"), PodUid("third")


def settings(tmp_path: Path) -> LinkSettings:
    return LinkSettings(node="n", addresses=("127.0.0.1:1",), token=tmp_path / "token", kept=tmp_path / "granted")


def grant(uid: str, *, term: int, order_left_s: float | None = None) -> wire.ToAgent:
    told = wire.PodGrant(uid=uid, term=term, version=1, policy=policy_message(Policy(mode=Mode.AUTO)))
    if order_left_s is not None:
        told.override.CopyFrom(
            wire.Override(levels={"inbound": "capture"}, left_s=order_left_s, reason="night", by="ops")
        )
    return wire.ToAgent(grant=told)


def started(tmp_path: Path) -> ControllerAuthority:
    authority = ControllerAuthority(settings(tmp_path))
    authority.start()
    return authority


def hears(authority: ControllerAuthority, message: wire.ToAgent) -> None:
    authority._hear(message)


def test_a_leader_came_and_had_not_told_of_every_pod_yet(tmp_path: Path) -> None:  # I1, I6
    async def story() -> None:
        before = started(tmp_path)
        hears(before, grant(NEW, term=2))  # the order in the file is not that of the terms
        before.lease.term = 1
        hears(before, grant(OLD, term=1))
        before.lease.term = 2
        before.close()
        after = started(tmp_path)
        assert after.lease.term == 2
        for uid in (OLD, NEW):
            known = after.grant(uid)
            assert known is not None and known.policy.mode is Mode.AUTO
        after.close()

    asyncio.run(story())


def test_an_order_does_not_begin_anew(tmp_path: Path) -> None:  # I4
    async def story() -> None:
        before = started(tmp_path)
        hears(before, grant(NEW, term=1, order_left_s=600.0))
        before.grants.orders_end_boot_s[NEW] = ends_boot_s = boot_s() + 60.0  # nine minutes go by
        before.close()
        for _ in range(2):  # and the agent is started again, twice
            after = started(tmp_path)
            known = after.grant(NEW)
            assert known is not None and known.override is not None
            left_s = known.override.until_s - asyncio.get_running_loop().time()
            assert left_s <= ends_boot_s - boot_s() + 1.0
            after.close()

    asyncio.run(story())


def test_an_order_that_has_ended_is_none(tmp_path: Path) -> None:  # I4
    async def story() -> None:
        before = started(tmp_path)
        hears(before, grant(NEW, term=1, order_left_s=600.0))
        before.grants.orders_end_boot_s[NEW] = boot_s() - 300.0
        before.close()
        after = started(tmp_path)
        known = after.grant(NEW)
        assert known is not None and known.override is None and known.policy.mode is Mode.AUTO
        after.close()

    asyncio.run(story())


def test_one_pod_that_cannot_be_told_keeps_no_other_from_it(tmp_path: Path) -> None:
    async def story() -> None:
        authority, heard = started(tmp_path), list[str]()

        def fails() -> None:
            raise RuntimeError("this pod is odd")

        authority.attach(PodRef("odd", "shop", OLD), fails)
        authority.attach(PodRef("web", "shop", NEW), lambda: heard.append(NEW))
        hears(authority, grant(OLD, term=1))
        authority._tell_all()
        assert heard == [NEW] and authority.grant(OLD) is not None
        authority.close()

    asyncio.run(story())


def withdrawal(uid: str, *, term: int, version: int) -> wire.ToAgent:
    return wire.ToAgent(withdrawal=wire.Withdrawal(uid=uid, term=term, version=version, why="not looked after"))


def test_what_was_said_before_is_counted_and_changes_nothing(tmp_path: Path) -> None:  # I2, I6
    """Granted, withdrawn, and the grant played again; and a withdrawal of before a grant."""

    async def story() -> None:
        authority = started(tmp_path)
        authority.lease.term = 1
        hears(authority, grant(NEW, term=1))
        hears(authority, withdrawal(NEW, term=1, version=2))
        for _ in range(2):
            hears(authority, grant(NEW, term=1))
        known = authority.grant(NEW)
        assert known is not None and (known.policy.mode, known.version) == (Mode.OBSERVE, 2)
        hears(authority, grant(OLD, term=1))
        hears(authority, withdrawal(OLD, term=1, version=1))
        known = authority.grant(OLD)
        assert known is not None and known.policy.mode is Mode.AUTO
        assert authority.refused == {"replayed": 3}
        authority.close()

    asyncio.run(story())


def test_a_leader_that_was_is_heard_no_further(tmp_path: Path) -> None:  # I6
    async def story() -> None:
        authority = started(tmp_path)
        authority.lease.term = 2
        hears(authority, grant(NEW, term=2))
        for late in (grant(OLD, term=1), withdrawal(NEW, term=1, version=9)):
            with pytest.raises(Refused) as refused:
                hears(authority, late)
            assert refused.value.reason == "old-term"
        known = authority.grant(NEW)
        assert authority.grant(OLD) is None and known is not None and known.policy.mode is Mode.AUTO
        authority.close()

    asyncio.run(story())


@pytest.mark.parametrize("authorization", ["nonsense", "[]"])
def test_a_grant_that_cannot_be_read(tmp_path: Path, authorization: str) -> None:  # I2
    """It is counted and the link goes on; the pod keeps what it had; remembered, it keeps no agent from starting."""

    async def story() -> None:
        before = started(tmp_path)
        hears(before, grant(OLD, term=1))
        message = grant(NEW, term=1)
        message.grant.authorization.append(authorization)
        hears(before, message)
        assert before.refused == {"malformed": 1}
        hears(before, grant(THIRD, term=1))
        assert before.grant(NEW) is None and before.grant(OLD) is not None and before.grant(THIRD) is not None
        before.grants.raw[NEW] = message.grant.SerializeToString()
        before.close()
        after = started(tmp_path)
        assert after.grant(NEW) is None and after.grant(OLD) is not None
        after.close()

    asyncio.run(story())


def test_a_node_full_of_pods_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is one file: it is written once for them all, and not once for each."""

    async def story() -> None:
        authority, written = started(tmp_path), list[int]()
        write = authority._kept.write

        def counted(memory: Memory) -> None:
            written.append(len(memory.grants))
            write(memory)

        monkeypatch.setattr(authority._kept, "write", counted)
        for at in range(250):
            hears(authority, grant(f"pod-{at}", term=1))
        assert not written
        async with asyncio.timeout(30.0):
            while not written:
                await asyncio.sleep(0.01)
        assert written == [250]
        hears(authority, wire.ToAgent(withdrawal=wire.Withdrawal(uid="pod-0", term=1, version=2)))
        authority.close()
        assert written == [250, 249]

    asyncio.run(story())


def test_a_lease_is_kept_before_anything_is_said_of_it(tmp_path: Path) -> None:  # I3
    """Others may be given what it gives up, so that no later process may go on with more."""

    async def story() -> None:
        authority = started(tmp_path)
        hears(authority, grant(NEW, term=1))
        for serial, places in enumerate(({"mesh": 3}, {"mesh": 1}), start=1):
            number = authority._beat().number
            told = wire.Allotment(term=1, serial=serial, beat=number, life_s=600.0, places=places)
            hears(authority, wire.ToAgent(allotment=told))
            memory = msgspec.msgpack.decode((tmp_path / "granted").read_bytes(), type=Memory)
            assert memory.places == places and list(memory.grants) == [NEW]
        authority.close()

    asyncio.run(story())


@pytest.mark.parametrize("number", [1, 3])
def test_an_answer_to_another_question(tmp_path: Path, number: int) -> None:  # I2
    async def story() -> None:
        authority, told = started(tmp_path), list[str]()
        authority.attach(PodRef("web", "shop", NEW), lambda: told.append(NEW))
        assert not authority.ask(NEW, 0.25), "there is no link"
        welcome = wire.Welcome(version=1, term=1, answers=True)
        authority._welcome(wire.ToAgent(welcome=welcome))
        assert authority.ask(NEW, 0.25) and authority.ask(NEW, 0.25)
        hears(authority, wire.ToAgent(opinion=wire.Opinion(uid=NEW, number=number, asked=3, silent=3)))
        assert authority.opinion(NEW) is None and not told
        hears(authority, wire.ToAgent(opinion=wire.Opinion(uid=NEW, number=2, asked=3, silent=3)))
        assert authority.opinion(NEW) == Opinion(3, 0, 3) and told == [NEW]
        authority.connected.clear()
        assert not authority.ask(NEW, 0.25) and authority.opinion(NEW) is None
        authority.close()

    asyncio.run(story())


def test_an_older_controller_is_not_asked(tmp_path: Path) -> None:
    async def story() -> None:
        authority = started(tmp_path)
        authority._welcome(wire.ToAgent(welcome=wire.Welcome(version=1, term=1)))
        assert not authority.ask(NEW, 0.25)
        authority.close()

    asyncio.run(story())


def test_a_controller_ends_each_link_for_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try costs it a question to the API server."""
    pauses: list[float] = []

    async def welcomed(address: str) -> bool:
        return True

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    async def story() -> None:
        authority = ControllerAuthority(settings(tmp_path))
        monkeypatch.setattr(authority, "_spoken", welcomed)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await authority.run()

    asyncio.run(story())
    assert pauses[0] <= link.FIRST_PAUSE_S and pauses[-1] >= 10.0


def test_grants_of_pods_that_are_gone_are_not_kept_for_ever(tmp_path: Path) -> None:
    async def story() -> None:
        authority = started(tmp_path)
        authority.attach(PodRef("web", "shop", NEW), lambda: None)
        authority.grants.take(grant(NEW, term=1).grant)
        for at in range(STRANGERS_AT_MOST + 50):
            authority.grants.take(grant(f"pod-{at}", term=1).grant)
        assert authority.grant(NEW) is not None and authority.grant(PodUid("pod-0")) is None
        assert authority.grant(PodUid(f"pod-{STRANGERS_AT_MOST + 49}")) is not None
        assert len(authority.grants) == len(authority.grants.raw) == STRANGERS_AT_MOST + 1
        authority.close()

    asyncio.run(story())
