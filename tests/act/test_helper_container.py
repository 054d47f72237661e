"""What the helper is told comes from the pod's manifest, and gives what the pod really is (S4.2, S4.3a)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotswitch.act import helper_container
from hotswitch.act.order import Target
from hotswitch.api.names import HELPER_CAPABILITIES, HELPER_VARIABLE
from hotswitch.capture.fields import SpecError
from hotswitch.capture.options import parse
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.config.agentfile import AgentFile, IdentitySource
from hotswitch.config.agentfile import parse as agent_file
from hotswitch.model import Mtls, PodRef, PodUid, Policy
from hotswitch.sandbox.cluster import manifest
from hotswitch.sandbox.cluster.manifest import Injected
from hotswitch.sandbox.podspec import PodSpec

pytestmark = pytest.mark.k8s

STATUS = {"podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}, {"ip": "fd00::3"}]}
SHAPES: dict[str, dict[str, Any]] = {
    "classic": {},
    "native": {"native": True},
    "tproxy": {"interception": "TPROXY"},
    "nftables": {"backend": "nftables"},
    "legacy": {"backend": "iptables-legacy"},
    "all names": {"dns": "all"},
}


def target(**changes: Any) -> Target:
    pod = manifest.pod(Injected(name="web-0", spec=PodSpec(**changes), node="node-a"))
    policy = Policy(mtls=Mtls.PERMISSIVE, mtls_by_port={9000: Mtls.STRICT})
    who = PodRef("web-0", "default", PodUid("u-1"), "deploy/web")
    return Target(pod=who, manifest={**pod, "status": STATUS}, policy=policy, authorization=({"action": "DENY"},))


def told(which: Target) -> AgentFile:
    """As agent.helper reads it."""
    container = helper_container.container(which, "hotswitch-agent:1")
    variable = {each["name"]: each["value"] for each in container["env"]}[HELPER_VARIABLE]
    pod = json.loads(variable)["pod"] | {"netns": "/proc/self/ns/net"}
    return agent_file({"pods": [pod]})


@pytest.mark.parametrize("shape", SHAPES)
def test_capture_is_what_the_manifest_says(shape: str) -> None:
    which = target(**SHAPES[shape])
    source = told(which).pods[0].capture
    again = parse(source.args or (), source.env, ipv6=source.ipv6)
    assert again == spec_from_pod(which.manifest)


def test_pod_is_described_as_it_is() -> None:
    pod = told(target(tcp=True)).pods[0]
    assert pod.ref == PodRef("web-0", "default", PodUid("u-1"), "deploy/web")
    assert [str(address) for address in pod.addresses] == ["10.1.2.3", "fd00::3"]
    assert set(pod.app.ports) >= {8080}
    assert pod.app.probe and (pod.app.probe.port, pod.app.probe.path) == (8080, "/healthz")
    assert pod.app.probers and set(pod.app.probers) == {"/app-health/app/readyz"}
    assert (pod.policy.mtls, pod.policy.mtls_by_port) == (Mtls.PERMISSIVE, {9000: Mtls.STRICT})
    assert pod.authorization == ({"spec": {"action": "DENY"}},)
    assert pod.identity == IdentitySource(
        socket=Path("/var/run/secrets/workload-spiffe-uds/socket"),
        spiffe_id="spiffe://cluster.local/ns/default/sa/web",
        trust_domains=("cluster.local",),
    )


def test_names_captured_by_name_server_are_looked_up_in_the_pod() -> None:
    settings = helper_container.settings(target(dns="servers"))
    assert settings["dns"] is True
    assert helper_container.settings(target(dns="all"))["dns"] is False


def test_rights_are_those_of_the_reference() -> None:
    container = helper_container.container(target(), "hotswitch-agent:1")
    rights = container["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"], "add": list(HELPER_CAPABILITIES)}
    assert (rights["runAsUser"], rights["runAsGroup"], rights["privileged"]) == (0, 1337, False)
    assert [mount["readOnly"] for mount in container["volumeMounts"]] == [True]


def test_pod_without_an_address_has_to_wait() -> None:
    which = target()
    early = Target(pod=which.pod, manifest={**which.manifest, "status": {}}, policy=which.policy)
    with pytest.raises(SpecError, match="no address yet"):
        helper_container.patch(early, "hotswitch-agent:1")


@pytest.mark.parametrize("garbage", [{}, {"spec": None}, {"spec": {"ephemeralContainers": "x"}}, {"spec": []}])
def test_manifest_of_another_shape_has_no_helper(garbage: dict[str, Any]) -> None:
    assert helper_container.find(garbage) is None
