"""The Helm chart's templates, made of the kustomizations: one source, so that the two can never say different things.

    python -m hotswitch.sandbox.chart        writes manifests/chart/hotswitch/templates

Each tier and opt-in is rendered, and what it adds to the plain installation becomes a condition. What users may choose
otherwise (images, namespaces, a revision of Istio) is found by its text and becomes a value. The templates use so
little of Helm's language that a test renders them without Helm; another compares the two with Helm itself.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import yaml

from hotswitch.sandbox.manifests import MANIFESTS, render

CHART = MANIFESTS / "chart" / "hotswitch"
PLAIN = "tier-0-observe"
TIERS = ("tier-1-rescue", "tier-2-direct", "tier-3-endpoints")
"""Each has what the one before it has."""
COMPONENTS = ("exec", "ephemeral", "monitoring", "agents")
AGENTS, IN_PODS = "agent-node", "agent-pod"
BESIDE: Mapping[str, str] = {AGENTS: ".Values.agents.enabled", IN_PODS: ".Values.agents.inPods"}
"""Overlays that stand beside a tier, each in a file of its own."""
LAID_OVER: Mapping[str, str] = {"node-account": AGENTS}
"""Components of one of those."""
CONDITIONS: Mapping[str, str] = {
    **{name: f"ge (int .Values.tier) {number}" for number, name in enumerate(TIERS, 1)},
    **{name: f".Values.{name}.enabled" for name in COMPONENTS},
    "agents": ".Values.agents.link",
    "node-account": ".Values.agents.nodeAccount",
}
CONTROLLER = "controller"
HEAD = "{{- /* Made by `python -m hotswitch.sandbox.chart` of the files beside the chart, which say why. */ -}}\n"
_FILES = (
    ("crd", {"CustomResourceDefinition"}),
    ("rights", {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}),
    ("admission", {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}),
    ("monitoring", {"PodMonitor", "PrometheusRule", "ServiceMonitor"}),
)
_REVISION = "{{ if .Values.istio.revision }}-{{ .Values.istio.revision }}{{ end }}"
_NAMESPACE = "kind: Namespace\nmetadata:\n  name: "
_CHOICES = (
    ("hotswitch-system", "{{ .Release.Namespace }}"),
    ("namespace: hotswitch-agents", "namespace: {{ .Values.agents.namespace }}"),
    ("matchNames:\n    - hotswitch-agents", "matchNames:\n    - {{ .Values.agents.namespace }}"),
    (f"{_NAMESPACE}hotswitch-agents", f"{_NAMESPACE}{{{{ .Values.agents.namespace }}}}"),
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
    variants = {name: _objects(name) for name in TIERS} | {name: _objects(PLAIN, name) for name in COMPONENTS}
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for each in (plain, *variants.values()) for key in each):
        known = {name: each[key] for name, each in variants.items() if key in each}
        found.setdefault(_file(key), []).extend(_one(key, plain.get(key), known))
    for name, condition in BESIDE.items():
        found[name] = _under(condition, _beside(name))
    return {f"{name}.yaml": f"{HEAD}{_chosen(name, lines)}\n" for name, lines in found.items()}


def _beside(overlay: str) -> Iterable[str]:
    plain = _objects(overlay)
    variants = {name: _objects(overlay, name) for name, below in LAID_OVER.items() if below == overlay}
    for key, obj in plain.items():
        yield from _merged(obj, {name: each[key] for name, each in variants.items()})
    for name, each in variants.items():
        added = (line for key, obj in each.items() if key not in plain for line in _text_of(obj))
        yield from _under(CONDITIONS[name], added)


def _file(key: Key) -> str:
    return next((name for name, kinds in _FILES if key[0] in kinds), CONTROLLER)


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


def _one(key: Key, plain: Obj | None, variants: Mapping[str, Obj]) -> list[str]:
    """The object under its conditions. `variants`: as each tier, and each component on the plain tier, has it."""
    first = next(iter(variants))
    body = _merged(plain or variants[first], variants)
    if plain is None:
        return _under(CONDITIONS[first], body)
    return _under(".Values.namespace.create", body) if key[0] == "Namespace" else body


def _under(condition: str, lines: Iterable[str]) -> list[str]:
    return [f"{{{{- if {condition} }}}}", *lines, "{{- end }}"]


def _merged(plain: Obj, variants: Mapping[str, Obj]) -> list[str]:
    """What a tier or a component adds stands under its condition, in front of what others add there, as kustomize has
    it. Where a tier changes what is there, each version stands whole."""
    merged = [(line, "") for line in _text_of(plain)]
    below = _text_of(plain)
    for name in CONDITIONS:
        base = below if name in TIERS else _text_of(plain)
        if (here := _text_of(variants[name]) if name in variants else base) == base:
            continue
        steps = SequenceMatcher(None, base, here, autojunk=False).get_opcodes()
        if any(step[0] not in ("equal", "insert") for step in steps):
            return _versions(plain, variants)
        for _, at, _, start, end in reversed([step for step in steps if step[0] == "insert"]):
            place = _place(merged, base, at)
            merged[place:place] = [(line, CONDITIONS[name]) for line in here[start:end]]
        below = here if name in TIERS else below
    return _emitted(merged)


def _place(merged: list[tuple[str, str]], base: list[str], at: int) -> int:
    """Behind the line of `base` that stands before `at`; `merged` has all lines of `base`, in their order."""
    place = 0
    for line in base[:at]:
        place = next(number for number in range(place, len(merged)) if merged[number][0] == line) + 1
    return place


def _emitted(merged: list[tuple[str, str]]) -> list[str]:
    found: list[str] = []
    for condition, group in itertools.groupby(merged, key=lambda each: each[1]):
        lines = [line for line, _ in group]
        found += _under(condition, lines) if condition else lines
    return found


def _versions(plain: Obj, variants: Mapping[str, Obj]) -> list[str]:
    """From the highest tier down."""
    texts = {"": _text_of(plain), **{name: _text_of(variants[name]) for name in TIERS if name in variants}}
    names = list(texts)
    apart = [name for place, name in enumerate(names) if place == 0 or texts[name] != texts[names[place - 1]]]
    found: list[str] = []
    for name in reversed(apart[1:]):
        found += [f"{{{{- {'else ' if found else ''}if {CONDITIONS[name]} }}}}", *texts[name]]
    return [*found, "{{- else }}", *texts[""], "{{- end }}"]


def _text_of(obj: Obj) -> list[str]:
    return ["---", *_lines(obj)]


def _lines(obj: Obj) -> list[str]:
    text = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, width=10_000)
    return str(text).replace("{{", '{{ "{{" }}').splitlines()


# ---- what users choose ----


def _chosen(name: str, lines: list[str]) -> str:
    text = "\n".join(lines)
    for found, value in _CHOICES:
        text = text.replace(found, value)
    for found, value in _PATTERNS.get(name, ()):
        text, number = re.subn(found, value, text)
        assert number == 1, f"{name}: {found} is there {number} times"
    return text


_RESOURCES = r"\n        resources:\n(?:          .*\n)+(?=        securityContext:)"
_PATTERNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "controller": (
        (r"(?m)^(  replicas: )2$", r"\1{{ .Values.controller.replicas }}"),
        (_RESOURCES, "\n        resources:{{ toYaml .Values.controller.resources | nindent 10 }}\n"),
        (
            r"(?m)^(        - name: POD_NAME)$",
            '{{- if ne .Values.istio.namespace "istio-system" }}\n        - name: HOTSWITCH_ROOT_NAMESPACE\n'
            "          value: {{ .Values.istio.namespace }}\n{{- end }}\n" + r"\1",
        ),
    ),
    AGENTS: (
        (
            r"(?m)^(        - name: HOTSWITCH_METRICS_PORT)$",
            "{{- if .Values.agents.drillEvery }}\n        - name: HOTSWITCH_DRILL_EVERY\n"
            "          value: {{ .Values.agents.drillEvery }}\n{{- end }}\n" + r"\1",
        ),
        (_RESOURCES, "\n        resources:{{ toYaml .Values.agents.resources | nindent 10 }}\n"),
    ),
    "rights": ((r"(?m)^(  resourceNames:\n  - istio)$", r"\1" + _REVISION),),
    "crd": ((r"(?s)\A(.*)\Z", "{{- if .Values.crds.enabled }}\n" + r"\1" + "\n{{- end }}"),),
}
"""What is found by more than its words, in the file of that name: exactly once."""


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
