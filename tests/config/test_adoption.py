"""Whether Services of a namespace may be taken over: never by default; a namespace only takes away (I2)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.config.adoption import refusal
from tests.config.objects import ROOT, known

pytestmark = pytest.mark.unit
GIVEN, NEVER = {"adopt": "when-below"}, {"adopt": "never"}


def of(*policies: tuple[str, Any], namespace: str = "shop") -> str:
    return refusal(known(*policies).policies, ROOT, namespace)


@pytest.mark.parametrize(
    ("policies", "why"),
    [
        ([], "default says adopt: never"),
        ([("shop", GIVEN)], "default says adopt: never"),  # a namespace gives itself nothing
        ([(ROOT, GIVEN)], ""),
        ([(ROOT, {**GIVEN, "selector": {"namespaces": ["shop"]}})], ""),
        ([(ROOT, {**GIVEN, "selector": {"namespaces": ["batch"]}})], "default says adopt: never"),
        ([(ROOT, GIVEN), (ROOT, {**NEVER, "selector": {"namespaces": ["shop"]}})], "HotSwitchPolicy istio-system/p1"),
        ([(ROOT, GIVEN), ("shop", NEVER)], "HotSwitchPolicy shop/p1 says adopt: never"),
        ([(ROOT, GIVEN), ("batch", NEVER)], ""),
        ([(ROOT, GIVEN), ("shop", {"adopt": "always"})], "HotSwitchPolicy shop/p1"),  # what it was to forbid is unknown
        ([(ROOT, {**GIVEN, "selector": {"matchLabels": {"app": "web"}}})], "default says adopt: never"),
    ],
)
def test_who_may_say_so(policies: list[tuple[str, Any]], why: str) -> None:
    found = of(*policies)
    assert found.startswith(why) if why else found == ""


def test_a_policy_that_selects_pods_is_told_that_it_may_not() -> None:
    found = known((ROOT, {**GIVEN, "selector": {"matchLabels": {"app": "web"}}}))
    assert [each.field for each in found.problems()] == ["spec.adopt"]
