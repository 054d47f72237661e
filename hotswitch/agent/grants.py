"""The grants that an agent holds, as it acts on them and as it was told them: the newest of each pod (S4.2, I2, I6).

A grant stays until a newer one is told, whoever leads; a person's order in it runs down, also while the agent is not
running (I4). Of pods that are not guarded here (any longer) a bounded number is remembered: pods come and go without
end, and none is guarded yet when an agent starts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Mapping
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from hotswitch.agent.authority import Grant
from hotswitch.agent.kept import boot_s
from hotswitch.api.agent.checked import Malformed
from hotswitch.api.agent.grants import drill_of, override_of, policy_of
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.decide.grants import Refused
from hotswitch.model import Mode, PodUid, Policy

STRANGERS_AT_MOST = 1000


class Grants:
    """`guarded`: pods whose grants are never forgotten. `raw`, `orders_end_boot_s`: as kept.Memory has them."""

    def __init__(self, guarded: Container[PodUid]) -> None:
        self._guarded = guarded
        self._grants: dict[PodUid, tuple[tuple[int, int], Grant]] = {}
        self.raw: dict[str, bytes] = {}
        self.orders_end_boot_s: dict[str, float] = {}
        self._drills_heard: set[str] = set()  # that were ordered from the process before this one

    def __len__(self) -> int:
        return len(self._grants)

    def grant(self, uid: PodUid) -> Grant | None:
        known = self._grants.get(uid)
        return known[1] if known is not None else None

    def take_up(self, raw: Mapping[str, bytes], orders_end_boot_s: Mapping[str, float]) -> None:
        """What a predecessor was told, by whatever leader. What cannot be read is none."""
        for uid, told in raw.items():
            with contextlib.suppress(DecodeError, Malformed):
                grant = _aged(wire.PodGrant.FromString(told), orders_end_boot_s.get(uid))
                self._drills_heard |= {grant.drill.id} if grant.HasField("drill") else set()
                self.take(grant)

    def take(self, message: wire.PodGrant) -> PodUid:
        """Raises Malformed, and has changed nothing then."""
        uid, now_s = PodUid(message.uid), asyncio.get_running_loop().time()
        grant = Grant(
            version=message.version,
            policy=policy_of(message.policy),
            authorization=tuple(_authorization(each) for each in message.authorization),
            spiffe_id=message.spiffe_id,
            trust_domains=tuple(message.trust_domains),
            override=override_of(message.override, now_s) if message.HasField("override") else None,
            drill=drill_of(message),
            drill_was_heard=message.drill.id in self._drills_heard,
        )
        self.raw[uid] = message.SerializeToString()
        self.orders_end_boot_s.pop(uid, None)
        if message.HasField("override"):
            self.orders_end_boot_s[uid] = boot_s() + message.override.left_s
        self._hold(uid, (message.term, message.version), grant)
        return uid

    def withdraw(self, message: wire.Withdrawal) -> PodUid:
        """Observed only: what is open is closed."""
        uid = PodUid(message.uid)
        self.raw.pop(uid, None)
        self.orders_end_boot_s.pop(uid, None)
        observed = Grant(version=message.version, policy=Policy(mode=Mode.OBSERVE))
        self._hold(uid, (message.term, message.version), observed)
        return uid

    def must_be_newer(self, message: wire.PodGrant | wire.Withdrawal) -> None:
        """Raises Refused for what was said before something else (I6)."""
        known = self._grants.get(PodUid(message.uid))
        if known is not None and (message.term, message.version) <= known[0]:
            what = f"grant {message.term}/{message.version} of {message.uid}"
            raise Refused("replayed", f"{what} is not newer than {known[0]}")

    def forget_terms(self) -> None:
        """Whatever is told next is newer."""
        self._grants = {uid: ((0, 0), grant) for uid, (_, grant) in self._grants.items()}

    def _hold(self, uid: PodUid, order: tuple[int, int], grant: Grant) -> None:
        self._grants.pop(uid, None)  # the newest last
        self._grants[uid] = order, grant
        strangers = [each for each in self._grants if each not in self._guarded]
        for each in strangers[:-STRANGERS_AT_MOST]:
            del self._grants[each]
            self.raw.pop(each, None)
            self.orders_end_boot_s.pop(each, None)


def _aged(grant: wire.PodGrant, order_ends_boot_s: float | None) -> wire.PodGrant:
    """As it is now: a person's order has become shorter since it was told, or has ended (I4)."""
    if grant.HasField("override"):
        grant.override.left_s = (order_ends_boot_s or 0.0) - boot_s()
        if grant.override.left_s <= 0:
            grant.ClearField("override")
    return grant


def _authorization(text: str) -> dict[str, Any]:
    """Raises Malformed."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as failure:
        raise Malformed(f"authorization: {text[:40]!r}: {failure}") from failure
