"""AuthorizationPolicy and RequestAuthentication: what `direct` gives away, and what the rescue keeps (I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.mesh.authorization import parse_policy
from tests.decide.preflight.meshes import ALL, DIRECT, IN, RESCUE, WEB, allowed, ask, codes

pytestmark = pytest.mark.unit


def policy(spec: str, namespace: str = "shop", annotations: str = "{}", name: str = "web") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}}}
spec: {spec}
"""


CHECKOUT = "{action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/checkout]}}]}]}"
DENY_NAMESPACE = "{action: DENY, rules: [{from: [{source: {ipBlocks: [10.1.0.0/16]}}]}]}"
METHODS = "{action: ALLOW, rules: [{to: [{operation: {methods: [GET], paths: [/api/*]}}]}]}"
JWT = '{rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}'
CUSTOM = "{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/admin]}}]}]}"
AUDIT = "{action: AUDIT, rules: [{}]}"


@pytest.mark.parametrize(
    ("spec", "refused", "kept"),
    [
        (CHECKOUT, {"HSW0201"}, 1),
        (DENY_NAMESPACE, {"HSW0201"}, 1),
        ("{}", {"HSW0201"}, 1),  # allows nobody; so does the rescue
        (METHODS, {"HSW0201", "HSW0202"}, 0),
        (JWT, {"HSW0201", "HSW0202"}, 0),
        ("{rules: [{when: [{key: 'request.headers[x-role]', values: [admin]}]}]}", {"HSW0201", "HSW0202"}, 0),
        ("{rules: [{from: [{source: {remoteIpBlocks: [1.2.3.4]}}]}]}", {"HSW0201", "HSW0202"}, 0),
        ("{rules: [{some-field-of-next-year: 1}]}", {"HSW0201", "HSW0202"}, 0),
        (CUSTOM, {"HSW0203"}, 0),
        (AUDIT, set(), 0),
    ],
)
def test_policy_of_the_pods_namespace(spec: str, refused: set[str], kept: int) -> None:
    found = ask(policy(spec))
    assert codes(found) == refused
    assert len(found.authorization) == kept
    assert found.allows(IN, DIRECT) == (not refused)
    assert found.allows(IN, RESCUE) == (not refused & {"HSW0202", "HSW0203"})


def test_what_is_kept_can_be_enforced() -> None:
    (kept,) = ask(policy(CHECKOUT)).authorization
    assert parse_policy(kept).name == "shop/web" and parse_policy(kept).rules


@pytest.mark.parametrize(
    ("namespace", "selector", "applies"),
    [
        ("istio-system", "", True),
        ("istio-system", "selector: {matchLabels: {app: web}}, ", True),
        ("istio-system", "selector: {matchLabels: {app: db}}, ", False),
        ("shop", "selector: {matchLabels: {app: web}}, ", True),
        ("shop", "selector: {matchLabels: {app: web, version: v2}}, ", False),
        ("other", "", False),
        ("shop", "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: in}], ", False),
        ("shop", "targetRef: {kind: Service, name: web}, ", False),
    ],
)
def test_which_policies_select_the_pod(namespace: str, selector: str, applies: bool) -> None:
    found = ask(policy(f"{{{selector}{METHODS[1:]}", namespace))
    assert bool(codes(found)) == applies
    tokens = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: {namespace}}}
spec: {{{selector}jwtRules: [{{issuer: https://idp.example}}]}}
"""
    assert codes(ask(tokens)) == ({"HSW0204"} if applies else set())


def test_dry_run_enforces_nothing() -> None:
    found = ask(policy(CUSTOM, annotations='{istio.io/dry-run: "true"}'))
    assert allowed(found) == ALL


def test_request_authentication_refuses_both_levels() -> None:
    tokens = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec: {jwtRules: [{issuer: https://idp.example}]}
"""
    found = ask(tokens)
    assert not found.allows(IN, RESCUE) and not found.allows(IN, DIRECT)
    assert ask(tokens, accepted=("HSW0204",)).allows(IN, DIRECT)


def test_accepting_one_code_is_not_accepting_another() -> None:
    text = policy(METHODS)
    assert not ask(text, accepted=("HSW0201",)).allows(IN, RESCUE)
    assert ask(text, accepted=("HSW0202",)).allows(IN, RESCUE)
    assert not ask(text, accepted=("HSW0202",)).allows(IN, DIRECT)


def test_several_policies_are_kept_in_the_order_of_their_names() -> None:
    found = ask(policy(DENY_NAMESPACE, name="z") + policy(CHECKOUT, name="a") + policy(AUDIT, name="m"))
    assert [kept["metadata"]["name"] for kept in found.authorization] == ["a", "z"]


def test_pod_of_the_root_namespace_is_asked_once() -> None:
    found = ask(policy(CHECKOUT, "istio-system"), pod=replace(WEB, namespace="istio-system"))
    assert len(found.authorization) == 1
