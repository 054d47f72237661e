"""Pods with sidecars, one without, a client and an agent; and who serves a request at this moment."""

from __future__ import annotations

from dataclasses import dataclass

from hotswitch.model import RESCUE_OUTBOUND
from hotswitch.sandbox.ask import Answer
from hotswitch.sandbox.clients import Client, LoadRun
from hotswitch.sandbox.outcome import Kind, Row
from hotswitch.sandbox.pod import Pod
from tests.agent.keeper import Keeper, gate_text, redirected, rules

LOAD_AT_MOST_S = 120.0
TIMEOUT_S = 60.0  # a busy machine answers late; what a switch has lost is never answered


@dataclass(frozen=True)
class Town:
    """`outside` has no sidecar. `rate`: what this machine carries."""

    pods: dict[str, Pod]
    outside: Pod
    client: Client
    keeper: Keeper
    rate: float

    def load(self, way: str, pod: Pod, family: str, rate: float, connections: int = 0) -> LoadRun:
        """Outbound: the app's own calls, of its user and inside its namespace. `connections`: kept ones (0: fresh)."""
        where, netns = (pod, None) if way == "inbound" else (self.outside, pod.netns)
        aim = (address(where, family), 8080)
        more = {"seconds": LOAD_AT_MOST_S, "timeout_s": TIMEOUT_S, "connections": connections}
        return self.client.load(aim, netns=netns, rate=rate, **more)

    async def server(self, way: str, pod: Pod, family: str) -> str:
        """Who stands in the way of one request: "proxy", "rescue" or "direct"."""
        rescued = redirected(pod, RESCUE_OUTBOUND, family)
        ask, where = (self.client.ask, pod) if way == "inbound" else (pod.ask, self.outside)
        answer = await ask(address(where, family), 8080, timeout_s=TIMEOUT_S)
        assert answer.status == 200
        if answer.via:
            assert answer.via == {"inbound": "sidecar", "outbound": "sidecar-outbound"}[way]
            return "proxy"
        if way == "inbound":
            return {"127.0.0.6": "rescue", "::6": "rescue", address(self.client, family): "direct"}[peer(answer)]
        return "rescue" if redirected(pod, RESCUE_OUTBOUND, family) > rescued else "direct"


def address(where: Pod | Client, family: str) -> str:
    return where.place.addresses((family,))[0]


def peer(answer: Answer) -> str:
    peer: str = answer.json()["peer"]
    return peer.rpartition(":")[0].strip("[]")


def kinds(rows: tuple[Row, ...], first_s: float, last_s: float) -> set[Kind]:
    """What became of the requests that began and ended between the two instants."""
    return {row.kind for row in rows if first_s <= row.start_s and row.end_s <= last_s}


def nothing_of_ours_is_left(pod: Pod, closed: str, original: str) -> None:  # I4
    now = rules(pod)
    assert gate_text(pod) == closed
    assert now.openings == ()
    assert now.fingerprint == original
