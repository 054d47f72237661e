"""Who may have Services told to the mesh as Istio's configuration: only whom the root namespace gives it (I2)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.backends import USUAL_OUTPUTS, Output
from hotswitch.config.settings import Settings

pytestmark = pytest.mark.unit

EVERY = ["slices", "xds", "istio"]


def policy(namespace: str, name: str, outputs: list[str] | None, **selector: Any) -> dict[str, Any]:
    endpoints = {} if outputs is None else {"endpoints": {"outputs": outputs}}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"selector": selector, **endpoints}}


def given(*policies: dict[str, Any], namespace: str = "shop") -> frozenset[Output]:
    settings = Settings("istio-system")
    for each in policies:
        settings.put_policy(each)
    return settings.outputs(namespace)


def test_nobody_says_anything() -> None:
    assert given() == USUAL_OUTPUTS == {Output.SLICES, Output.XDS}


def test_the_root_namespace_gives_it_to_all_or_to_some() -> None:
    assert given(policy("istio-system", "mesh", EVERY)) == set(Output)
    some = policy("istio-system", "some", EVERY, namespaces=["shop"])
    assert given(some) == set(Output)
    assert given(some, namespace="bank") == USUAL_OUTPUTS


def test_a_namespace_can_only_take_away() -> None:
    assert given(policy("shop", "own", EVERY)) == USUAL_OUTPUTS
    assert given(policy("istio-system", "mesh", EVERY), policy("shop", "own", ["slices"])) == {Output.SLICES}
    assert given(policy("istio-system", "mesh", EVERY), policy("bank", "own", ["slices"])) == set(Output)


def test_labels_alone_give_nothing() -> None:
    assert given(policy("istio-system", "labels", EVERY, matchLabels={"app": "db"})) == USUAL_OUTPUTS
    settings = Settings("istio-system")
    found = settings.put_policy(policy("istio-system", "labels", EVERY, matchLabels={"app": "db"}))
    assert [each.field for each in found.problems] == ["spec.endpoints"]


def test_a_word_that_is_none_is_named() -> None:
    found = Settings("istio-system").put_policy(policy("istio-system", "mesh", ["slices", "files"]))
    assert found.problems[0].field == "spec.endpoints.outputs[1]" and "files" in str(found.problems[0])
