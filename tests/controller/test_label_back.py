"""Capture is back, and the label cannot go back yet: what is done is done, and is told as what it was (S4.5, I8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotswitch.act.tlsmode import Meshed
from hotswitch.controller.pen import Pen
from hotswitch.decide.codes import Code
from hotswitch.decide.preflight import Preflight
from hotswitch.model import Level, Mtls
from tests.controller.world import CLOSED, POLICY, leading, run, server_error

pytestmark = pytest.mark.k8s


def test_api_server_fails_as_the_label_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was restored. It has not run out, which is what people would be told of an opening that nobody has closed."""

    def meshed(pod: Any, label: str | None, generation: int) -> Meshed:
        nobody: Any = None  # a pod that had no label: nobody has to be told
        return Meshed(
            cluster=nobody, clients=nobody, pod=pod.ref, addresses=frozenset(), label_before=label,
            generation=generation,
        )  # fmt: skip

    async def story() -> None:
        policy = replace(POLICY, inbound=(Level.DIRECT,))
        preflight = Preflight(findings=(), mtls=Mtls.PERMISSIVE, flip=True)
        world, uid = leading(policy=policy, preflight=preflight, meshed=meshed)
        world.api.change(uid, labels={})
        world.kill(uid)
        await world.turn(6)
        assert world.levels(uid) == (Level.DIRECT, Level.DIRECT)
        assert world.codes().count(Code.OPENED) == 1, "outbound first, then both: one act"
        known = Pen.turn_to_newest

        async def failing(_: Pen) -> None:
            raise server_error()

        monkeypatch.setattr(Pen, "turn_to_newest", failing)
        world.heal(uid)
        await world.turn(4)
        assert world.levels(uid) == CLOSED
        monkeypatch.setattr(Pen, "turn_to_newest", known)
        await world.turn(4)
        status = world.api.status(uid)
        assert status is not None and status.tls_mode_before is None and not status.under_way
        codes = world.codes()
        assert codes.count(Code.RESTORED) == 1 and Code.EXPIRED not in codes, codes

    run(story)
