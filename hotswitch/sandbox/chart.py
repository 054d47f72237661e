"""The Helm chart's templates, made of the kustomizations: one source, so that the two can never say different things.

    python -m hotswitch.sandbox.chart        writes manifests/chart/hotswitch/templates

Each tier and opt-in is rendered, and what it adds to the plain installation becomes a condition. What users may choose
otherwise (images, namespaces, a revision of Istio) is found by its text and becomes a value. The templates use so
little of Helm's language that a test renders them without Helm; another compares the two with Helm itself.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import yaml

from hotswitch.sandbox.manifests import MANIFESTS, render

CHART = MANIFESTS / "chart" / "hotswitch"
FLAGS: Mapping[str, str] = {
    "ephemeral": ".Values.ephemeral.enabled",
    "exec": ".Values.exec.enabled",
    "monitoring": ".Values.monitoring.enabled",
    "tier-1-rescue": "ge (int .Values.tier) 1",
    "tier-2-direct": "ge (int .Values.tier) 2",
}
"""What each adds is laid over in reverse: kustomize puts what comes last in front of a list."""
PLAIN, TOP = "tier-0-observe", "tier-2-direct"
HEAD = "{{- /* Made by `python -m hotswitch.sandbox.chart` of the files beside the chart, which say why. */ -}}\n"
_FILES = (
    ("crd", {"CustomResourceDefinition"}),
    ("rights", {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}),
    ("admission", {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}),
    ("monitoring", {"PrometheusRule", "ServiceMonitor"}),
)
_REVISION = "{{ if .Values.istio.revision }}-{{ .Values.istio.revision }}{{ end }}"
_CHOICES = (
    ("hotswitch-system", "{{ .Release.Namespace }}"),
    ("istiod.istio-system.svc", f"istiod{_REVISION}.istio-system.svc"),
    ("istio-system", "{{ .Values.istio.namespace }}"),
    ("hotswitch-controller:latest", "{{ .Values.images.controller.repository }}:{{ .Values.images.controller.tag }}"),
    ("hotswitch-agent:latest", "{{ .Values.images.agent.repository }}:{{ .Values.images.agent.tag }}"),
    ("'hotswitch-agent:'", "'{{ .Values.images.agent.repository }}:'"),
    ("'hotswitch-agent@sha256:'", "'{{ .Values.images.agent.repository }}@sha256:'"),
)  # fmt: skip
Key = tuple[str, str, str]
Obj = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Long texts as they are read best; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _text)


def templates() -> dict[str, str]:
    """File name -> text, of all that is made."""
    plain = _objects(PLAIN)
    variants = {flag: _with(flag) for flag in FLAGS}
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for each in (plain, *variants.values()) for key in each):
        lines = _one(key, plain.get(key), {flag: each[key] for flag, each in variants.items() if key in each})
        found.setdefault(_file(key), []).append("\n".join(lines))
    return {f"{name}.yaml": HEAD + _chosen("\n".join(texts)) + "\n" for name, texts in found.items()}


def _file(key: Key) -> str:
    return next((name for name, kinds in _FILES if key[0] in kinds), "controller")


def _with(flag: str) -> dict[Key, Obj]:
    return _objects(flag) if flag.startswith("tier") else _objects(PLAIN, flag)


def _objects(overlay: str, *components: str) -> dict[Key, Obj]:
    with tempfile.TemporaryDirectory() as folder:
        up = "/".join([".."] * (len(Path(folder).resolve().parts) - 1)) + str(MANIFESTS)
        said = {
            "resources": [f"{up}/overlays/{overlay}"],
            "components": [f"{up}/components/{name}" for name in components],
        }
        Path(folder, "kustomization.yaml").write_text(json.dumps(said))
        return {_key(obj): obj for obj in render(Path(folder))}


def _key(obj: Obj) -> Key:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


# ---- one object ----


def _one(key: Key, plain: Obj | None, variants: Mapping[str, Obj]) -> Iterator[str]:
    """The object under its conditions. `variants`: as each flag alone has it."""
    if plain is None:
        (flag, *_) = sorted(variants)  # a tier has what the one below it has
        yield from _under(FLAGS[flag], ["---", *_lines(variants[flag])])
        return
    body = ["---", *_merged(_lines(plain), {flag: _lines(each) for flag, each in variants.items()})]
    yield from _under(".Values.namespace.create", body) if key[0] == "Namespace" else body


def _under(condition: str, lines: Iterable[str]) -> list[str]:
    return [f"{{{{- if {condition} }}}}", *lines, "{{- end }}"]


def _lines(obj: Obj) -> list[str]:
    text = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=10_000)
    return str(text).replace("{{", '{{ "{{" }}').splitlines()


def _merged(plain: list[str], variants: Mapping[str, list[str]]) -> list[str]:
    """What a flag adds stands under its condition, at its place; where it changes what is there, both stand."""
    added: dict[int, list[str]] = {}
    for flag in FLAGS:  # the first one's addition goes first
        steps = SequenceMatcher(None, plain, variants.get(flag, plain), autojunk=False).get_opcodes()
        if any(step[0] not in ("equal", "insert") for step in steps):
            return [f"{{{{- if {FLAGS[flag]} }}}}", *variants[flag], "{{- else }}", *plain, "{{- end }}"]
        for kind, at, _, first, last in steps:
            if kind == "insert":
                added.setdefault(at, []).extend(_under(FLAGS[flag], variants[flag][first:last]))
    return [line for at in range(len(plain) + 1) for line in (*added.get(at, ()), *plain[at : at + 1])]


# ---- what users choose ----


def _chosen(text: str) -> str:
    for found, value in _CHOICES:
        text = text.replace(found, value)
    text = re.sub(r"^(  replicas: )2$", r"\1{{ .Values.controller.replicas }}", text, flags=re.MULTILINE)
    text = re.sub(_RESOURCES, _RESOURCES_VALUE, text)
    text = re.sub(_MESH_CONFIG, _MESH_CONFIG_VALUE, text)
    text = re.sub(_ROOT, _ROOT_VALUE, text)
    return re.sub(_CRD, _CRD_VALUE, text)


_RESOURCES = r"\n        resources:\n(?:          .*\n)+(?=        securityContext:)"
_RESOURCES_VALUE = "\n        resources:{{ toYaml .Values.controller.resources | nindent 10 }}\n"
_MESH_CONFIG = r"(  resourceNames:\n  - istio\n)"
_MESH_CONFIG_VALUE = f"  resourceNames:\n  - istio{_REVISION}\n"
_ROOT = r"(        - name: POD_NAME\n)"
_ROOT_VALUE = (
    '{{- if ne .Values.istio.namespace "istio-system" }}\n        - name: HOTSWITCH_ROOT_NAMESPACE\n'
    r"          value: {{ .Values.istio.namespace }}" + "\n{{- end }}\n" + r"\1"
)
_CRD = r"(?s)(---\napiVersion: apiextensions.*\Z)"
_CRD_VALUE = r"{{- if .Values.crds.enabled }}\n\1\n{{- end }}"


def write() -> list[Path]:
    """Raises OSError. What was made earlier and is made no longer is removed."""
    folder, made = CHART / "templates", templates()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.yaml"):
        if path.name not in made and path.read_text().startswith(HEAD):
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text)
    return [folder / name for name in made]


if __name__ == "__main__":
    print("\n".join(map(str, write())))
