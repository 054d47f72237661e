"""Of which pod a process is: by the names that kubelet and runtimes give cgroups, whoever reads them (S4.2)."""

from pathlib import Path

import pytest

from hotswitch.kernel.procfs import Place, place_of, processes, user
from hotswitch.model import PodUid

pytestmark = pytest.mark.unit

UID = "3f1c2d4e-aaaa-4bbb-8ccc-0123456789ab"
DASHED = UID.replace("-", "_")
ID = "9" * 64
STATIC = "4d2f8c1b7e6a5f4d3c2b1a0f9e8d7c6b"


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{UID}/{ID}",
        f"/kubepods/pod{UID}/{ID}",  # guaranteed
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{DASHED}.slice/cri-containerd-{ID}.scope",
        f"/kubepods.slice/kubepods-pod{DASHED}.slice/crio-{ID}.scope",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{DASHED}.slice/docker-{ID}.scope",
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{DASHED}.slice/cri-containerd-{ID}.scope",  # kind
        f"/../../kubepods-burstable-pod{DASHED}.slice/cri-containerd-{ID}.scope",  # from another container
        f"/../pod{UID}/{ID}",
        f"/kubepods/burstable/pod{UID}/{ID}/init.scope",  # systemd inside the container
        f"/kubepods.slice/kubepods-pod{DASHED}.slice/crio-{ID}.scope/container",
    ],
)
def test_pod_and_container_are_in_the_path(path: str) -> None:  # S4.2
    assert place_of(path) == Place(PodUid(UID), ID)


def test_a_static_pods_uid_is_the_hash_of_its_file() -> None:
    assert place_of(f"/kubepods/burstable/pod{STATIC}/{ID}") == Place(PodUid(STATIC), ID)


def test_what_is_above_the_containers_is_of_the_pod_alone() -> None:
    assert place_of(f"/kubepods.slice/kubepods-pod{DASHED}.slice") == Place(PodUid(UID))
    conmon = f"/kubepods.slice/kubepods-pod{DASHED}.slice/crio-conmon-{ID}.scope"
    assert place_of(conmon) is not None


@pytest.mark.parametrize(
    "path",
    ["/", "/init.scope", "/system.slice/containerd.service", "/user.slice/user-0.slice", f"/docker/{ID}", "/podman/x"],
)
def test_other_processes_are_of_no_pod(path: str) -> None:
    assert place_of(path) is None


def told(tmp_path: Path, pid: int, file: str, content: bytes) -> None:
    (tmp_path / str(pid)).mkdir(exist_ok=True)
    (tmp_path / str(pid) / file).write_bytes(content)


@pytest.mark.parametrize("name", [b"\xff\xfe", "a\x85b".encode(), "a\u2028b".encode(), b"a\rb", b"a\x0bb"])
def test_a_strangers_cgroup_hides_no_other_pod(tmp_path: Path, name: bytes) -> None:
    told(tmp_path, 7, "cgroup", b"0::/kubepods/" + name + b"/x\n")
    told(tmp_path, 8, "cgroup", f"0::/kubepods/pod{UID}/{ID}\n".encode())
    assert [(each.pid, each.place) for each in processes(tmp_path)] == [(8, Place(PodUid(UID), ID))]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\rUid:\t1337\t1337", b"a\x0bUid:\t1337\t1337"])
def test_a_process_lies_about_its_user_by_its_name(tmp_path: Path, name: bytes) -> None:  # the kernel takes any bytes
    told(tmp_path, 7, "status", b"Name:\t" + name + b"\nUid:\t1000\t1001\t1000\t1000\n")
    assert user(7, tmp_path) == 1001
