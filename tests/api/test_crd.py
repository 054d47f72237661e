"""The CRD, the model that reads policies and the file that is applied say the same (S4.6)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import celpy
import pytest
import yaml
from celpy.adapter import json_to_cel
from pydantic import BaseModel

from hotswitch.api.crd import camel_case, crd, text
from hotswitch.api.fields import InvalidValues
from hotswitch.api.policy import PolicySpec, parse
from hotswitch.model import Dependency

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
GOOD = yaml.safe_load((DATA / "good.yaml").read_text())
BAD = yaml.safe_load((DATA / "bad.yaml").read_text())
SPEC = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_the_file_that_is_applied_is_what_the_code_says() -> None:
    assert (ROOT / "manifests/base/crd.yaml").read_text() == text(), (
        "python -m hotswitch.api.crd > manifests/base/crd.yaml"
    )


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def same_fields(model: type[BaseModel], schema: dict[str, Any], path: str) -> None:
    schema = schema.get("items", schema)
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert fields.keys() == schema["properties"].keys(), path
    required = {name for name, field in fields.items() if field.is_required()}
    assert required == set(schema.get("required", [])), path
    for name, field in fields.items():
        for inner in models_in(field.annotation):
            same_fields(inner, schema["properties"][name], f"{path}.{name}")


def test_every_field_of_the_model_is_in_the_schema_and_the_other_way_round() -> None:
    same_fields(PolicySpec, SPEC, "spec")


def test_a_dependencys_name_is_the_same_in_both() -> None:
    fields = {field.alias for field in PolicySpec.model_fields["dependencies"].annotation.model_fields.values()}
    assert fields == {camel_case(dependency) for dependency in Dependency}


@pytest.mark.parametrize("example", GOOD, ids=lambda example: str(example["name"]))
def test_a_good_spec_is_read(example: dict[str, Any]) -> None:
    parse(example["spec"])


@pytest.mark.parametrize("example", BAD, ids=lambda example: str(example["name"]))
def test_a_bad_spec_is_refused_where_it_is_wrong(example: dict[str, Any]) -> None:
    with pytest.raises(InvalidValues) as refusal:
        parse(example["spec"])
    parent = re.sub(r"(\[\d+\]|\.\w+)$", "", example["field"])
    assert any(example["field"].startswith(wrong.field) or wrong.field == parent for wrong in refusal.value.found)


def rules_on(schema: dict[str, Any], value: Any, path: str) -> Iterator[tuple[str, str, str, Any]]:
    """(path, expression, message, value): every rule that stands on a part of the value."""
    for rule in schema.get("x-kubernetes-validations", []):
        yield path, rule["rule"], rule["message"], value
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from rules_on(schema["items"], item, f"{path}[{place}]")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from rules_on(schema.get("properties", {}).get(name, {}), inner, f"{path}.{name}")


def holds(expression: str, value: Any) -> bool:
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return bool(program.evaluate({"self": json_to_cel(value)}))


@pytest.mark.parametrize("example", GOOD, ids=lambda example: str(example["name"]))
def test_no_rule_refuses_a_good_spec(example: dict[str, Any]) -> None:
    broken = [each[:3] for each in rules_on(SPEC, example["spec"], "spec") if not holds(each[1], each[3])]
    assert broken == []


@pytest.mark.parametrize(
    "example", [each for each in BAD if each["by"] == "cel"], ids=lambda example: str(example["name"])
)
def test_a_rule_refuses_with_a_sentence(example: dict[str, Any]) -> None:
    broken = [each for each in rules_on(SPEC, example["spec"], "spec") if not holds(each[1], each[3])]
    assert [path for path, _, _, _ in broken] == [example["field"]]
    assert example["says"] in broken[0][2]


def bounded(schema: dict[str, Any], path: str) -> Iterator[str]:
    """What has no bound: the API server must know what a rule may cost."""
    most = {"string": "maxLength", "array": "maxItems"}.get(schema.get("type", ""))
    if most and most not in schema and "enum" not in schema:
        yield path
    if "additionalProperties" in schema and "maxProperties" not in schema:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from bounded(inner, f"{path}.{name}")
    yield from bounded(schema["items"], f"{path}[]") if "items" in schema else ()


def test_everything_in_a_spec_has_a_bound() -> None:
    assert list(bounded(SPEC, "spec")) == []
