"""What a container has at a path is asked in its own root: its links lead nowhere else."""

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
