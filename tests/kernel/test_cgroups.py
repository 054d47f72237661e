"""Where a container's cgroups are, as they are told from outside and from inside of another container (S4.2)."""

from pathlib import Path

import pytest

from hotswitch.kernel.cgroups import Cgroups

pytestmark = pytest.mark.unit

ID = "a" * 64
POD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"


def told(tmp_path: Path, *lines: str) -> Path:
    proc = tmp_path / "proc"
    (proc / "7").mkdir(parents=True, exist_ok=True)
    (proc / "7/cgroup").write_text("".join(f"{line}\n" for line in lines))
    return proc


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    root = tmp_path / "cgroup"
    (root / POD / f"cri-containerd-{ID}.scope").mkdir(parents=True)
    (root / "cgroup.controllers").touch()
    return root


@pytest.mark.parametrize(
    "path",
    [
        f"/{POD}/cri-containerd-{ID}.scope",
        f"/../../kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope",
        f"/../../../kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope/below",
    ],
)
def test_the_same_directory_is_found_whoever_reads(unified: Path, tmp_path: Path, path: str) -> None:
    found = Cgroups(unified).of(ID, 7, told(tmp_path, f"0::{path}"))
    assert found == (unified / POD / f"cri-containerd-{ID}.scope",)


def test_each_hierarchy_that_counts_is_found(tmp_path: Path) -> None:  # v1
    root = tmp_path / "cgroup"
    for hierarchy in ("cpu", "memory", "pids"):
        (root / hierarchy / f"kubepods/pod1/{ID}").mkdir(parents=True)
    lines = (
        f"4:memory:/kubepods/pod1/{ID}",
        f"3:pids:/kubepods/pod1/{ID}",
        f"1:cpu,cpuacct:/kubepods/pod1/{ID}",
        "0::/",
    )
    found = Cgroups(root).of(ID, 7, told(tmp_path, *lines))
    assert found == (root / f"memory/kubepods/pod1/{ID}", root / f"cpu/kubepods/pod1/{ID}")


def test_a_process_of_another_container_has_none_of_it(unified: Path, tmp_path: Path) -> None:
    assert Cgroups(unified).of(ID, 7, told(tmp_path, f"0::/{POD}/cri-containerd-{'b' * 64}.scope")) == ()
    assert Cgroups(unified).of(ID, 8, told(tmp_path)) == ()
