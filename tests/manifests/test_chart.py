"""The Helm chart is the kustomizations, tier by tier and opt-in by opt-in; what users choose goes where it must (S4.6).

Rendered by a part of Helm in Python (tests/manifests/helm.py). The same renderings were compared once by hand with Helm
3.21's, and are wherever helm is at hand (test_real.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswitch.sandbox.chart import CHART, templates
from hotswitch.sandbox.manifests import MANIFESTS, render
from tests.manifests import helm
from tests.manifests.shipped import NAMESPACE, OPT_INS, TIERS, with_opt_ins

pytestmark = pytest.mark.unit

EVERY = (*OPT_INS, "monitoring", "agents")
VALUES = {name: f"{name}__enabled" for name in EVERY} | {"agents": "agents__link"}
CHOICES = [(), *((name,) for name in EVERY), EVERY]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def key(obj: dict[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def chart(namespace: str = NAMESPACE, **changed: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    objects = helm.rendered(CHART, namespace, helm.values_of(CHART, **changed))
    found = {key(obj): obj for obj in objects}
    assert len(found) == len(objects)
    return found


def test_templates_are_those_that_the_manifests_make() -> None:
    made = {name: (CHART / "templates" / name).read_text() for name in templates()}
    assert made == templates(), "make them anew: python -m hotswitch.sandbox.chart"
    assert {path.name for path in (CHART / "templates").iterdir()} == {*made, "NOTES.txt"}


@pytest.mark.parametrize("number", range(len(TIERS)), ids=TIERS)
@pytest.mark.parametrize("chosen", CHOICES, ids="-".join)
def test_chart_is_the_kustomization(tmp_path: Path, number: int, chosen: tuple[str, ...]) -> None:
    wanted = {key(obj): obj for obj in render(with_opt_ins(tmp_path, TIERS[number], *chosen))}
    switches = {VALUES[name]: name in chosen for name in EVERY}
    assert chart(tier=number, namespace__create=True, **switches) == wanted


def test_agents_are_the_overlays(tmp_path: Path) -> None:
    wanted = {key(obj): obj for obj in render(MANIFESTS / "overlays" / "agent-node")}
    with_agents = chart(agents__enabled=True)
    assert {each: obj for each, obj in with_agents.items() if each not in chart()} == wanted
    trusted = {key(obj): obj for obj in render(with_opt_ins(tmp_path, "agent-node", "node-account"))}
    with_account = chart(agents__enabled=True, agents__nodeAccount=True)
    assert {each: obj for each, obj in with_account.items() if each not in chart()} == trusted != wanted
    named = {"agents__namespace": "node-tools", "agents__drillEvery": "24h", "agents__nodeAccount": True}
    elsewhere = chart(agents__enabled=True, **named)
    (container,) = elsewhere["DaemonSet", "node-tools", "hotswitch-agent"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "HOTSWITCH_DRILL_EVERY", "value": "24h"} in container["env"]
    added = {each: obj for each, obj in elsewhere.items() if each not in chart()}
    assert '"hotswitch-agents"' not in json.dumps(list(added.values()))


def test_what_helm_makes_by_itself_is_tier_0_without_its_namespace() -> None:
    wanted = {key(obj): obj for obj in render(MANIFESTS / "overlays" / TIERS[0]) if obj["kind"] != "Namespace"}
    assert chart() == wanted


def test_kinds_can_be_left_to_somebody_else() -> None:
    assert {each[0] for each in chart().keys() - chart(crds__enabled=False).keys()} == {"CustomResourceDefinition"}


def test_another_namespace_is_meant_everywhere() -> None:
    everything = chart("mesh-tools", tier=3, **{VALUES[name]: True for name in EVERY})
    assert NAMESPACE not in json.dumps(list(everything.values()))
    assert "system:serviceaccount:mesh-tools:hotswitch-controller" in json.dumps(list(everything.values()))


def test_another_root_namespace_and_revision_of_istio() -> None:
    objects = chart(tier=3, istio__namespace="istio-root", istio__revision="blue")
    deployment = objects["Deployment", NAMESPACE, "hotswitch-controller"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["HOTSWITCH_ROOT_NAMESPACE"] == "istio-root"
    assert variables["HOTSWITCH_ISTIOD"] == "istiod-blue.istio-root.svc:15012"
    role = objects["Role", "istio-root", "hotswitch-controller"]
    assert ["istio-blue"] in [rule.get("resourceNames") for rule in role["rules"]]
    ours = [obj for obj in objects.values() if obj["kind"] != "CustomResourceDefinition"]
    assert "istio-system" not in json.dumps(ours)


def test_another_registrys_images_are_let_in() -> None:
    chosen = {"images__agent__repository": "example.org/agent", "images__agent__tag": "1.2"}
    objects = chart(tier=1, ephemeral__enabled=True, **chosen)
    deployment = objects["Deployment", NAMESPACE, "hotswitch-controller"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "HOTSWITCH_HELPER_IMAGE", "value": "example.org/agent:1.2"} in container["env"]
    policy = objects["ValidatingAdmissionPolicy", "", "hotswitch-ephemeral-containers"]
    assert policy["spec"]["variables"][0]["expression"] == "['example.org/agent:', 'example.org/agent@sha256:']"


def test_alert_texts_are_not_taken_for_helms() -> None:
    rules = chart(monitoring__enabled=True)["PrometheusRule", NAMESPACE, "hotswitch-controller"]
    assert "{{ $labels.code }}" in json.dumps(rules)


def test_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compared(schema: dict[str, Any], value: Any, path: str) -> None:
        if "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
        if not isinstance(value, dict) or "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        assert set(schema["properties"]) - {"global"} == set(value) == set(schema["required"]), path
        for name, inner in value.items():
            compared(schema["properties"][name], inner, f"{path}.{name}")

    compared(SCHEMA, values, "values")
    for part in ("controller", "agent"):
        for field, pattern in SCHEMA["definitions"]["image"]["properties"].items():
            assert re.fullmatch(pattern["pattern"], values["images"][part][field])


def test_every_value_is_used_and_every_used_one_is_there() -> None:
    texts = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    actions = " ".join(found[3] for found in helm.TOKEN.finditer(texts))  # what else is in braces is Istio's
    used = set(re.findall(r"\.Values\.([\w.]+)", actions))

    def leaves(value: Any, path: str) -> set[str]:
        if not isinstance(value, dict) or path.endswith(".resources"):
            return {path}
        return {leaf for name, inner in value.items() for leaf in leaves(inner, f"{path}.{name}".lstrip("."))}

    assert used == leaves(helm.values_of(CHART), "")


UNKNOWN = ("{{ include `x` . }}", "{{ if .Values.a }}", "{{ range .Values.a }}", "{{ .a | upper }}")


@pytest.mark.parametrize("template", UNKNOWN)
def test_what_is_not_known_of_helm_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        helm.text(template, {"Values": {"a": 1}, "a": "b"})
