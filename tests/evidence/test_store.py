"""Evidence is bounded, private, and the oldest goes first (S4.7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotswitch.evidence import local
from hotswitch.evidence.store import PER_POD_AT_MOST, Store, write
from hotswitch.evidence.writer import write_apart
from hotswitch.model import PodRef, PodUid

pytestmark = pytest.mark.unit


def pod(number: int) -> PodRef:
    return PodRef(f"web-{number}", "shop", PodUid(f"uid-{number}"))


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    store = Store(tmp_path / "evidence")
    directory = store.begin(pod(0), "dead", 1.0)
    write(directory, "log.txt", b"line")
    assert [os.stat(path).st_mode & 0o777 for path in (store.root, directory, directory / "log.txt")] == [
        0o700,
        0o700,
        0o600,
    ]


def test_the_oldest_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, at_most=3)
    for number in range(5):
        store.begin(pod(number), "dead", float(number))
    assert [each.pod for each in store.kept()] == ["shop/web-2", "shop/web-3", "shop/web-4"]


def test_a_pod_that_flaps_does_not_push_the_others_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(pod(1), "hung", 0.0)
    for number in range(30):
        store.begin(pod(0), "dead", float(number + 1))
    assert len(store.kept("shop/web-0")) == PER_POD_AT_MOST
    assert [each.fault for each in store.kept("shop/web-1")] == ["hung"]


def test_too_many_bytes_go_too(tmp_path: Path) -> None:
    store = Store(tmp_path, bytes_at_most=1000)
    for number in range(3):
        write(store.begin(pod(number), "dead", float(number)), "stats.txt", b"x" * 900)
    assert [each.pod for each in store.kept()] == ["shop/web-1", "shop/web-2"]


def test_only_what_was_kept_can_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "evidence")
    (tmp_path / "other").write_text("not yours")
    directory = store.begin(pod(0), "dead", 1.0)
    write(directory, "log.txt", b"line")
    assert store.read(directory.name, "log.txt") == "line"
    for name, file in ((directory.name, "../../other"), ("..", "other"), (directory.name, "none")):
        with pytest.raises(KeyError, match="there is no"):
            store.read(name, file)


def test_a_message_that_is_a_link_or_a_fifo_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root's own")
    (tmp_path / "message").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo")
    assert local.message(tmp_path / "message") == ""
    assert local.message(tmp_path / "fifo") == ""
    assert local.message(tmp_path / "none") == ""


def test_the_last_lines_of_the_newest_logs(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.log").write_text(f"first\npassword=hunter2\nlast of {number}\n")
        os.utime(tmp_path / f"{number}.log", (number, number))
    told = local.log_tails([str(tmp_path / "*.log")], 30)
    assert [f"last of {number}" in told for number in range(6)] == [False, False, True, True, True, True]
    assert "first" not in told


def test_it_is_redacted_before_it_is_written(tmp_path: Path) -> None:
    write_apart(tmp_path, {"log.txt": "password=hunter2\n", "certs.json": '{"token": "hunter2"}'})
    assert (tmp_path / "log.txt").read_text() == "password=[redacted]\n"
    assert (tmp_path / "certs.json").read_text() == '{\n "token": "[redacted]"\n}'


def test_a_failure_to_write_tells_nothing_of_what_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="exit code 1") as failure:
        write_apart(tmp_path / "gone", {"log.txt": "password=hunter2"})
    assert "hunter2" not in str(failure.value)
