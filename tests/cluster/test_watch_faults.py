"""What becomes of a watch when the API server, or the way to it, fails in the middle (S4.2a)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.pods import Pod
from hotswitch.cluster.watch import Change, Watcher
from tests.cluster.scripted import Answer, Scripted, bookmark, event, listed, pod, said, scripted, status, watched

pytestmark = pytest.mark.k8s
PATIENCE_S = 30.0
Told = list[str]


def words(change: Change[Pod]) -> str:
    """As in "ADDED a@3"."""
    metadata = change.object.metadata
    return f"{change.type} {metadata.name}@{metadata.resource_version}"


class Follower:
    """A watcher, what it was told, and what it said."""

    def __init__(self, watcher_of: Callable[..., Watcher[Pod]]) -> None:
        self.told: Told = []
        self.problems: list[str] = []
        self.moved = asyncio.Condition()
        self.watcher = watcher_of(on_event=self._on_event, on_problem=self._on_problem)

    def _on_event(self, change: Change[Pod]) -> None:
        self.told.append(words(change))
        if change.object.metadata.name == "poison":
            raise RuntimeError("the worker of this pod is broken")

    def _on_problem(self, problem: str) -> None:
        self.problems.append(problem)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                await asyncio.sleep(0.01)


def follow(
    tmp_path: Path, script: Sequence[Answer], done: Callable[[Follower, Scripted], bool], **options: Any
) -> tuple[Follower, Scripted]:
    """Run the script until `done`."""

    async def run() -> tuple[Follower, Scripted]:
        async with scripted(tmp_path, *script) as (cluster, server):
            follower = Follower(lambda **calls: Watcher(cluster, PODS, Pod, **calls, **options))
            task = asyncio.create_task(follower.watcher.run())
            try:
                await follower.until(lambda: done(follower, server))
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            return follower, server

    return asyncio.run(run())


def told(*what: str) -> Callable[[Follower, Scripted], bool]:
    return lambda follower, _: len(follower.told) >= len(what)


def check(tmp_path: Path, script: Sequence[Answer], *what: str, **options: Any) -> tuple[Follower, Scripted]:
    follower, server = follow(tmp_path, script, told(*what), **options)
    assert follower.told == list(what)
    return follower, server


def test_a_list_and_what_comes_after_it(tmp_path: Path) -> None:
    script = [
        listed(5, pod("a", 3), pod("b", 4)),
        watched(
            event("MODIFIED", pod("a", 6)), event("DELETED", pod("b", 7)), event("ADDED", pod("c", 8)), then="hold"
        ),
    ]
    follower, server = check(
        tmp_path, script, "ADDED a@3", "ADDED b@4", "MODIFIED a@6", "DELETED b@7", "ADDED c@8", label_selector="x=y"
    )
    assert set(follower.watcher.store) == {("n", "a"), ("n", "c")}
    assert server.queries("resourceVersion") == [None, "5"]
    assert server.queries("labelSelector") == ["x=y", "x=y"], "the API server selects"


def test_pages(tmp_path: Path) -> None:
    script = [listed(5, pod("a", 3), next_page="p2"), listed(5, pod("b", 4)), watched(then="hold")]
    _, server = check(tmp_path, script, "ADDED a@3", "ADDED b@4")
    assert server.queries("continue")[:2] == [None, "p2"]


def test_a_page_has_expired(tmp_path: Path) -> None:
    """Then the list begins anew, and nothing is told twice."""
    script = [
        listed(5, pod("a", 3), next_page="p2"), said(status(410, "Expired"), 410),
        listed(7, pod("a", 3), pod("b", 6)), watched(then="hold"),
    ]  # fmt: skip
    check(tmp_path, script, "ADDED a@3", "ADDED b@6")


@pytest.mark.parametrize("how", ["in the stream", "as the answer"])
def test_too_old_to_go_on_from(tmp_path: Path, how: str) -> None:
    """410: what vanished, what changed and what came meanwhile is told; what stayed is not."""
    gone = status(410, "Expired")
    script = [
        listed(5, pod("stays", 1), pod("changes", 2), pod("goes", 3)),
        watched(event("ERROR", gone)) if how == "in the stream" else said(gone, 410),
        listed(20, pod("stays", 1), pod("changes", 18), pod("comes", 19)),
        watched(then="hold"),
    ]
    _, server = check(
        tmp_path, script,
        "ADDED stays@1", "ADDED changes@2", "ADDED goes@3", "MODIFIED changes@18", "ADDED comes@19", "DELETED goes@3",
    )  # fmt: skip
    assert server.queries("resourceVersion")[:3] == [None, "5", None]


def test_another_pod_of_the_same_name_while_we_were_away(tmp_path: Path) -> None:
    """A StatefulSet's pod: the old one's end is told before the new one's start (I6)."""
    script = [
        listed(5, pod("db-0", 1, uid="old")), watched(event("ERROR", status(410, "Expired"))),
        listed(9, pod("db-0", 8, uid="new")), watched(then="hold"),
    ]  # fmt: skip
    check(tmp_path, script, "ADDED db-0@1", "DELETED db-0@1", "ADDED db-0@8")


