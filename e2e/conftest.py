"""End to end, on a real cluster with a real Istio: whichever KUBECONFIG names, if it may be broken.

`make e2e` makes one of kind and istioctl, or uses the one that KUBECONFIG names. A cluster is never touched because
somebody had KUBECONFIG set and ran all tests: HOTSWITCH_E2E=1 says that it is meant.

    HOTSWITCH_E2E_CONTROLLER, HOTSWITCH_E2E_AGENT   images that the cluster can pull (default: hotswitch-*:e2e)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from e2e.cluster import Failed, Kubectl
from e2e.install import Installation

pytest_plugins = ("tests.needs",)
CONTROLLER = os.environ.get("HOTSWITCH_E2E_CONTROLLER", "hotswitch-controller:e2e")
AGENT = os.environ.get("HOTSWITCH_E2E_AGENT", "hotswitch-agent:e2e")
SHOP = "hotswitch-e2e"


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    if os.environ.get("HOTSWITCH_E2E") != "1":
        pytest.skip("end-to-end tests break a cluster: `make e2e` says that it is meant")
    found = Kubectl.found()
    if isinstance(found, str):
        pytest.skip(found)
    try:
        istiod = found("get", "deployment", "--namespace", "istio-system", "--selector", "app=istiod", "-o", "name")
    except Failed as failure:
        pytest.skip(f"the cluster that KUBECONFIG names does not answer: {failure}")
    if not istiod.strip():
        pytest.skip("the cluster that KUBECONFIG names has no istiod in istio-system")
    return found


@pytest.fixture(scope="session")
def hotswitch(kubectl, tmp_path_factory):
    """Installed as a user would; taken away at the end, whatever the tests did."""
    installation = Installation(kubectl, tmp_path_factory.mktemp("install"), CONTROLLER, AGENT)
    installation.install()
    yield installation
    installation.remove()


@pytest.fixture(scope="session")
def shop(kubectl):
    """A namespace in the mesh with an app (`web`), a meshed client and one outside of the mesh (`plain`)."""
    text = (Path(__file__).parent / "shop.yaml").read_text()
    kubectl("apply", "-f", "-", stdin=text.replace("IMAGE", AGENT).replace("NAMESPACE", SHOP))
    for name in ("web", "client", "plain"):
        kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--namespace", SHOP, "--timeout=180s")
    yield SHOP
    kubectl("delete", "namespace", SHOP, "--wait=true", "--ignore-not-found", timeout_s=180)
