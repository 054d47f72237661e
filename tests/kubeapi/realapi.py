"""A real API server, when one is at hand: named by KUBECONFIG, or started from KUBEBUILDER_ASSETS (etcd, apiserver).

Nothing but loopback is used for the started one; it has no controllers and no nodes, as envtest's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kubeapi.client import Access, access

STARTS_WITHIN_S = 90.0
PEM = serialization.Encoding.PEM


def assets() -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    return Path(folder) if folder and (Path(folder) / "kube-apiserver").is_file() else None


def mark() -> pytest.MarkDecorator:
    """A started server needs no cluster; without one, KUBECONFIG has to name one."""
    return pytest.mark.k8s if assets() else pytest.mark.e2e


@contextmanager
def real(directory: Path) -> Iterator[Access]:
    folder = assets()
    if folder is None:
        files = [Path(part) for part in os.environ["KUBECONFIG"].split(os.pathsep) if part]
        yield access(next(file for file in files if file.is_file()))
        return
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield _started(folder, directory, processes)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


def _started(folder: Path, directory: Path, processes: list[subprocess.Popen[bytes]]) -> Access:
    etcd, peer, secure = (_free_port() for _ in range(3))
    store, peers = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
    private, public = _account_keys(directory)
    (directory / "tokens.csv").write_text("admin-token,admin,admin,system:masters\n")
    programs: dict[str, dict[str, object]] = {
        "etcd": {
            "data-dir": directory / "etcd",
            "listen-client-urls": store,
            "advertise-client-urls": store,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"default={peers}",
        },
        "kube-apiserver": {
            "etcd-servers": store,
            "bind-address": "127.0.0.1",
            "secure-port": secure,
            "cert-dir": directory / "certs",
            "service-cluster-ip-range": "10.96.0.0/16",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": public,
            "service-account-signing-key-file": private,
            "token-auth-file": directory / "tokens.csv",
            "authorization-mode": "RBAC",
            "disable-admission-plugins": "ServiceAccount",
        },
    }
    for program, options in programs.items():
        words = [str(folder / program), *(f"--{name}={value}" for name, value in options.items())]
        with (directory / f"{program}.log").open("wb") as log:
            processes.append(subprocess.Popen(words, stdout=log, stderr=log, cwd=directory))
    config = directory / "kubeconfig"
    config.write_text(_CONFIG.format(port=secure, ca=directory / "certs" / "apiserver.crt"))
    _await_ready(config, processes, directory)
    return access(config)


_CONFIG = """
clusters: [{{name: real, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: {ca}}}}}]
users: [{{name: admin, user: {{token: admin-token}}}}]
contexts: [{{name: real, context: {{cluster: real, user: admin}}}}]
current-context: real
"""


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _account_keys(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / "sa.key", directory / "sa.pub"
    private.write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    )
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def _await_ready(config: Path, processes: list[subprocess.Popen[bytes]], directory: Path) -> None:
    ends = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < ends:
        for process in processes:
            assert process.poll() is None, f"{process.args[0]} ended: see {directory}"
        try:
            found = access(config)
            request = urllib.request.Request(f"{found.url}/readyz", headers=found.headers)
            with urllib.request.urlopen(request, context=found.tls, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)  # it has no other way to say that it is ready
    raise AssertionError(f"kube-apiserver was not ready within {STARTS_WITHIN_S:.0f} s: see {directory}")