def test_the_connection_is_cut(tmp_path: Path) -> None:
    """Taken up after the last event or bookmark; a half event is none."""
    half = event("MODIFIED", pod("a", 9))[:30]
    script = [
        listed(5, pod("a", 3)),
        watched(event("MODIFIED", pod("a", 6)), half, then="cut"),
        watched(bookmark(12), then="cut"),
        watched(event("MODIFIED", pod("a", 13)), then="hold"),
    ]
    _, server = check(tmp_path, script, "ADDED a@3", "MODIFIED a@6", "MODIFIED a@13")
    assert server.queries("resourceVersion") == [None, "5", "6", "12"]


def test_events_cut_into_pieces_anywhere(tmp_path: Path) -> None:
    whole = event("MODIFIED", pod("a", 6)) + event("MODIFIED", pod("a", 7))
    pieces = [bytes([byte]) for byte in whole]
    check(
        tmp_path, [listed(5, pod("a", 3)), watched(*pieces, then="hold")], "ADDED a@3", "MODIFIED a@6", "MODIFIED a@7"
    )


def test_the_api_server_is_ill_for_a_while(tmp_path: Path) -> None:
    script = [
        said(status(500, "InternalError"), 500), said(b"<html>bad gateway</html>", 502), listed(5, pod("a", 3)),
        said(status(429, "TooManyRequests"), 429), watched(event("MODIFIED", pod("a", 6)), then="hold"),
    ]  # fmt: skip
    follower, server = check(tmp_path, script, "ADDED a@3", "MODIFIED a@6")
    assert server.queries("resourceVersion") == [None, None, None, "5", "5"], "what is known is not listed again"
    assert follower.watcher.counters.failures == len(follower.problems) == 3
    assert "502" in follower.problems[1]


def test_one_pod_cannot_be_decoded(tmp_path: Path) -> None:
    """It is named, what was known of it stays, and everybody else is still watched."""
    strange: dict[str, Any] = {"status": {"podIPs": "not a list"}}
    script = [
        listed(5, pod("a", 3), pod("b", 4)),
        watched(event("MODIFIED", pod("a", 6, **strange)), event("MODIFIED", pod("b", 7)), then="cut"),
        watched(event("MODIFIED", pod("a", 8)), then="hold"),
    ]
    follower, server = check(tmp_path, script, "ADDED a@3", "ADDED b@4", "MODIFIED b@7", "MODIFIED a@8")
    assert follower.watcher.counters.unreadable == 1
    assert follower.problems[0].startswith("n/a cannot be read: ") and "podIPs" in follower.problems[0]
    assert server.queries("resourceVersion") == [None, "5", "7"], "no list because of it"


