"""CEL as Kubernetes uses it, and what happens where cel-python is missing: a refusal, never a silent yes."""

from __future__ import annotations

import sys

import pytest

from hotswitch.sandbox.kubeapi.cel import CelError, Expression, cel, duration_s
from hotswitch.sandbox.kubeapi.failure import ApiError
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.kubeapi.test_conformance_crd import SPEC, definition

pytestmark = pytest.mark.k8s

OBJECT = {"metadata": {"name": "w", "labels": {"a": "b"}}, "spec": {"n": 3, "words": ["x", "y"]}}


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("object.spec.n > 2", True),
        ("has(object.metadata.annotations)", False),
        ("object.metadata.labels.all(k, k in oldObject.metadata.labels)", True),
        ("object.spec == oldObject.spec && object != null", True),
        ("object.spec.n != null && null != object && !(null != null) && 1 != 2 && !('a' != 'a')", True),
        ("(has(object.data) ? dyn(object.data) : {}).size() == 0", True),
        ("object.spec.words.filter(w, w != 'x') == ['y']", True),
        ("'a,b'.split(',').size() == 2 && 'A'.lowerAscii() == 'a' && ' x '.trim() == 'x'", True),
        ("duration('1h30m') > duration('80m')", True),
        ("'web-0'.matches('^[a-z]+-[0-9]$')", True),
    ],
)
def test_expressions(text, true):
    assert Expression(text).holds({"object": cel(OBJECT), "oldObject": cel(OBJECT)}) is true


@pytest.mark.parametrize(
    "text", ["object.nothing", "object.spec.n", "object.spec.n / 0 == 1", "object.nothing != null"]
)
def test_what_fails_or_is_no_boolean_is_an_error(text):
    with pytest.raises(CelError):
        Expression(text).holds({"object": cel(OBJECT)})


def test_strings_of_format_duration_are_durations():
    schema = {"properties": {"lasts": {"type": "string", "format": "duration"}}}
    assert Expression("self.lasts < duration('1h')").holds({"self": cel({"lasts": "59m"}, schema)})


@pytest.mark.parametrize(("text", "seconds"), [("1h30m", 5400), ("0.5s", 0.5), ("250ms", 0.25), ("-1m", -60)])
def test_durations_as_go_writes_them(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "1d", "s", "1h 2m"])
def test_what_is_no_duration(text):
    with pytest.raises(CelError):
        duration_s(text)


def test_without_cel_python_rules_are_refused_with_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "celpy", None)
    api = EmbeddedApi()
    with pytest.raises(ApiError, match="the Python package cel-python is missing"):
        api.admin.create(definition("one.example.com"))
    plain = {field: value for field, value in SPEC.items() if field != "x-kubernetes-validations"}
    assert api.admin.create(definition("two.example.com", plain))
    policy = {"matchConstraints": {"resourceRules": []}, "validations": [{"expression": "true"}]}
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
    with pytest.raises(ApiError, match="the Python package cel-python is missing"):
        api.admin.create({**kind, "metadata": {"name": "p"}, "spec": policy})
