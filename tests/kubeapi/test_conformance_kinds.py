"""The kinds that hotswitch writes are held to the same rules by the embedded and by a real API server."""

from __future__ import annotations

import pytest

from hotswitch.sandbox.kubeapi import istio
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
EVENTS = "/api/v1/namespaces/{ns}/events"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NEW_STYLE = {"reportingComponent": "hotswitch.io/c", "reportingInstance": "x", "action": "a", "reason": "r"}


@pytest.mark.parametrize(
    ("spec", "status", "said"),
    [
        ({"acquireTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15, "leaseTransitions": 0}, 201, ""),
        ({"renewTime": "2026-01-01T00:00:00Z"}, 400, "parsing time"),
        ({"renewTime": "2026-01-01T00:00:00.123Z"}, 400, "parsing time"),
        ({"leaseDurationSeconds": "15"}, 400, "cannot unmarshal"),
        ({"leaseDurationSeconds": 0}, 422, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
        ({"leaseTransitions": -1}, 422, "spec.leaseTransitions: Invalid value: -1"),
    ],
)
async def test_lease(api, spec, status, said):
    answer = await api.post(LEASES, {"metadata": {"name": "one"}, "spec": spec}, status=status)
    assert said in answer.get("message", "")


@pytest.mark.parametrize(
    ("event", "status", "said"),
    [
        ({"involvedObject": {"kind": "Pod", "namespace": "{ns}", "name": "x"}}, 201, ""),
        ({"involvedObject": {"kind": "Pod", "namespace": "other"}}, 422, "does not match event.namespace"),
        ({"involvedObject": {"kind": "Node", "name": "x"}}, 422, "does not match event.namespace"),
        ({"eventTime": "2026-01-01T00:00:00Z"}, 400, "parsing time"),
        ({"firstTimestamp": "2026-01-01T00:00:00.123Z"}, 201, ""),
        ({"eventTime": "2026-01-01T00:00:00.000000Z"}, 422, "reportingComponent: Required value"),
        ({"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", **NEW_STYLE}, 201, ""),
        (
            {"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", **NEW_STYLE, "message": "x" * 1025},
            422,
            "can have at most 1024 characters",
        ),
    ],
)
async def test_event(api, event, status, said):
    about = {"namespace": "{ns}", **event.get("involvedObject", {})}
    if about.get("kind") == "Node":
        del about["namespace"]
    about = {field: value.format(ns=api.namespace) for field, value in about.items()}
    answer = await api.post(EVENTS, {"metadata": {"name": "e"}, **event, "involvedObject": about}, status=status)
    assert said in answer.get("message", "")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (
            {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "a", "port": 1}]},
            201,
            "",
        ),
        ({"endpoints": []}, 422, "addressType: Required value"),
        ({"addressType": "IPv4", "endpoints": [{"addresses": []}]}, 422, "must contain at least 1 address"),
        ({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}, 422, "loopback"),
        ({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 1}, {"port": 2}]}, 422, "Duplicate value"),
    ],
)
async def test_endpoint_slice(api, body, status, said):
    answer = await api.post(SLICES, {"metadata": {"name": "one"}, **body}, status=status)
    assert said in answer.get("message", "")


async def test_endpoint_slice_without_endpoints_has_null_ones(api):
    made = await api.post(SLICES, {"metadata": {"name": "one"}, "addressType": "IPv4"})
    assert made["endpoints"] is None and made["ports"] is None


async def test_istio_definitions_are_accepted(api):
    for each in istio.definitions():
        await api.post(DEFINITIONS, each, dryRun="All", status=(201, 409))
