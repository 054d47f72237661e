"""The template for Istio's injector: what Istio's own makes of it adds one container and takes nothing away (S4.2).

`tests/data/istio-addon` was made by the real thing: Istio's package `pkg/kube/inject`, built with Go, on the ConfigMap
that Helm makes from Istio's chart and `istio-addon/values.yaml` (its README.md says which versions, `make` does it
anew). The same programs without the add-on gave `tests/data/istio-golden/pods` to the byte. Here the two are compared,
with Python alone; and a template that is no longer the one that was rendered fails.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswitch.agent.agent import spec_of
from hotswitch.agent.pod.settings import from_environment
from hotswitch.api.names import HELPER_CAPABILITIES
from hotswitch.capture import manifest as manifests
from hotswitch.capture import options, probes
from hotswitch.capture.podspec import facts_from_pod, spec_from_pod
from hotswitch.config.agentfile import AppProbeSettings
from hotswitch.config.told import parse_as
from hotswitch.observe.health import REQUEST

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ADDON, RENDERED, ISTIOS = ROOT / "istio-addon", ROOT / "tests/data/istio-addon", ROOT / "tests/data/istio-golden/pods"
TEMPLATE = (ADDON / "injection-template.yaml").read_text()
NAME, MARK = "hotswitch-agent", "hotswitch-"
BOTH = sorted(path.name for path in RENDERED.glob("*.injected") if (ISTIOS / path.name).exists())
WITHOUT = ("hello-off.yaml.injected", "hello-none.yaml.injected")
WITH = sorted({path.name for path in RENDERED.glob("*.injected")} - {*WITHOUT})
STATUS, CHOICE = "sidecar.istio.io/status", "inject.istio.io/templates"
Object = dict[str, Any]


def pods(folder: Path, name: str) -> list[Object]:
    return [each for each in yaml.safe_load_all((folder / name).read_text()) if each]


def template(workload: Object) -> Object:
    return workload if workload["kind"] == "Pod" else workload["spec"]["template"]


def containers(workload: Object) -> list[Object]:
    spec = template(workload)["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def ours(name: str) -> Object:
    (found,) = [each for workload in pods(RENDERED, name) for each in containers(workload) if each["name"] == NAME]
    return found


def without_ours(workload: Object) -> Object:
    """As though it had never been there."""
    workload = copy.deepcopy(workload)
    pod = template(workload)
    annotations = pod["metadata"]["annotations"]
    assert annotations.pop(CHOICE) == "sidecar,hotswitch"
    status = json.loads(annotations[STATUS])
    for kind in ("initContainers", "containers", "volumes"):
        status[kind] = [each for each in status[kind] or [] if not each.startswith(MARK)] or None
    annotations[STATUS] = json.dumps(status, separators=(",", ":"))
    for kind in ("initContainers", "containers", "volumes"):
        if kind in pod["spec"]:
            pod["spec"][kind] = [each for each in pod["spec"][kind] if not each["name"].startswith(MARK)]
    return workload


def test_it_was_this_template_that_was_rendered() -> None:
    rendered = json.loads((RENDERED / "index.json").read_text())["template_sha256"]
    assert hashlib.sha256(TEMPLATE.encode()).hexdigest() == rendered, "make it anew: tests/data/istio-addon/README.md"


def test_values_hold_the_template_and_leave_istios_own() -> None:
    values = yaml.safe_load((ADDON / "values.yaml").read_text())
    assert values == {"sidecarInjectorWebhook": {"templates": {"hotswitch": TEMPLATE}}}


def test_istios_shapes_are_all_there() -> None:
    assert len(BOTH) == len([path for path in ISTIOS.glob("*.injected") if "openshift" not in path.name]) == 7


@pytest.mark.parametrize("name", BOTH)
def test_nothing_of_istios_is_changed(name: str) -> None:
    """Its containers, their order, ports, probes, ids, volumes, labels: all as Istio's own golden files have them."""
    assert [without_ours(each) for each in pods(RENDERED, name)] == pods(ISTIOS, name)


@pytest.mark.parametrize("name", WITH)
def test_istio_proxy_is_still_there_with_its_port(name: str) -> None:
    for workload in pods(RENDERED, name):
        (proxy,) = [each for each in containers(workload) if each["name"] == "istio-proxy"]
        assert [port["containerPort"] for port in proxy["ports"]] == [15090]


@pytest.mark.parametrize("name", WITH)
def test_what_it_sends_does_not_pass_the_proxy(name: str) -> None:
    """Its group is the one that Istio's rules exempt in this very pod."""
    for workload in pods(RENDERED, name):
        security = ours(name)["securityContext"]
        assert security["runAsGroup"] in spec_from_pod(template(workload) | {"kind": "Pod"}).proxy_gids
        assert security["runAsUser"] == 0


def test_uid_of_the_pods_own_choice_is_followed() -> None:
    assert ours("proxy-override-runas.yaml.injected")["securityContext"]["runAsGroup"] == 1234


