"""What the proxy enforces on the way out, and what only it can reach (I2, I3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.preflight import Verdict
from tests.decide.preflight.meshes import DIRECT, OUT, RESCUE, WEB, ask, codes
from tests.decide.preflight.test_authorization import CHECKOUT, policy
from tests.decide.preflight.test_clients import rule
from tests.decide.preflight.test_mtls import ROOT_STRICT, SHOP_PERMISSIVE, peer

pytestmark = pytest.mark.unit


def sidecar(spec: str, namespace: str = "shop", name: str = "default", made: str = "2024-05-01T00:00:00Z") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{made}"}}
spec: {spec}
"""


REGISTRY, ANY = "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}"
WEBS = "workloadSelector: {labels: {app: web}}"


@pytest.mark.parametrize(
    ("text", "mesh_wide", "enforced"),
    [
        ("", False, False),
        ("", True, True),
        (sidecar(REGISTRY), False, True),
        (sidecar("{outboundTrafficPolicy: {}}"), False, True),  # its zero value
        (sidecar(ANY), True, False),
        (sidecar('{egress: [{hosts: ["./*"]}]}'), True, True),
        (sidecar(REGISTRY, "istio-system"), False, True),
        (sidecar(REGISTRY, "istio-system") + sidecar(ANY), False, False),
        (sidecar(REGISTRY, "other"), False, False),
        (sidecar(REGISTRY) + sidecar(f"{{{WEBS}, {ANY[1:]}", name="web"), False, False),
        (sidecar(REGISTRY) + sidecar(ANY, name="young", made="2025-01-01T00:00:00Z"), False, True),
        (sidecar(f"{{{WEBS}, {REGISTRY[1:]}", "istio-system"), False, False),
    ],
)
def test_registry_only(text: str, mesh_wide: bool, enforced: bool) -> None:
    found = ask(text, registry_only=mesh_wide)
    assert codes(found) == ({"HSW0501"} if enforced else set())
    assert found.outbound_free != enforced
    assert found.allows(OUT, DIRECT) == found.allows(OUT, RESCUE) == (not enforced)


def virtual_service(hosts: str, target: str, more: str = "", namespace: str = "shop", kind: str = "http") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v, namespace: {namespace}}}
spec:
  hosts: [{hosts}]
  {kind}: [{{route: [{{destination: {{host: {target}}}}}]}}]
  {more}
"""


EGRESS = "istio-egressgateway.istio-system.svc.cluster.local"


@pytest.mark.parametrize(
    ("text", "code", "verdict"),
    [
        (virtual_service("api.example", EGRESS), "HSW0502", Verdict.REFUSE),
        (virtual_service("api.example", EGRESS, kind="tls"), "HSW0502", Verdict.REFUSE),
        (virtual_service("api.example", EGRESS, "gateways: [mesh, istio-system/egress]"), "HSW0502", Verdict.REFUSE),
        (virtual_service("api.example", "other.example"), "HSW0502", Verdict.REFUSE),
        (virtual_service("reviews", "reviews"), "HSW0507", Verdict.DEGRADED),
        (virtual_service("reviews", "reviews-canary"), "HSW0507", Verdict.DEGRADED),
        (virtual_service("reviews", "guard.security.svc.cluster.local"), "HSW0502", Verdict.REFUSE),
        (virtual_service("reviews", "reviews", namespace="other"), "HSW0507", Verdict.DEGRADED),
    ],
)
def test_routes(text: str, code: str, verdict: Verdict) -> None:
    found = ask(text)
    assert codes(found, verdict) == {code}
    assert found.outbound_free == (verdict is Verdict.DEGRADED)


def test_route_that_answers_instead_of_leading() -> None:
    blocked = virtual_service("api.example", "api.example").replace("{route:", "{directResponse: {status: 403}, route:")
    assert codes(ask(blocked)) == {"HSW0502"}


def test_routes_that_do_not_concern_the_pod() -> None:
    assert not ask(virtual_service("api.example", EGRESS, "gateways: [istio-system/egress]")).codes - {"HSW0000"}
    assert not ask(virtual_service("a.b", EGRESS, 'exportTo: ["."]', "other")).codes - {"HSW0000"}
    assert codes(ask(virtual_service("a.b", EGRESS, "exportTo: [shop]", "other"))) == {"HSW0502"}


def test_gateway_api_route_of_a_service() -> None:
    route = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: "", name: reviews}]
  rules: [{backendRefs: [{name: guard, namespace: security, port: 80}]}]
"""
    assert codes(ask(route)) == {"HSW0502"}
    assert not ask(route.replace("kind: Service", "kind: Gateway")).codes - {"HSW0000"}


