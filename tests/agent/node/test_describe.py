"""What a node's agent makes of a pod's manifest beyond what a helper is told (S4.1, S4.3)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from hotswitch.act import helper_container
from hotswitch.act.order import Target
from hotswitch.agent.node.describe import described, known
from hotswitch.agent.node.finder import Proxy
from hotswitch.model import PodRef, PodUid, Policy
from hotswitch.sandbox.cluster import manifest
from hotswitch.sandbox.cluster.manifest import Injected
from hotswitch.sandbox.podspec import PodSpec

pytestmark = pytest.mark.k8s

STATUS = {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}]}


def made(native: bool, output_certs: str | None) -> dict[str, Any]:
    pod: dict[str, Any] = copy.deepcopy(
        dict(manifest.pod(Injected(name="web-0", spec=PodSpec(native=native), node="node-a")))
    )
    pod["metadata"] |= {"uid": "u-1", "namespace": "shop"}
    containers = pod["spec"]["initContainers" if native else "containers"]
    [proxy] = [each for each in containers if each["name"] == "istio-proxy"]
    if output_certs is not None:
        proxy["env"].append({"name": "OUTPUT_CERTS", "value": output_certs})
    return {**pod, "status": STATUS}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("told", "found"),
    [(None, None), ("", None), ("./certs", None), ("/etc/output-certs", Path("/etc/output-certs"))],
)
def test_output_certs_are_where_the_proxy_writes_them(native: bool, told: str | None, found: Path | None) -> None:
    pod = made(native, told)
    guarded = described(known(pod), pod, Path("/proc/self/ns/net"), Proxy(), Path("/proc"))
    assert guarded.identity is not None and guarded.identity.output_certs == found
    assert guarded.identity.spiffe_id is not None, "whose it must be is known"


def test_a_helper_is_not_told_of_what_it_may_not_mount() -> None:
    pod = made(False, "/etc/output-certs")
    told = helper_container.settings(Target(pod=PodRef("web-0", "shop", PodUid("u-1")), manifest=pod, policy=Policy()))
    assert "output_certs" not in told["pod"]["identity"]
