"""What users wrote and cannot be used is said once, and no longer counted when it is mended or gone (S4.6)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hotswitch.api import names
from hotswitch.cluster.pods import Pod
from hotswitch.config.objects import Problem
from hotswitch.controller.picture import Picture
from tests.controller.world import SHIFT_S

pytestmark = pytest.mark.unit


def told() -> tuple[Picture, list[Problem]]:
    said: list[Problem] = []
    return Picture(None, "istio-system", lambda: SHIFT_S, said.append), said  # type: ignore[arg-type]


def pod(uid: str = "u1", **annotations: str) -> Pod:
    about = {"name": "web-0", "namespace": "shop", "uid": uid, "resourceVersion": "1", "annotations": annotations}
    spec = {"containers": [{"name": "app"}, {"name": "istio-proxy"}]}
    return msgspec.convert({"metadata": about, "spec": spec, "status": {}}, Pod)


def policy(expiry: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "mesh", "namespace": "istio-system", "uid": "p1"},
        "spec": {"timings": {"expiry": expiry}},
    }


def seen(picture: Picture, each: Pod) -> None:
    """As the watch shows it."""
    picture.pod_there(each)
    picture.watched(each)


BROKEN = {names.OVERRIDE: "sideways"}


def test_pod_is_mended() -> None:
    picture, said = told()
    seen(picture, pod(**BROKEN))
    seen(picture, pod(**BROKEN))
    assert len(said) == 1 and picture.invalid.by_kind == {"Pod": 1}
    seen(picture, pod())
    assert picture.invalid.by_kind == {} and picture.invalid.problems == ()
    seen(picture, pod(**BROKEN))
    assert len(said) == 2


def test_pod_is_deleted_and_another_takes_its_name() -> None:
    """A StatefulSet's pods keep their names; the end of the old one may be heard after the beginning of the new."""
    picture, said = told()
    seen(picture, pod("u1", **BROKEN))
    seen(picture, pod("u2", **BROKEN))
    picture.pod_gone(pod("u1"))
    assert len(said) == 2 and picture.invalid.by_kind == {"Pod": 1}
    picture.pod_gone(pod("u2"))
    assert picture.invalid.by_kind == {}


def test_one_of_two_values_is_mended() -> None:
    picture, said = told()
    seen(picture, pod(**BROKEN, **{"hotswitch.io/expiry": "soon"}))
    seen(picture, pod(**BROKEN))
    assert len(said) == 2 and len(picture.invalid.problems) == 1 and picture.invalid.by_kind == {"Pod": 1}


def test_policy_is_mended_or_deleted() -> None:
    picture, said = told()
    picture.policy_there(policy("soon"))
    assert said and picture.invalid.by_kind == {names.KIND: 1}
    picture.policy_there(policy("60s"))
    assert picture.invalid.by_kind == {}
    picture.policy_there(policy("soon"))
    picture.policy_gone("istio-system", "mesh")
    assert picture.invalid.by_kind == {}


def test_namespace_is_mended_or_deleted() -> None:
    picture, said = told()
    broken = {names.MODE_LABEL: "perhaps"}
    picture.namespace_there("shop", "n1", broken, {})
    assert said and picture.invalid.by_kind == {"Namespace": 1}
    picture.namespace_there("shop", "n1", {}, {})
    assert picture.invalid.by_kind == {}
    picture.namespace_there("shop", "n1", broken, {})
    picture.namespace_gone("shop")
    assert picture.invalid.by_kind == {}


def test_pod_in_an_invalid_namespace_is_not_invalid_itself() -> None:
    picture, _ = told()
    picture.namespace_there("shop", "n1", {names.MODE_LABEL: "perhaps"}, {})
    seen(picture, pod())
    assert picture.invalid.by_kind == {"Namespace": 1}