def test_what_cannot_be_decoded_has_not_vanished(tmp_path: Path) -> None:
    strange: dict[str, Any] = {"status": {"podIPs": "not a list"}}
    script = [
        listed(5, pod("a", 3), pod("b", 4)), watched(event("ERROR", status(410, "Expired"))),
        listed(9, pod("a", 8, **strange), pod("b", 9)),
        watched(event("DELETED", pod("a", 10, **strange)), then="hold"),
    ]  # fmt: skip
    follower, _ = check(tmp_path, script, "ADDED a@3", "ADDED b@4", "MODIFIED b@9", "DELETED a@3")
    assert not follower.watcher.unreadable


@pytest.mark.parametrize(
    "garbage", [b"garbage\n", b"[]\n", b'{"type":"ADDED","object":{}}\n', b'{"type":"BOOKMARK"}\n']
)
def test_garbage_in_the_stream(tmp_path: Path, garbage: bytes) -> None:
    """It may have been anything, so everything is listed again."""
    script = [
        listed(5, pod("a", 3)), watched(garbage, event("MODIFIED", pod("a", 6)), then="hold"),
        listed(9, pod("a", 8)), watched(then="hold"),
    ]  # fmt: skip
    check(tmp_path, script, "ADDED a@3", "MODIFIED a@8")


@pytest.mark.parametrize("garbage", [b"", b"{}", b'{"metadata":{},"items":[]}', b'{"metadata":{"resourceVersion":"1"'])
def test_garbage_for_a_list(tmp_path: Path, garbage: bytes) -> None:
    check(tmp_path, [said(garbage), listed(5, pod("a", 3)), watched(then="hold")], "ADDED a@3")


def test_a_watch_that_only_seems_to_live(tmp_path: Path) -> None:
    """Neither event nor bookmark: it is cut, and what it did not tell is told by the next one."""
    script = [
        listed(5, pod("a", 3)), watched(then="hold"), watched(then="hold"),
        watched(event("MODIFIED", pod("a", 8)), then="hold"),
    ]  # fmt: skip
    follower, server = check(tmp_path, script, "ADDED a@3", "MODIFIED a@8", silence_s=0.2)
    assert server.queries("resourceVersion")[:4] == [None, "5", "5", "5"]
    assert follower.watcher.counters.silences == 2
    assert not follower.problems, "where nothing happens nothing is told"


def test_age_tells_of_silence(tmp_path: Path) -> None:
    ages: list[float] = []

    def long_enough(follower: Follower, server: Scripted) -> bool:
        ages.append(follower.watcher.age_s)
        return follower.watcher.age_s > 0.3

    follow(tmp_path, [listed(5), watched(then="hold")], long_enough)
    assert len(ages) > 1 and ages[-2] < 0.3 < ages[-1]


def test_a_worker_that_fails_ends_no_watch(tmp_path: Path) -> None:
    script = [listed(5, pod("poison", 3), pod("b", 4)), watched(event("MODIFIED", pod("poison", 6)), then="hold")]
    follower, _ = check(tmp_path, script, "ADDED poison@3", "ADDED b@4", "MODIFIED poison@6")
    assert follower.watcher.counters.failed_callbacks == 2


def test_an_api_server_that_ends_every_watch_at_once_is_not_stormed(tmp_path: Path) -> None:
    def enough(_: Follower, server: Scripted) -> bool:
        return len(server.asked) >= 5

    script = [listed(5), *(watched() for _ in range(10))]
    follower, _ = follow(tmp_path, script, enough)
    assert follower.watcher.counters.failures >= 3, "each of them counts, and is waited after"


def test_synced_is_said_once(tmp_path: Path) -> None:
    said_so: list[int] = []
    script = [listed(5, pod("a", 3)), said(status(410, "Gone"), 410), listed(6, pod("a", 4)), watched(then="hold")]
    follower, _ = check(tmp_path, script, "ADDED a@3", "MODIFIED a@4", on_synced=lambda: said_so.append(1))
    assert said_so == [1] and follower.watcher.synced.is_set()
