"""DestinationRules of clients, headless Services, several networks: whether a changed tlsMode label would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide.preflight.clients import followed
from tests.decide.preflight.meshes import DIRECT, IN, RESCUE, SERVICE, WEB, ask, codes, mesh

pytestmark = pytest.mark.unit
HOST = "web.shop.svc.cluster.local"


def rule(host: str, mode: str, namespace: str = "shop", name: str = "r", more: str = "", export: str = "") -> str:
    policy = f"trafficPolicy: {{tls: {{mode: {mode}}}}}" if mode else ""
    return f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  host: "{host}"
  {policy}
  {more}
  {export}
"""


@pytest.mark.parametrize(
    ("host", "mode", "code"),
    [
        (HOST, "ISTIO_MUTUAL", "HSW0403"),
        ("web", "ISTIO_MUTUAL", "HSW0403"),
        ("*.shop.svc.cluster.local", "ISTIO_MUTUAL", "HSW0403"),
        ("*.local", "ISTIO_MUTUAL", "HSW0403"),
        ("*", "ISTIO_MUTUAL", "HSW0403"),
        (HOST, "MUTUAL", "HSW0404"),
        (HOST, "SIMPLE", "HSW0404"),
        (HOST, "DISABLE", None),
        (HOST, "", None),
        ("db", "ISTIO_MUTUAL", None),
        ("web.other.svc.cluster.local", "ISTIO_MUTUAL", None),
    ],
)
def test_tls_mode_of_clients(host: str, mode: str, code: str | None) -> None:
    found = ask(rule(host, mode))
    inbound = {finding.code for finding in found.refusals(IN, DIRECT)}
    assert inbound == ({code} if code else set())
    assert found.allows(IN, DIRECT) == (code is None) and found.allows(IN, RESCUE)


def test_rule_for_one_port_or_subset() -> None:
    ports = "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}"
    found = ask(rule("web", "", more=ports))
    assert found.closed_ports(IN, DIRECT) == {8080} and found.allows(IN, DIRECT)  # the Service's 80 is the pod's 8080
    exception = (
        "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}"
    )
    assert ask(rule("web", "", more=exception)).closed_ports(IN, DIRECT) == {9090}
    subset = "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}]"
    assert not ask(rule("web", "DISABLE", more=subset)).allows(IN, DIRECT)


def names(text: str) -> set[str]:
    return {f"{found.ref.namespace}/{found.ref.name}" for found in followed(mesh(text), HOST, "shop")}


def test_most_specific_host_within_a_namespace() -> None:
    wide, narrow, exact = (
        rule("*.local", "", name="wide"),
        rule("*.svc.cluster.local", "", name="narrow"),
        rule("web", ""),
    )
    assert names(wide + narrow) == {"shop/narrow"}
    assert names(wide + narrow + exact) == {"shop/r"}
    assert names(exact + rule("web", "", name="twin")) == {"shop/r", "shop/twin"}


def test_which_namespaces_rule_a_client_follows() -> None:
    root, own = rule("web.shop.svc.cluster.local", "", "istio-system"), rule("web", "")
    client = rule("*.shop.svc.cluster.local", "", "checkout")
    assert names(root) == {"istio-system/r"}
    assert names(root + own) == {"shop/r"}, "what the Service's namespace exports goes before the root namespace"
    assert names(root + client) == {"istio-system/r", "checkout/r"}
    assert names(root + own + client) == {"shop/r", "checkout/r"}
    private = rule("web", "", export='exportTo: ["."]')
    assert names(root + private) == {"istio-system/r", "shop/r"}
    narrow_but_private = rule("web", "", name="private", export='exportTo: ["."]') + rule("*.local", "", name="public")
    assert names(narrow_but_private) == {"shop/private", "shop/public"}


def test_rules_are_private_by_default() -> None:
    text = rule("web.shop.svc.cluster.local", "ISTIO_MUTUAL", "istio-system") + rule("web", "DISABLE")
    assert ask(text).allows(IN, DIRECT)
    assert not ask(text, rules_exported=False).allows(IN, DIRECT)


def test_a_more_specific_rule_lifts_a_general_one() -> None:
    general = rule("*.local", "ISTIO_MUTUAL", name="general")
    assert not ask(general).allows(IN, DIRECT)
    assert ask(general + rule("web", "DISABLE")).allows(IN, DIRECT)


def test_headless_service() -> None:
    found = ask(service=SERVICE.replace("10.96.4.17", "None"))
    assert codes(found) == {"HSW0401"} and found.allows(IN, RESCUE) and not found.allows(IN, DIRECT)
    assert not ask(service=SERVICE.replace("10.96.4.17", "None"), accepted=("HSW0401",)).allows(IN, DIRECT)
    plain = replace(WEB, tls_mode="disabled")
    assert ask(service=SERVICE.replace("10.96.4.17", "None"), pod=plain).allows(IN, DIRECT), "nothing to relabel"


def test_several_networks() -> None:
    found = ask(networks=frozenset({"eu", "us"}))
    assert codes(found) == {"HSW0402"} and found.allows(IN, RESCUE)
    assert codes(ask(networks=frozenset({"eu"}), pod=replace(WEB, network="eu"))) == set()
    assert codes(ask(networks=frozenset({"eu"}), pod=replace(WEB, network="us"))) == {"HSW0402"}


def test_label_matters_only_where_clients_look_at_it() -> None:
    assert ask().flip
    assert not ask(auto_mtls=False).flip
    assert not ask(pod=replace(WEB, tls_mode="")).flip
    disabled = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: DISABLE}}
"""
    assert not ask(disabled).flip


def test_rule_for_a_service_entry_that_selects_the_pod() -> None:
    entry = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec: {hosts: [legacy.example], resolution: STATIC, workloadSelector: {labels: {app: web}}}
"""
    assert "HSW0403" in codes(ask(entry + rule("legacy.example", "ISTIO_MUTUAL")))
