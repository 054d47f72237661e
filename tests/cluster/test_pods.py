"""What is kept of ten thousand pods: what they have in common once, and those of their conditions that are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hotswitch.cluster import objects
from hotswitch.cluster.pods import Pod

pytestmark = pytest.mark.unit
OWNER = {"kind": "ReplicaSet", "name": "shop-5d9f", "uid": "o", "controller": True}


def read(name: str, image: str = "shop:1", conditions: Any = ()) -> Pod:
    content = {
        "metadata": {"name": name, "namespace": "shops", "labels": {"app": "shop"}, "ownerReferences": [OWNER]},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": image, "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "conditions": list(conditions)},
    }
    return msgspec.json.decode(msgspec.json.encode(content), type=Pod)


def test_replicas_have_one_copy_of_what_they_share() -> None:
    one, other = read("a"), read("b")
    assert one.spec.containers is other.spec.containers
    assert one.metadata.owner_references is other.metadata.owner_references
    assert one.spec.node_name is other.spec.node_name and one.labels["app"] is other.labels["app"]


def test_what_differs_is_not_shared() -> None:
    one, other = read("a"), read("b", image="shop:2")
    assert one.spec.containers and other.spec.containers
    assert (one.spec.containers[0].image, other.spec.containers[0].image) == ("shop:1", "shop:2")


def test_what_is_shared_does_not_grow_for_ever() -> None:
    for number in range(objects.PARTS_AT_MOST + 100):
        read("a", image=f"shop:{number}")
    assert objects.parts_kept() <= objects.PARTS_AT_MOST


def test_conditions_that_are_asked_for_are_kept() -> None:
    kinds = ("PodScheduled", "Ready", "ContainersReady", "DisruptionTarget", "hotswitch.io/Captured", "of/another")
    pod = read("a", conditions=[{"type": kind, "status": "True"} for kind in kinds])
    assert [kind for kind in kinds if pod.condition(kind)] == ["Ready", "DisruptionTarget", *kinds[4:]]
    assert pod.is_ready
