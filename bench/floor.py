"""What the kernel alone takes for one switch of the gate: a message built beforehand is sent, and its answer received.

Nothing of ours is in it but two system calls, so no agent can be quicker on this machine. It is measured twice: one
switch right after another, which finds all it needs in the processor's caches; and as in an agent that had nothing to
do: after a rest, and after as much deciding as goes before a switch.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from hotswitch.agent.rehearsal import if_dead
from hotswitch.capture import gate_message
from hotswitch.capture.gate import Gate
from hotswitch.decide.engine import step
from hotswitch.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from hotswitch.model import (
    Capabilities,
    Direction,
    Facts,
    Generation,
    Level,
    Mode,
    Opening,
    PodRef,
    PodUid,
    Policy,
    Standing,
    View,
)

REST_S = 0.05
DECIDE_S = 0.001
ANSWER_BYTES = 4096


class Floor:
    """Of one pod's gate, whose table is in place; unfenced, so that nothing but the write itself is asked."""

    def __init__(self, gate: Gate, openings: Mapping[Direction, Opening]) -> None:
        self._netlink = NetlinkSocket(NETLINK_NETFILTER, gate.netns)
        self._socket = socket.socket(fileno=os.dup(self._netlink.fileno()))
        self._open, self._closed = (self._message(gate, each) for each in (openings, {}))

    @staticmethod
    def _message(gate: Gate, openings: Mapping[Direction, Opening]) -> bytes:
        template = gate_message.template(gate.scope, gate_message.shape_of(openings))
        comment = gate_message.reason_of(Generation(1), "bench")
        return gate_message.filled(template, generation=None, expiry_s=60, comment=comment)

    def open(self) -> None:
        self._socket.send(self._open)
        self._socket.recv(ANSWER_BYTES)

    def shut(self) -> None:
        self._socket.send(self._closed)
        self._socket.recv(ANSWER_BYTES)

    def close(self) -> None:
        self._socket.close()
        self._netlink.close()


def as_in_an_agent() -> None:
    """Rest, and then decide for DECIDE_S."""
    time.sleep(REST_S)
    view = _dead_proxy()
    until_s = time.perf_counter() + DECIDE_S
    while time.perf_counter() < until_s:
        step(view)


def _dead_proxy() -> View:
    now_s = time.monotonic()
    policy = Policy(mode=Mode.AUTO, inbound=(Level.RESCUE, Level.HOLD))
    facts = if_dead(Facts(at_s=now_s, app_ports=frozenset({8080}), ever_ready=True))
    pod = PodRef("web-0", "shop", PodUid("uid"), "deploy/web")
    return View(now_s, pod, policy, facts, Standing(), Capabilities(rescue=True))
