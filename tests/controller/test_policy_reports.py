"""The author of a policy hears on the policy what became of it, whatever the API server does meanwhile (S4.6).

Whatever ends kopf, which watches policies too, ends nothing else.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from collections.abc import Callable
from typing import Any

import pytest

from hotswitch.controller.operator import run
from hotswitch.sandbox.kubeapi.faults import Fault, Faults
from tests.controller.town import Town, town

pytestmark = pytest.mark.k8s
PLURAL = "hotswitchpolicies"


def policy(made: Town) -> dict[str, Any]:
    found: dict[str, Any] = made.api.admin.get(PLURAL, "mesh", "istio-system")
    return found


def is_said(made: Town) -> bool:
    """Of the policy as it is now."""
    found = policy(made)
    conditions = found.get("status", {}).get("conditions", [])
    return [each["observedGeneration"] for each in conditions] == [found["metadata"]["generation"]]


def change(made: Town, expiry: str) -> None:
    patch = {"spec": {"timings": {**policy(made)["spec"]["timings"], "expiry": expiry}}}
    made.api.admin.patch(PLURAL, "mesh", patch, "istio-system")


WATCHES: dict[str, Callable[[Faults], Fault]] = {
    **{
        str(code): lambda faults, code=code: faults.fail(code, verb="watch", resource=PLURAL, lasts_s=0.5)  # type: ignore[misc]
        for code in (403, 404, 410, 429, 500)
    },
    "garbled": lambda faults: faults.garble(verb="watch", resource=PLURAL, lasts_s=0.5),
    "cut": lambda faults: faults.cut(verb="watch", resource=PLURAL, lasts_s=0.5),
}


@pytest.mark.parametrize("fail", WATCHES.values(), ids=WATCHES)
def test_watch_of_policies_fails(fail: Callable[[Faults], Fault], caplog: pytest.LogCaptureFixture) -> None:
    """Of kopf's and of ours: the process goes on, and the next change is heard of."""

    async def story() -> None:
        async with town() as made:
            running = asyncio.create_task(run(made.settings()))
            await made.until(lambda: is_said(made) or running.done(), "said")
            fault = fail(made.api.faults)
            made.api.faults.cut_watches(PLURAL)
            await made.until(lambda: fault.struck and fault.is_over, "it has struck, and is over")
            change(made, "61s")
            await made.until(lambda: is_said(made) or running.done(), "said of what has changed")
            assert not running.done() and is_said(made)
            os.kill(os.getpid(), signal.SIGTERM)
            await running
        assert not [each for each in caplog.records if each.exc_info], caplog.text

    asyncio.run(story())


def test_report_is_not_taken_at_once() -> None:
    async def story() -> None:
        async with town() as made, made.controller() as controller:
            faults = [
                made.api.faults.fail(500, verb="patch", resource=f"{PLURAL}/status", times=1),
                made.api.faults.cut(verb="patch", resource=f"{PLURAL}/status", times=1),
                made.api.faults.fail(409, verb="patch", resource=f"{PLURAL}/status", times=1),
            ]
            await made.until(lambda: is_said(made), "said all the same")
            assert all(each.struck for each in faults) and controller.elector.leading

    asyncio.run(story())


def test_user_has_no_name(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As in the image: a uid that no file of users knows."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)

    async def story() -> None:
        async with town() as made:
            running = asyncio.create_task(run(made.settings()))
            await made.until(lambda: is_said(made) or running.done(), "said")
            os.kill(os.getpid(), signal.SIGTERM)
            await running
        assert "kopf ended" not in caplog.text

    asyncio.run(story())