def test_unknown_hosts_are_led_to_an_egress_proxy() -> None:
    text = sidecar(
        "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out.istio-system.svc, port: {number: 1}}}}"
    )
    assert codes(ask(text)) == {"HSW0502"}
    assert codes(ask(egress_proxy="out.istio-system.svc")) == {"HSW0502"}


@pytest.mark.parametrize(
    ("text", "enforced"),
    [
        (rule("api.example", "SIMPLE"), True),
        (rule("api.example", "SIMPLE", "other"), True),
        (rule("api.example", "SIMPLE", "other", export='exportTo: ["."]'), False),
        (rule("api.example", "MUTUAL", more="workloadSelector: {matchLabels: {app: db}}"), False),
        (rule("api.example", "MUTUAL", more="workloadSelector: {matchLabels: {app: web}}"), True),
        (rule("*.local", "ISTIO_MUTUAL", "istio-system"), True),
        (rule("api.example", "DISABLE"), False),
        (rule("api.example", ""), False),
    ],
)
def test_tls_origination(text: str, enforced: bool) -> None:
    found = ask(text)
    assert bool({"HSW0503", "HSW0508"} & codes(found)) == enforced
    assert found.allows(OUT, RESCUE) != enforced


def test_tls_to_servers_and_mtls_within_the_mesh_are_accepted_apart() -> None:
    text = rule("api.example", "SIMPLE") + rule("*.local", "ISTIO_MUTUAL", name="mesh", export='exportTo: ["."]')
    assert {"HSW0503", "HSW0508"} <= codes(ask(text))
    assert not ask(text, accepted=("HSW0508",)).allows(OUT, DIRECT)
    assert ask(text, accepted=("HSW0503", "HSW0508")).allows(OUT, DIRECT)


DENY_ONE = "{action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]}"
ALL_BUT = "{action: ALLOW, rules: [{from: [{source: {notNamespaces: [shop]}}]}]}"
WHEN = "{action: DENY, rules: [{when: [{key: source.namespace, values: [shop]}]}]}"


@pytest.mark.parametrize(
    ("spec", "escaped"),
    [
        (DENY_ONE, True),
        (ALL_BUT, True),
        (WHEN, True),
        ("{action: DENY, rules: [{from: [{source: {principals: [x]}}], to: [{operation: {paths: [/a]}}]}]}", True),
        (CHECKOUT, False),  # who has no identity is not allowed
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: [cluster.local/ns/a/sa/b]}}]}]}", False),
        ("{action: AUDIT, rules: [{from: [{source: {principals: [x]}}]}]}", False),
    ],
)
def test_denial_by_identity_at_a_destination(spec: str, escaped: bool) -> None:
    text = policy(spec, "payments")
    assert codes(ask(text)) == ({"HSW0504"} if escaped else set())
    assert "HSW0504" not in codes(ask(text + ROOT_STRICT)), "every destination demands an identity"
    assert ("HSW0504" in codes(ask(text + ROOT_STRICT + peer("payments", "PERMISSIVE")))) == escaped


def test_strict_destinations_are_said() -> None:
    found = ask(ROOT_STRICT + SHOP_PERMISSIVE)
    assert codes(found, Verdict.DEGRADED) == {"HSW0505"} and found.outbound_free
    assert found.allows(OUT, DIRECT)


def entry(spec: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e, namespace: shop}}
spec: {spec}
"""


@pytest.mark.parametrize(
    ("spec", "dns_capture", "said"),
    [
        ("{hosts: [db.internal], resolution: STATIC, endpoints: [{address: 10.9.9.9}]}", False, True),
        ("{hosts: [vm.internal], resolution: DNS, endpoints: [{address: real.example}]}", False, True),
        ("{hosts: [api.example], resolution: DNS}", False, False),
        ("{hosts: [api.example], resolution: DNS}", True, True),
        ("{hosts: [api.example], resolution: DNS, addresses: [192.0.2.7]}", True, False),
        ("{hosts: [api.example], resolution: NONE}", False, False),
    ],
)
def test_names_that_only_the_mesh_knows(spec: str, dns_capture: bool, said: bool) -> None:
    found = ask(entry(spec), pod=replace(WEB, dns_capture=dns_capture))
    assert codes(found, Verdict.DEGRADED) == ({"HSW0506"} if said else set())
    assert found.outbound_free and found.allows(OUT, DIRECT)


def test_many_objects_that_say_the_same_are_one_finding() -> None:
    text = "".join(rule("api.example", "SIMPLE", name=f"r{number}") for number in range(9))
    (found,) = [finding for finding in ask(text).findings if finding.code == "HSW0503"]
    assert found.sentence.startswith("DestinationRule shop/r0: traffic to api.example")
    assert found.sentence.endswith(
        "likewise DestinationRule shop/r1, DestinationRule shop/r2, DestinationRule shop/r3, and 5 more"
    )
