"""`make e2e` where something is missing: one sentence says what, and nothing is begun."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
SCRIPT = Path(__file__).parents[2] / "scripts" / "e2e"


@pytest.fixture
def run(tmp_path):
    """With only these programs, each of which says no to everything, and the few that the script itself needs."""

    def run(*programs, **environ):
        for name in ("dirname", "env", "mktemp", "rm", "sh"):
            (tmp_path / name).symlink_to(shutil.which(name))
        for name in programs:
            (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / name).chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        environ = clean | {"PATH": str(tmp_path)} | environ
        done = subprocess.run([SCRIPT], env=environ, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr

    return run


def test_nothing_is_at_hand(run):
    code, said = run()
    assert code == 1
    assert said == (
        "hotswitch: Missing here: docker kind istioctl kubectl; "
        "or set KUBECONFIG to a cluster with Istio that may be broken.\n"
    )


def test_one_program_is_missing(run):
    assert "Missing here: istioctl;" in run("docker", "kind", "kubectl")[1]


def test_docker_does_not_answer(run):
    code, said = run("docker", "kind", "istioctl", "kubectl")
    assert code == 1
    assert said.startswith("hotswitch: Docker is installed but does not answer")


def test_a_cluster_is_named_but_kubectl_is_missing(run):
    assert run(KUBECONFIG="/dev/null") == (1, "hotswitch: Missing here: kubectl.\n")