@pytest.mark.parametrize("name", WITH)
def test_it_has_no_more_than_it_needs(name: str) -> None:
    container = ours(name)
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": list(HELPER_CAPABILITIES)}
    assert (
        not security["privileged"] and not security["allowPrivilegeEscalation"] and security["readOnlyRootFilesystem"]
    )
    assert not {"ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "envFrom"} & container.keys()
    assert {each["name"] for each in container["volumeMounts"] if not each["name"].startswith(MARK)} == {
        "workload-socket"
    }
    assert all(each.get("readOnly") for each in container["volumeMounts"] if each["name"] == "workload-socket")


@pytest.mark.parametrize("name", WITH)
def test_it_is_a_sidecar_of_the_same_kind(name: str) -> None:
    """A native one lives as long as its app, behind the proxy; a classic one is a container as the proxy is."""
    for workload in pods(RENDERED, name):
        spec = template(workload)["spec"]
        first = [each["name"] for each in spec.get("initContainers", [])]
        native = "istio-proxy" in first
        assert (ours(name).get("restartPolicy") == "Always") is native is (NAME in first)
        assert not native or first.index(NAME) == first.index("istio-proxy") + 1


@pytest.mark.parametrize("name", WITH)
def test_what_is_read_of_the_pod_is_the_same_with_it(name: str) -> None:
    for workload in pods(RENDERED, name):
        pod = template(workload) | {"kind": "Pod"}
        plain = template(without_ours(workload)) | {"kind": "Pod"}
        assert spec_from_pod(pod) == spec_from_pod(plain)
        assert facts_from_pod(pod) == facts_from_pod(plain)
        assert manifests.pod_template(pod)[1]


def told(name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in ours(name)["env"] if "value" in each}


@pytest.mark.parametrize("name", WITH)
def test_it_is_told_how_istio_captures_in_this_pod(name: str) -> None:
    """It has no right in the API and cannot look: it is told what istio-init is told, or reads what istio-cni reads."""
    mounts = {each["name"]: each["mountPath"] for each in ours(name)["volumeMounts"]}
    assert mounts["hotswitch-podinfo"] == "/run/podinfo"
    assert ("HOTSWITCH_CAPTURE" in told(name)) is ("cni" not in name)
    capture = json.loads(told(name).get("HOTSWITCH_CAPTURE", "null"))
    for workload in pods(RENDERED, name) if capture else ():
        seen = spec_from_pod(template(workload) | {"kind": "Pod"})
        assert options.parse(capture["args"], capture["env"], ipv6=seen.ipv6) == seen


@pytest.mark.parametrize("name", WITH)
def test_it_is_told_the_apps_ports_and_probes(name: str) -> None:
    """Probes as they were before Istio rewrote them: as Istio tells them to pilot-agent."""
    words = told(name)
    for workload in pods(RENDERED, name):
        facts = facts_from_pod(template(workload) | {"kind": "Pod"})
        assert tuple(int(each) for each in words.get("HOTSWITCH_PORTS", "").split(",") if each) == facts.app_ports
        given = sorted(probes.rewritten(words["HOTSWITCH_PROBERS"]), key=lambda probe: probe.name)
        assert given == sorted(facts.probes, key=lambda probe: probe.name)
        if "HOTSWITCH_PROBE" in words:
            parse_as(AppProbeSettings, json.loads(words["HOTSWITCH_PROBE"]), name)
        assert words["HOTSWITCH_WORKLOAD"].partition("/")[0] in ("deploy", "pod")


DOWNWARD = {
    "metadata.name": "web-0",
    "metadata.namespace": "shop",
    "metadata.uid": "7d0c9a3e",
    "spec.nodeName": "node-0",
    "spec.serviceAccountName": "web",
    "status.podIPs": "10.0.3.17",
}


@pytest.mark.parametrize("name", WITH)
def test_agent_takes_what_it_is_told(name: str, tmp_path: Path) -> None:
    """Its own settings, from the environment and the file that the kubelet would make."""
    workload = pods(RENDERED, name)[0]
    said = template(workload)["metadata"]["annotations"]
    (tmp_path / "annotations").write_text("".join(f"{key}={json.dumps(each)}\n" for key, each in said.items()))
    environment = {
        each["name"]: each.get("value", "") or DOWNWARD[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in ours(name)["env"]
        if "value" in each or "valueFrom" in each
    }
    settings = from_environment(environment | {"HOTSWITCH_ANNOTATIONS": str(tmp_path / "annotations")})
    (pod,) = settings.agent_file().pods
    seen = spec_from_pod(template(workload) | {"kind": "Pod"})
    nobody = {"dns_servers_v4": (), "dns_servers_v6": ()}  # it asks its own resolv.conf, which is this machine's here
    assert replace(spec_of(pod), **nobody) == replace(seen, **nobody)
    assert (pod.name, pod.namespace, pod.uid) == ("web-0", "shop", "7d0c9a3e")


@pytest.mark.parametrize("name", WITHOUT)
def test_no_agent_where_there_is_nothing_to_do(name: str) -> None:
    assert [each["name"] for workload in pods(RENDERED, name) for each in containers(workload)].count(NAME) == 0
    assert MARK not in str(template(pods(RENDERED, name)[0])["spec"])


def test_questions_of_ours_are_told_from_others_by_what_they_say() -> None:
    """telemetry.yaml leaves them out of access logs by it."""
    filter_ = yaml.safe_load((ADDON / "telemetry.yaml").read_text())["spec"]["accessLogging"][0]["filter"]["expression"]
    (agent,) = [line for line in REQUEST.decode().splitlines() if line.startswith("User-Agent: ")]
    assert f"'{agent.removeprefix('User-Agent: ')}'" in filter_


def test_files_are_all_told_of() -> None:
    text = (ADDON / "README.md").read_text()
    assert [each.name for each in ADDON.iterdir() if f"`{each.name}`" not in text and each.name != "README.md"] == []
