"""The child that encodes: it dies, it is not needed any more, it is asked what it cannot answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hotswitch.model import Mtls
from hotswitch.rescue.drafter import Drafter, DraftFailed
from hotswitch.rescue.template import Messages, Shape

pytestmark = pytest.mark.unit

MODULE = "hotswitch.rescue.drafting"


@pytest.fixture
def drafter() -> Iterator[Drafter]:
    drafter = Drafter(MODULE)
    yield drafter
    drafter.close()


def shape(length: int = 6) -> Shape:
    return Shape(length, 12, True, False, ("cluster.local",), ((None, Mtls.STRICT),), (), ())


def child(drafter: Drafter) -> subprocess.Popen[bytes]:
    assert drafter._child is not None
    return drafter._child


def test_child_is_killed(drafter: Drafter) -> None:
    first = drafter.ask(shape())
    killed = child(drafter)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=10)
    with pytest.raises(DraftFailed, match="ended without an answer"):
        drafter.ask(shape())
    assert drafter.ask(shape()) == first, "by another child"


def test_nobody_asks_any_more() -> None:
    drafter = Drafter(MODULE, linger_s=0.05)
    drafter.ask(shape())
    leave = drafter._leave
    assert leave is not None
    leave.join(timeout=10)
    assert drafter._child is None, "it has ended, and was waited for"
    assert isinstance(drafter.ask(shape(7)), Messages)
    drafter.close()


def test_question_without_an_answer(drafter: Drafter) -> None:
    with pytest.raises(AttributeError):
        drafter.ask("no shape")
    assert isinstance(drafter.ask(shape()), Messages), "the child lives on"


def test_many_ask_at_once(drafter: Drafter) -> None:
    with ThreadPoolExecutor(4) as pool:
        drafts = list(pool.map(drafter.ask, [shape(3 + n) for n in range(8)]))
    names = [drafts[n].clusters[0][0].partition("|")[0] for n in range(8)]  # type: ignore[attr-defined]
    assert [len(name) for name in names] == [3 + n for n in range(8)]


def test_agent_does_not_load_what_the_child_does() -> None:
    code = "import sys, hotswitch.agent.main; print(*sys.modules)"
    argv = (sys.executable, "-W", "ignore", "-c", code)
    modules = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert "hotswitch.rescue.service" in modules
    assert {"hotswitch.rescue.listeners", "hotswitch.rescue.clusters", "hotswitch.rescue.rbac"}.isdisjoint(modules)
