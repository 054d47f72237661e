"""Agents in pods: what Istio's chart has to be told, and nothing beyond (S4.2, A9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswitch.sandbox.chart import CHART
from hotswitch.sandbox.manifests import MANIFESTS, render
from tests.manifests import helm
from tests.manifests.shipped import NAMESPACE

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ADDON = (ROOT / "istio-addon/values.yaml").read_text()
INJECTED = ROOT / "tests/data/istio-addon/hello-probes.yaml.injected"
Object = dict[str, Any]


def overlay() -> list[Object]:
    return render(MANIFESTS / "overlays" / "agent-pod")


def chart(namespace: str = NAMESPACE, **changed: Any) -> list[Object]:
    """What the value adds."""
    plain = helm.rendered(CHART, namespace, helm.values_of(CHART, **changed))
    added = helm.rendered(CHART, namespace, helm.values_of(CHART, agents__inPods=True, **changed))
    return [each for each in added if each not in plain]


def template(objects: list[Object]) -> str:
    (values,) = objects
    told = yaml.safe_load(values["data"]["values.yaml"])
    return str(told["sidecarInjectorWebhook"]["templates"]["hotswitch"])


def test_it_is_the_addons_values_and_nothing_else() -> None:
    (values,) = overlay()
    assert (values["kind"], values["metadata"]["namespace"]) == ("ConfigMap", NAMESPACE)
    assert values["data"] == {"values.yaml": ADDON}, "write it anew: istio-addon/values.yaml, indented"


def test_it_grants_nothing_and_runs_nothing() -> None:
    beside = {each["kind"] for each in overlay()}
    assert not beside & {"ClusterRole", "Role", "DaemonSet", "Deployment", "ServiceAccount", "Namespace"}


def test_the_chart_has_the_same() -> None:
    assert chart() == overlay()


def test_the_chart_names_the_image_and_the_controller_that_were_chosen() -> None:
    chosen = {"images__agent__repository": "example.org/agent", "images__agent__tag": "1.2"}
    text = template(chart("mesh-tools", **chosen))
    assert "image: example.org/agent:1.2\n" in text
    assert "value: hotswitch-agents.mesh-tools.svc:8443\n" in text
    assert '{{- if eq .Name "istio-proxy" }}' in text  # of Istio's language, not of Helm's


def test_the_injected_agent_finds_the_controller_that_serves_agents() -> None:
    """By the name and port of the component's Service, and the CA that an administrator puts into the namespace."""
    documents = [each for each in yaml.safe_load_all(INJECTED.read_text()) if each]
    spec = documents[0]["spec"]["template"]["spec"]
    (ours,) = [
        each for each in spec.get("initContainers", []) + spec["containers"] if each["name"] == "hotswitch-agent"
    ]
    told = {each["name"]: each.get("value") for each in ours["env"]}
    service = yaml.safe_load((MANIFESTS / "components/agents/service.yaml").read_text())
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert told["HOTSWITCH_CONTROLLER"] == f"{name}.{namespace}.svc:{service['spec']['ports'][0]['port']}"
    (volume,) = [each for each in spec["volumes"] if each["name"] == "hotswitch-token"]
    (authority,) = [each["configMap"] for each in volume["projected"]["sources"] if "configMap" in each]
    assert authority["optional"] is True and authority["name"] == "hotswitch-controller-ca"
    (mount,) = [each["mountPath"] for each in ours["volumeMounts"] if each["name"] == "hotswitch-token"]
    assert told["HOTSWITCH_CONTROLLER_CA"] == f"{mount}/{authority['items'][0]['path']}"
