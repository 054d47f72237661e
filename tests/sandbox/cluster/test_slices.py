"""What is in the slices of a Service: a table of pods, without any of them."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.sandbox.cluster import slices

pytestmark = pytest.mark.unit


def _pod(number: int, *, ready: bool = True, ending: bool = False, phase: str = "Running") -> dict[str, Any]:
    metadata = {"name": f"web-{number:04}", "namespace": "default", "uid": str(number), "labels": {"app": "web"}}
    app = {"name": "app", "ports": [{"name": "http", "containerPort": 80}]}
    return {
        "metadata": metadata | ({"deletionTimestamp": "now"} if ending else {}),
        "spec": {"nodeName": "node-a", "containers": [app]},
        "status": {
            "phase": phase,
            "podIPs": [{"ip": f"10.0.{number >> 8}.{number & 255}"}, {"ip": f"fd00::{number:x}"}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def _service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 8080, "targetPort": "http"}]
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }


def test_more_endpoints_than_a_slice_holds() -> None:
    found = slices.wanted(_service(), [_pod(number) for number in range(250)])
    assert [len(each["endpoints"]) for each in found] == [100, 100, 50]
    assert found[0]["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}], "by the container's name for it"


@pytest.mark.parametrize(
    ("pod", "publish", "conditions"),
    [
        (_pod(1), False, (True, True, False)),
        (_pod(1, ready=False), False, (False, False, False)),
        (_pod(1, ending=True), False, (False, True, True)),
        (_pod(1, ready=False), True, (True, False, False)),
        (_pod(1, ending=True), True, (True, True, True)),
    ],
)
def test_unready_pod_is_served(pod: dict[str, Any], publish: bool, conditions: tuple[bool, ...]) -> None:
    (found,) = slices.wanted(_service(publishNotReadyAddresses=publish), [pod])
    assert tuple(found["endpoints"][0]["conditions"].values()) == conditions


def test_ended_pod_is_served() -> None:
    assert slices.wanted(_service(), [_pod(1, phase="Succeeded"), _pod(2, phase="Failed")]) == []


def test_two_families_in_one_slice() -> None:
    found = slices.wanted(_service(ipFamilies=["IPv4", "IPv6"]), [_pod(1)])
    assert [(each["addressType"], each["endpoints"][0]["addresses"]) for each in found] == [
        ("IPv4", ["10.0.0.1"]),
        ("IPv6", ["fd00::1"]),
    ]


def test_headless_service_is_taken_for_an_ordinary_one() -> None:
    (found,) = slices.wanted(_service(clusterIP="None"), [_pod(1)])
    assert slices.HEADLESS in found["labels"] and not slices.managed(_service(selector=None))
