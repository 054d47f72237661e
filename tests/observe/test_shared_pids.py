"""Which process is this pod's proxy, among all that are to be seen (S4.2a)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hotswitch.kernel.netns import inside
from hotswitch.observe.shared_pids import SharedPids

pytestmark = pytest.mark.netns

PROXY = 1337


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        for program in ("envoy", "other"):
            (Path(name) / program).symlink_to("/bin/sleep")
        yield Path(name)


@contextmanager
def running(program: Path, uid: int = PROXY, gid: int = PROXY) -> Iterator[int]:
    ids = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    with subprocess.Popen(("setpriv", *ids, "/bin/sh", "-c", f"echo; exec {program} 600"), stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while program.name not in Path(f"/proc/{process.pid}/comm").read_text():
            pass
        try:
            yield process.pid
        finally:
            process.kill()


def found() -> list[int]:
    container = SharedPids([PROXY], [PROXY])
    container.read(0.0)
    return container.pids()


def test_the_proxys_user_in_our_network(netns: str, programs: Path) -> None:
    with inside(netns), running(programs / "envoy") as pid:
        assert found() == [pid]
    assert found() == []


def test_root_with_the_exempt_group(netns: str, programs: Path) -> None:  # TPROXY
    with inside(netns), running(programs / "envoy", uid=0) as pid:
        assert found() == [pid]


def test_others_of_that_name_or_user(netns: str, programs: Path) -> None:
    with inside(netns):
        with running(programs / "envoy", uid=15107, gid=15107), running(programs / "envoy", uid=0, gid=0):
            assert found() == [], "the rescue, and somebody's own Envoy"
        with running(programs / "other"):
            assert found() == []


def test_another_pods_proxy(netns: str, programs: Path) -> None:
    with running(programs / "envoy"), inside(netns):
        assert found() == []


def test_it_comes_and_goes(netns: str, programs: Path) -> None:
    with inside(netns):
        container = SharedPids([PROXY], [PROXY])
        container.read(0.0)
        with running(programs / "envoy") as first:
            assert container.pids() == [], "searched for only when its threads are looked at"
            assert container.read(1.0).threads == 1
            assert container.pids() == [first]
        assert container.pids() == []
        with running(programs / "envoy") as second:
            container.read(2.0)
            assert container.pids() == [second]
