"""The image's file and the manifests speak of the same thing. It cannot be built here; what it says can be compared."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.manifests.shipped import tier

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements" / "controller.lock").read_text()
TEXT = (ROOT / "Dockerfile").read_text()


def stage(name):
    (found,) = re.findall(rf"^FROM \S+ AS {name}$\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return found


def container():
    (deployment,) = [obj for obj in tier("tier-0-observe") if obj["kind"] == "Deployment"]
    return deployment["spec"]["template"]["spec"]


def test_the_controller_runs_as_the_user_that_the_deployment_asks_for():
    security = container()["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in stage("controller")


def test_what_is_made_by_default_has_no_rights():
    assert re.findall(r"^FROM \S+ AS (\S+)$", TEXT, re.MULTILINE)[-1] == "controller"


def test_the_controller_has_no_tools_of_the_network():
    assert "apt-get" not in stage("controller")
    assert "USER" not in stage("agent")


def test_the_port_is_the_one_that_is_probed():
    (port,) = [port["containerPort"] for port in container()["containers"][0]["ports"]]
    assert f"EXPOSE {port}" in stage("controller")


@pytest.mark.parametrize(("name", "lock"), [("controller", "controller.lock"), ("agent", "agent.lock")])
def test_packages_are_those_of_the_lock_file(name, lock):
    assert f"--require-hashes --only-binary :all: -r requirements/{lock}" in stage(f"build-{name}")
    assert (ROOT / "requirements" / lock).exists()


def test_images_are_named_as_the_manifests_name_them():
    named = set(re.findall(r"^#     docker build --target (\S+) -t (\S+) \.$", TEXT, re.MULTILINE))
    assert named == {("controller", "hotswitch-controller"), ("agent", "hotswitch-agent")}
    assert container()["containers"][0]["image"].startswith("hotswitch-controller:")


def test_the_controller_starts_with_the_packages_of_its_image():
    """What only the agent and the tests have is hidden; whatever imports it fails."""
    hidden = ("celpy", "hypothesis", "matplotlib", "pyroute2")
    assert not {name for name in hidden if re.search(rf"^{name}==", LOCK, re.MULTILINE)}
    story = f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); import hotswitch.controller.operator"
    modules = "hotswitch.controller.operator, hotswitch.act.eds_check, hotswitch.act.tlsmode, hotswitch.cli.main"
    done = subprocess.run(
        [sys.executable, "-c", f"{story}, {modules}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
