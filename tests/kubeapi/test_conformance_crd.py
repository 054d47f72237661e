"""Custom resources behave alike on the embedded and on a real API server: schema, defaults, pruning, CEL, status."""

from __future__ import annotations

import secrets

import pytest

from tests.kubeapi.client import APPLY, MERGE, STRATEGIC, eventually
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
SPEC = {
    "type": "object",
    "required": ["low"],
    "x-kubernetes-validations": [
        {"rule": "self.low <= self.high", "message": "low is above high"},
        {"rule": "self.low >= oldSelf.low", "message": "low never falls"},
    ],
    "properties": {
        "low": {"type": "integer", "minimum": 0, "maximum": 100},
        "high": {"type": "integer", "default": 10},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "name": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
        "share": {"x-kubernetes-int-or-string": True},
        "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "nested": {"type": "object", "properties": {"x": {"type": "integer", "default": 1}}},
        "when": {"type": "string", "format": "date-time"},
    },
}
STATUS = {"type": "object", "properties": {"seen": {"type": "integer"}}}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definition(group, spec=SPEC):
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": STATUS}}
    version = {"served": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gauges.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gauges", "singular": "gauge", "kind": "Gauge", "listKind": "GaugeList"},
            "versions": [
                {"name": "v1", "storage": True, **version},
                {"name": "v1beta1", "storage": False, **version},
            ],
        },
    }


@pytest.fixture
def group(api, runner):
    """A group of the test's own with the kind Gauge, served when the test begins."""
    name = f"g{secrets.token_hex(4)}.example.com"

    async def served():
        found = await api.get(f"{DEFINITIONS}/gauges.{name}")
        conditions = (found.get("status") or {}).get("conditions") or []
        established = any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
        found = await api.get(f"/apis/{name}/v1/namespaces/{{ns}}/gauges", status=(200, 404), raw=True)
        return established and b"GaugeList" in found

    runner.run(api.post(DEFINITIONS, definition(name)))
    runner.run(eventually(served))
    yield name
    runner.run(api.delete(f"{DEFINITIONS}/gauges.{name}"))


def gauge(group, spec, name="one", version="v1"):
    return {"apiVersion": f"{group}/{version}", "kind": "Gauge", "metadata": {"name": name}, "spec": spec}


def path(group, name="", version="v1"):
    return f"/apis/{group}/{version}/namespaces/{{ns}}/gauges" + (f"/{name}" if name else "")


async def test_defaults_and_pruning(api, group):
    spec = {"low": 1, "other": 1, "nested": {"y": 2}, "free": {"a": {"b": 1}}, "name": None}
    made = await api.post(path(group), gauge(group, spec))
    assert made["spec"] == {"low": 1, "high": 10, "nested": {"x": 1}, "free": {"a": {"b": 1}}}
    assert made["metadata"]["generation"] == 1
    assert (await api.get(path(group)))["items"][0]["kind"] == "Gauge"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "spec.low: Required value"),
        ({"low": None}, "spec.low: Required value"),
        ({"low": -1}, "spec.low: Invalid value: -1: spec.low in body should be greater than or equal to 0"),
        ({"low": 101}, "spec.low: Invalid value: 101: spec.low in body should be less than or equal to 100"),
        ({"low": "x"}, 'spec.low: Invalid value: "string": spec.low in body must be of type integer: "string"'),
        ({"low": 1.5}, 'spec.low: Invalid value: "number": spec.low in body must be of type integer: "number"'),
        ({"low": 20}, 'spec: Invalid value: "object": low is above high'),
        ({"low": 1, "mode": "c"}, 'spec.mode: Unsupported value: "c": supported values: "a", "b"'),
        ({"low": 1, "name": "A"}, 'spec.name: Invalid value: "A": spec.name in body should be at least 2 chars long'),
        ({"low": 1, "name": "AB"}, "spec.name: Invalid value: \"AB\": spec.name in body should match '^[a-z]+$'"),
        ({"low": 1, "name": "abcde"}, "spec.name: Too long: may not be more than 4 bytes"),
        ({"low": 1, "tags": ["a", "b", "c"]}, "spec.tags: Too many: 3: must have at most 2 items"),
        ({"low": 1, "tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
        ({"low": 1, "labels": {"a": 1}}, "spec.labels.a in body must be of type string"),
        ({"low": 1, "when": "x"}, "spec.when in body must be of type date-time"),
        ({"low": 1, "share": 1.5}, "spec.share in body must be of type integer,string"),
    ],
)
async def test_wrong_values_are_said(api, group, spec, said):
    refused = await api.post(path(group), gauge(group, spec), status=422)
    assert f'Gauge.{group} "one" is invalid' in refused["message"]
    assert said in refused["message"]
    unchecked = "some validation rules were not checked" in refused["message"]
    by_type = ("Required", "of type", "Unsupported", "Too ")
    assert unchecked == any(word in said for word in by_type)


