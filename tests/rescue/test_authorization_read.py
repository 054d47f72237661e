"""AuthorizationPolicies as they are read from the API's objects (I2)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.rescue.authorization import (
    Action,
    AuthorizationPolicy,
    Condition,
    Operation,
    Rule,
    Source,
    UnsupportedAuthorization,
    parse_policy,
)

pytestmark = pytest.mark.unit


def manifest(spec: dict[str, Any], **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "shop", "annotations": annotations}, "spec": spec}


def test_whole_policy_is_read() -> None:
    source = {"principals": ["cluster.local/ns/a/sa/x"], "notNamespaces": ["b"], "ipBlocks": ["10.1.2.3"]}
    spec = {
        "selector": {"matchLabels": {"app": "web"}},
        "action": "DENY",
        "rules": [
            {
                "from": [{"source": source}],
                "to": [{"operation": {"ports": ["80"], "notPorts": ["443"]}}],
                "when": [{"key": "destination.port", "notValues": ["22"]}],
            },
            {},
        ],
    }
    assert parse_policy(manifest(spec)) == AuthorizationPolicy(
        "shop/p",
        Action.DENY,
        (
            Rule(
                (Source(principals=("cluster.local/ns/a/sa/x",), not_namespaces=("b",), ip_blocks=("10.1.2.3/32",)),),
                (Operation((80,), (443,)),),
                (Condition("destination.port", (), ("22",)),),
            ),
            Rule(),
        ),
    )


def test_defaults_are_istios() -> None:
    assert parse_policy(manifest({})) == AuthorizationPolicy("shop/p", Action.ALLOW, ())


def test_dry_run_enforces_nothing() -> None:
    policy = parse_policy(manifest({"action": "DENY", "rules": [{}]}, **{"istio.io/dry-run": "true"}))
    assert policy.action is Action.AUDIT


def _from(**source: Any) -> dict[str, Any]:
    return {"rules": [{"from": [{"source": source}]}]}


def _to(**operation: Any) -> dict[str, Any]:
    return {"rules": [{"to": [{"operation": operation}]}]}


def _when(**condition: Any) -> dict[str, Any]:
    return {"rules": [{"when": [condition]}]}


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({"action": "CUSTOM", "provider": {"name": "x"}}, "spec.provider", {"name": "x"}),
        ({"action": "CUSTOM"}, "spec.action", "CUSTOM"),
        ({"targetRefs": [{"name": "gw"}]}, "spec.targetRefs", [{"name": "gw"}]),
        (_to(methods=["GET"]), "spec.rules[0].to[0].operation.methods", ["GET"]),
        (_to(ports=["80"], paths=["/a"]), "spec.rules[0].to[0].operation.paths", ["/a"]),
        (_to(hosts=["h"]), "spec.rules[0].to[0].operation.hosts", ["h"]),
        (_to(ports=["http"]), "spec.rules[0].to[0].operation.ports", "http"),
        (_to(ports=["70000"]), "spec.rules[0].to[0].operation.ports", "70000"),
        (_to(ports=[]), "spec.rules[0].to[0].operation.ports", []),
        (_to(ports=[80]), "spec.rules[0].to[0].operation.ports", [80]),
        (_to(), "spec.rules[0].to[0].operation", {}),
        (_from(requestPrincipals=["*"]), "spec.rules[0].from[0].source.requestPrincipals", ["*"]),
        (_from(remoteIpBlocks=["10.0.0.0/8"]), "spec.rules[0].from[0].source.remoteIpBlocks", ["10.0.0.0/8"]),
        (_from(serviceAccounts=["a/b"]), "spec.rules[0].from[0].source.serviceAccounts", ["a/b"]),
        (_from(ipBlocks=["10.0.0.300"]), "spec.rules[0].from[0].source.ipBlocks", "10.0.0.300"),
        (_when(key="request.headers[x]", values=["1"]), "spec.rules[0].when[0].key", "request.headers[x]"),
        (_when(key="remote.ip", values=["10.0.0.1"]), "spec.rules[0].when[0].key", "remote.ip"),
        (_when(key="source.ip", values=["nowhere"]), "spec.rules[0].when[0]", "nowhere"),
        (_when(key="source.ip"), "spec.rules[0].when[0]", {"key": "source.ip"}),
        ({"rules": [{"from": []}]}, "spec.rules[0].from", []),
        ({"rules": [None]}, "spec.rules[0]", None),
        ({"rules": "all"}, "spec.rules", "all"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(spec: dict[str, Any], field: str, value: Any) -> None:
    with pytest.raises(UnsupportedAuthorization) as refused:
        parse_policy(manifest(spec))
    assert (refused.value.field, refused.value.value) == (field, value)
    assert field in str(refused.value) and repr(value) in str(refused.value)
