"""What is published of a sandbox pod is what others find out from it."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.capture.podspec import Source, facts_from_pod, spec_from_pod
from hotswitch.sandbox.cluster import manifest
from hotswitch.sandbox.cluster.manifest import Injected
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.registry import TLS_MODE_LABEL

pytestmark = pytest.mark.unit

_ADDRESSES = {"v4": "10.98.0.2", "v6": "fd98::2"}
_SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"native": True},
    {"interception": "TPROXY"},
    {"dns": "all", "families": ("v4",)},
    {"dns": "servers", "backend": "nftables"},
    {"backend": "iptables-legacy", "native": True},
    {"families": ("v6",)},
)


def _published(**spec: Any) -> tuple[PodSpec, dict[str, Any]]:
    wanted = PodSpec(**spec)
    pod = manifest.pod(Injected(name="web-0", spec=wanted, node="node-a"))
    pod["status"] = {"podIPs": [{"ip": _ADDRESSES[family]} for family in wanted.families]}
    return wanted, pod


@pytest.mark.parametrize("spec", _SPECS, ids=str)
def test_settings_of_another_pod_are_read(spec: dict[str, Any]) -> None:  # S4.3a
    wanted, pod = _published(**spec)
    assert spec_from_pod(pod, dns_servers=wanted.resolvers) == wanted.capture()


def test_native_sidecar_taken_for_an_ordinary_one() -> None:  # S4.1
    for native in (True, False):
        facts = facts_from_pod(_published(native=native)[1])
        assert facts.native is native and facts.source is Source.INIT
        assert facts.app_ports == (8080,) and facts.app_containers == ("app",)


def test_proxys_rights_are_not_istios() -> None:  # facts/istio.md 4
    for mode, uid, added in (("REDIRECT", 1337, None), ("TPROXY", 0, ["NET_ADMIN"])):
        pod = _published(interception=mode)[1]
        rights = pod["spec"]["containers"][1]["securityContext"]
        assert (rights["runAsUser"], rights["runAsGroup"]) == (uid, 1337)
        assert rights["capabilities"] == {"drop": ["ALL"], **({"add": added} if added else {})}


def test_app_probes_are_not_rewritten() -> None:  # facts/istio.md 6
    pod = _published(liveness=True)[1]
    app = pod["spec"]["containers"][0]
    assert app["livenessProbe"]["httpGet"] == {"path": "/app-health/app/livez", "port": 15020}
    facts = facts_from_pod(pod)
    assert {probe.name for probe in facts.probes} == {"/app-health/app/readyz", "/app-health/app/livez"}
    assert all(probe.port == 8080 and probe.path == "/healthz" for probe in facts.probes)


def test_pod_without_sidecar_looks_meshed() -> None:
    pod = _published(sidecar=False)[1]
    assert TLS_MODE_LABEL not in pod["metadata"]["labels"] and not pod["metadata"]["annotations"]
    assert [container["name"] for container in pod["spec"]["containers"]] == ["app"]
    assert pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] == 8080