async def test_rules_about_changes(api, group):
    await api.post(path(group), gauge(group, {"low": 2}))
    refused = await api.patch(path(group, "one"), {"spec": {"low": 1}}, status=422)
    assert 'spec: Invalid value: "object": low never falls' in refused["message"]
    changed = await api.patch(path(group, "one"), {"spec": {"low": 3}})
    assert changed["metadata"]["generation"] == 2


async def test_status_takes_nothing_but_the_status(api, group):
    await api.post(path(group), {**gauge(group, {"low": 1}), "status": {"seen": 1}})
    patch = {
        "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["example.com/x"]},
        "spec": {"low": 5},
        "status": {"seen": 3, "unseen": 4},
    }
    changed = await api.patch(f"{path(group, 'one')}/status", patch)
    assert changed["status"] == {"seen": 3} and changed["spec"]["low"] == 1
    assert not {"labels", "annotations", "finalizers"} & changed["metadata"].keys()
    assert changed["metadata"]["generation"] == 1
    assert (await api.patch(path(group, "one"), {"status": {"seen": 9}}))["status"] == {"seen": 3}
    await api.patch(f"{path(group, 'one')}/status", {"status": {"seen": "x"}}, status=422)


async def test_another_version_shows_the_same_object(api, group):
    made = await api.post(path(group), gauge(group, {"low": 1}))
    same = await api.get(path(group, "one", "v1beta1"))
    assert same["apiVersion"] == f"{group}/v1beta1" and same["metadata"]["uid"] == made["metadata"]["uid"]
    async with api.watch(path(group, version="v1beta1"), resourceVersion="0") as events:
        assert (await events.next())[1]["apiVersion"] == f"{group}/v1beta1"


async def test_strategic_merge_is_for_built_in_kinds(api, group):
    await api.post(path(group), gauge(group, {"low": 1}))
    await api.patch(path(group, "one"), {"spec": {"low": 2}}, STRATEGIC, status=415)
    await api.patch(path(group, "one"), {"spec": {"low": 2}}, MERGE)
    config = gauge(group, {"low": 3})
    await api.patch(path(group, "one"), config, APPLY, fieldManager="test", force="true")


async def test_strict_writing_names_unknown_fields(api, group):
    spec = {"low": 1, "oops": 2, "nested": {"y": 1}}
    refused = await api.post(path(group), gauge(group, spec), fieldValidation="Strict", status=400)
    assert 'strict decoding error: unknown field "spec.nested.y", unknown field "spec.oops"' in refused["message"]


async def test_selectors_know_only_names(api, group):
    await api.get(path(group), fieldSelector="spec.low=1", status=400)


async def test_definition_that_is_not_structural(api):
    broken = definition("broken.example.com", {"properties": {"low": {"type": "integer"}}})
    refused = await api.post(DEFINITIONS, broken, status=422)
    assert "Required value: must not be empty" in refused["message"]


async def test_rule_that_cannot_be_read(api):
    spec = {**SPEC, "x-kubernetes-validations": [{"rule": "self.low <="}]}
    refused = await api.post(DEFINITIONS, definition("broken.example.com", spec), status=422)
    assert "compilation failed" in refused["message"]


async def test_deleted_definition_takes_its_objects_with_it(api, group):
    await api.post(path(group), gauge(group, {"low": 1}))
    other = definition(f"x{group}")
    await api.post(DEFINITIONS, other)
    await api.delete(f"{DEFINITIONS}/{other['metadata']['name']}")

    async def gone():
        return await api.get(path(f"x{group}"), status=(200, 404), raw=True) is not None

    assert await eventually(gone)
