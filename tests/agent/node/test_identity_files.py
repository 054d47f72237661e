"""A node's agent reads a pod's identity from files inside the proxy's container, and from nowhere else (S4.3, A11)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotswitch.agent.identities import Identities, Way
from hotswitch.agent.node.describe import reached
from hotswitch.agent.node.finder import Proxy
from hotswitch.config.agentfile import IdentitySource
from hotswitch.model import PodRef
from hotswitch.rescue.identity import IdentityRefused
from hotswitch.sandbox.estate import Estate
from tests.agent.node.test_finder import APP, OTHER, PROXY, UID, estate
from tests.rescue.authority import Authority, spiffe
from tests.rescue.test_output_certs import write

__all__ = ["estate"]  # a fixture

pytestmark = pytest.mark.netns

IN_CONTAINER = Path("/etc/istio-output-certs")
REF = PodRef("web-0", "shop", UID)
_ROOTED = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print('ready', flush=True); sys.stdin.read()"


@contextmanager
def rooted(estate: Estate, root: Path, container: str = PROXY) -> Iterator[int]:
    """A process of the pod's container, whose root is that directory."""
    words = [sys.executable, "-S", "-c", _ROOTED, str(root)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin and child.stdout
    try:
        for cgroup in estate.make_cgroups("kubepods", "burstable", f"pod{UID}", container):
            (cgroup / "cgroup.procs").write_text(str(child.pid))
        assert child.stdout.readline() == "ready\n"
        yield child.pid
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    (found / IN_CONTAINER.relative_to("/")).mkdir(parents=True)
    return found


def ways(pid: int, ref: PodRef = REF) -> Identities:
    return Identities(lambda path: reached(path, ref, Proxy(container=PROXY, pids=(pid,)), Path("/proc")))


def source(directory: Path = IN_CONTAINER) -> IdentitySource:
    return IdentitySource(socket=Path("/no/socket"), output_certs=directory, spiffe_id=spiffe())


def refusal(each: Identities, directory: Path = IN_CONTAINER) -> str:
    with pytest.raises(IdentityRefused) as refused:
        asyncio.run(each.fetch(source(directory)))
    return str(refused.value)


def test_files_of_the_proxys_container(estate: Estate, root: Path) -> None:
    pair = Authority().issue(spiffe())
    write(root / IN_CONTAINER.relative_to("/"), pair)
    with rooted(estate, root) as pid:
        each = ways(pid)
        assert asyncio.run(each.fetch(source())).key.reveal() == pair.key
        assert each.way is Way.OUTPUT_CERTS


def test_a_link_leads_to_nothing_of_the_nodes(estate: Estate, root: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    write(ours, Authority().issue(spiffe()))
    (root / "linked").symlink_to(ours)
    with rooted(estate, root) as pid:
        assert "output-certs: " in refusal(ways(pid), Path("/linked"))
        inside = root / IN_CONTAINER.relative_to("/")
        for name in ("key.pem", "cert-chain.pem", "root-cert.pem"):
            (inside / name).symlink_to(ours / name)
        assert "output-certs: cert-chain.pem: " in refusal(ways(pid))


def test_files_of_another_container_or_pod_are_not_looked_at(estate: Estate, root: Path) -> None:  # I6
    write(root / IN_CONTAINER.relative_to("/"), Authority().issue(spiffe()))
    with rooted(estate, root, APP) as pid:
        assert "no process of the proxy's container" in refusal(ways(pid))
    with rooted(estate, root) as pid:
        assert "no process of the proxy's container" in refusal(ways(pid, PodRef("web-0", "shop", OTHER)))
