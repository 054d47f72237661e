"""Pods that cannot be bypassed, and what of their apps only the proxy reaches (I2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotswitch.decide.preflight import Verdict
from hotswitch.mesh.pod import TRUSTS_HEADERS
from tests.decide.preflight.meshes import DIRECT, IN, OUT, RESCUE, WEB, allowed, ask, codes, with_annotation
from tests.decide.preflight.test_outbound import sidecar

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"interception": "NONE"}, "HSW0601"),
        ({"envoy_disabled": True}, "HSW0602"),
        ({"host_network": True}, "HSW0603"),
        ({"gateway": True, "sidecar": False}, "HSW0604"),
        ({"sidecar": False}, "HSW0605"),
        ({"sidecar": False, "ambient": True}, "HSW0605"),
    ],
)
def test_pod_that_is_not_ours(change: dict[str, Any], code: str) -> None:
    found = ask(pod=replace(WEB, **change), accepted=(code,))
    assert code in codes(found) and not allowed(found) and not found.outbound_free


def test_clients_by_hbone() -> None:
    found = ask(pod=replace(WEB, hbone=True))
    assert codes(found) == {"HSW0606"}
    assert not found.allows(IN, RESCUE) and found.allows(OUT, DIRECT)


@pytest.mark.parametrize("said", [None, "true", "False", ""])
def test_app_that_may_trust_headers(said: str | None) -> None:
    pod = replace(WEB, annotations={}) if said is None else with_annotation(TRUSTS_HEADERS, said)
    found = ask(pod=pod, accepted=("HSW0607",))
    assert codes(found) == {"HSW0607"}, "nobody but the workload may say it"
    assert not found.allows(IN, DIRECT) and found.allows(IN, RESCUE)


@pytest.mark.parametrize(
    ("listener", "closed"),
    [
        ("port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: 127.0.0.1:8080", {8080}),
        ("port: {number: 8080}, defaultEndpoint: unix:///run/app.sock", {8080}),
        ("port: {number: 8080}, defaultEndpoint: 0.0.0.0:9999", {8080}),
        ("port: {number: 8080}, defaultEndpoint: 0.0.0.0:8080", set()),
        ("port: {number: 8080}", set()),
        ("port: {number: 8080}, tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}", {8080}),
    ],
)
def test_listener_of_a_sidecar(listener: str, closed: set[int]) -> None:
    found = ask(sidecar(f"{{ingress: [{{{listener}}}]}}"))
    assert found.closed_ports(IN, DIRECT) == closed and found.allows(IN, DIRECT)
    assert found.allows(IN, RESCUE) and codes(found, Verdict.DEGRADED) == ({"HSW0608"} if closed else set())


def test_app_behind_localhost() -> None:
    assert codes(ask(local_only=True)) == {"HSW0609"}
    assert not ask(local_only=True).allows(IN, DIRECT)
    assert not codes(ask(local_only=True, pod=replace(WEB, local_only=False)))
    assert codes(ask(pod=replace(WEB, local_only=True))) == {"HSW0609"}
