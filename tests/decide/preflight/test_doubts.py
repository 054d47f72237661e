"""On doubt nothing is opened, and it is said which object is in doubt (I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.preflight import preflight
from hotswitch.model import Mtls
from tests.decide.preflight.meshes import ALL, WEB, allowed, ask, codes, mesh

pytestmark = pytest.mark.unit


def broken(kind: str, spec: str, namespace: str = "shop", group: str = "security.istio.io/v1") -> str:
    return f"""
apiVersion: {group}
kind: {kind}
metadata: {{name: odd, namespace: {namespace}}}
spec: {spec}
"""


NETWORKING = "networking.istio.io/v1"


@pytest.mark.parametrize(
    ("text", "concerns"),
    [
        (broken("PeerAuthentication", "{mtls: {mode: LENIENT}}"), True),
        (broken("PeerAuthentication", "{mtls: {mode: LENIENT}}", "istio-system"), True),
        (broken("PeerAuthentication", "{mtls: {mode: LENIENT}}", "other"), False),
        (broken("PeerAuthentication", "{mtls: {mode: LENIENT}, selector: {matchLabels: {app: db}}}"), False),
        (broken("PeerAuthentication", "{mtls: STRICT}"), True),
        (broken("PeerAuthentication", "{portLevelMtls: {http: {mode: STRICT}}}"), True),
        (broken("PeerAuthentication", "{selector: {matchExpressions: [{key: app}]}}"), True),
        (broken("AuthorizationPolicy", "{action: MAYBE}"), True),
        (broken("AuthorizationPolicy", "{rules: nothing}", "other"), True),
        (broken("AuthorizationPolicy", "{action: MAYBE, selector: {matchLabels: {app: db}}}"), True),
        (broken("RequestAuthentication", "{selector: [web]}"), True),
        (broken("EnvoyFilter", "{configPatches: [{match: {context: SIDEWAYS}}]}", group=NETWORKING), True),
        (broken("WasmPlugin", "{match: [{mode: BOTH}]}", group="extensions.istio.io/v1alpha1"), True),
        (broken("DestinationRule", "{trafficPolicy: {tls: {mode: QUANTUM}}, host: a}", "other", NETWORKING), True),
        (broken("DestinationRule", '{host: [], exportTo: ["."]}', "other", NETWORKING), False),
        (broken("Sidecar", "{outboundTrafficPolicy: {mode: SOME}}", group=NETWORKING), True),
        (broken("Sidecar", "{ingress: [{port: {number: http}}]}", group=NETWORKING), True),
        (broken("VirtualService", "{hosts: all}", "other", NETWORKING), True),
        (broken("ServiceEntry", "{hosts: [a], resolution: MAGIC}", "other", NETWORKING), True),
    ],
)
def test_object_that_is_not_understood(text: str, concerns: bool) -> None:
    found = ask(text, accepted=("HSW0901",))
    assert codes(found) == ({"HSW0901"} if concerns else set())
    assert allowed(found) == (set() if concerns else ALL)
    if concerns:
        assert found.mtls is Mtls.STRICT and not found.outbound_free
        assert "odd" in {finding.object.name for finding in found.findings if finding.object}


def test_kind_of_next_year() -> None:
    text = broken("FilterOfNextYear", "{}", group="extensions.istio.io/v1alpha1")
    assert codes(ask(text)) == {"HSW0902"} and not allowed(ask(text))
    assert allowed(ask(text, accepted=("HSW0902",))) == ALL
    assert allowed(ask(broken("FilterOfNextYear", "{}", "other", "extensions.istio.io/v1alpha1"))) == ALL


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("Telemetry", "telemetry.istio.io/v1"),
        ("Gateway", NETWORKING),
        ("WorkloadEntry", NETWORKING),
        ("ProxyConfig", "networking.istio.io/v1beta1"),
        ("ServiceMonitor", "monitoring.coreos.com/v1"),
    ],
)
def test_what_only_observes_is_the_fast_yes(kind: str, group: str) -> None:
    found = ask(broken(kind, "{}", group=group))
    assert found.codes == {"HSW0000"} and allowed(found) == ALL and found.outbound_free


def test_part_of_the_mesh_that_could_not_be_read() -> None:
    found = preflight(mesh(unread=("envoyfilters.networking.istio.io",)), WEB, frozenset({"HSW0904"}))
    assert codes(found) == {"HSW0904"} and not allowed(found)


def test_pod_that_is_not_understood() -> None:
    found = ask(pod=replace(WEB, doubts=("interceptionMode 'SIDEWAYS'",)))
    assert codes(found) == {"HSW0903"} and not allowed(found)


def test_object_of_a_revision_and_a_pod_of_nobody_knows_whose() -> None:
    text = broken("PeerAuthentication", "{mtls: {mode: STRICT}}").replace(
        "name: odd,", "name: odd, labels: {istio.io/rev: canary},"
    )
    assert codes(ask(text, pod=replace(WEB, revision=""))) == {"HSW0903", "HSW0101"} and not codes(ask(text))
