"""What a container has at a path is asked in its own root: its links lead nowhere else."""

import os
from pathlib import Path

import pytest

from hotswitch.kernel.inroot import read_in_root

pytestmark = pytest.mark.unit


def test_an_absolute_link_stays_in_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "run").mkdir(parents=True)
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")  # as most images have it
    (root / "run/file").write_text("theirs")
    assert read_in_root(root, Path("/var/run/file")) == "theirs"


def test_a_link_to_our_own_files_finds_nothing(tmp_path: Path) -> None:  # a confused deputy
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    secret.write_text("ours")
    (root / "absolute").symlink_to(secret)
    (root / "upwards").symlink_to("../secret")
    for name in ("absolute", "upwards"):
        with pytest.raises(FileNotFoundError):
            read_in_root(root, Path("/") / name)


def test_a_magic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    with pytest.raises(OSError):
        read_in_root(tmp_path, Path("/proc/self/root/etc/passwd"))


def test_what_is_missing_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no/such"):
        read_in_root(tmp_path, Path("/no/such"))


def test_a_pipe_or_a_directory_is_no_file(tmp_path: Path) -> None:  # nothing waits for it, and nothing is left open
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    (tmp_path / "directory").mkdir()
    before = set(os.listdir("/proc/self/fd"))
    try:
        for name in ("/pipe", "/directory"):
            with pytest.raises(OSError, match="not a regular file"):
                read_in_root(tmp_path, Path(name))
        assert set(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(writer)
