"""Every code has a page and an example that brings it about; pages say what the code says (I8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotswitch.api import names
from hotswitch.decide.preflight import MEANING, Code, Preflight, Verdict, acceptable, preflight
from hotswitch.decide.preflight.codes import NEVER_ACCEPTED, ONLY_SAID
from hotswitch.mesh.pod import TRUSTS_HEADERS
from tests.decide.preflight.meshes import SERVICE, WEB, ask, mesh
from tests.decide.preflight.test_authorization import CHECKOUT, CUSTOM, METHODS, policy
from tests.decide.preflight.test_clients import rule
from tests.decide.preflight.test_doubts import broken
from tests.decide.preflight.test_extension import envoy_filter
from tests.decide.preflight.test_mtls import ROOT_STRICT
from tests.decide.preflight.test_outbound import DENY_ONE, EGRESS, REGISTRY, entry, sidecar, virtual_service

pytestmark = pytest.mark.unit
PAGES = Path(__file__).parents[3] / "docs" / "reference" / "preflight"
EXTENSIONS = "extensions.istio.io/v1alpha1"

EXAMPLES: dict[Code, Callable[[], Preflight]] = {
    Code.NOTHING_LOST: ask,
    Code.STRICT_MTLS: lambda: ask(ROOT_STRICT),
    Code.AUTHORIZATION: lambda: ask(policy(CHECKOUT)),
    Code.REQUEST_AUTHORIZATION: lambda: ask(policy(METHODS)),
    Code.EXTERNAL_AUTHORIZATION: lambda: ask(policy(CUSTOM)),
    Code.REQUEST_AUTHENTICATION: lambda: ask(broken("RequestAuthentication", "{jwtRules: [{issuer: i}]}")),
    Code.ENVOY_FILTER: lambda: ask(envoy_filter("ANY")),
    Code.WASM_PLUGIN: lambda: ask(broken("WasmPlugin", "{url: oci://x}", group=EXTENSIONS)),
    Code.TRAFFIC_EXTENSION: lambda: ask(broken("TrafficExtension", "{phase: AUTHN}", group=EXTENSIONS)),
    Code.HEADLESS: lambda: ask(service=SERVICE.replace("10.96.4.17", "None")),
    Code.SEVERAL_NETWORKS: lambda: ask(networks=frozenset({"eu", "us"})),
    Code.CLIENTS_FORCE_MTLS: lambda: ask(rule("web", "ISTIO_MUTUAL")),
    Code.CLIENTS_USE_TLS: lambda: ask(rule("web", "SIMPLE")),
    Code.REGISTRY_ONLY: lambda: ask(sidecar(REGISTRY)),
    Code.EGRESS_ROUTE: lambda: ask(virtual_service("api.example", EGRESS)),
    Code.TLS_ORIGINATION: lambda: ask(rule("api.example", "SIMPLE")),
    Code.MTLS_ORIGINATION: lambda: ask(rule("*.local", "ISTIO_MUTUAL", "istio-system")),
    Code.IDENTITY_DENIED: lambda: ask(policy(DENY_ONE, "payments")),
    Code.STRICT_DESTINATIONS: lambda: ask(ROOT_STRICT),
    Code.MESH_ONLY_NAMES: lambda: ask(entry("{hosts: [db.internal], resolution: STATIC}")),
    Code.ROUTES: lambda: ask(virtual_service("reviews", "reviews")),
    Code.NOT_CAPTURED: lambda: ask(pod=replace(WEB, interception="NONE")),
    Code.ENVOY_DISABLED: lambda: ask(pod=replace(WEB, envoy_disabled=True)),
    Code.HOST_NETWORK: lambda: ask(pod=replace(WEB, host_network=True)),
    Code.GATEWAY: lambda: ask(pod=replace(WEB, gateway=True, sidecar=False)),
    Code.NO_SIDECAR: lambda: ask(pod=replace(WEB, sidecar=False)),
    Code.HBONE: lambda: ask(pod=replace(WEB, hbone=True)),
    Code.TRUSTS_HEADERS: lambda: ask(pod=replace(WEB, annotations={})),
    Code.PROXY_ONLY_PORT: lambda: ask(sidecar("{ingress: [{port: {number: 8080}, defaultEndpoint: 127.0.0.1:8080}]}")),
    Code.LOCALHOST_ONLY: lambda: ask(local_only=True),
    Code.OBJECT_NOT_UNDERSTOOD: lambda: ask(broken("PeerAuthentication", "{mtls: {mode: LENIENT}}")),
    Code.KIND_NOT_KNOWN: lambda: ask(broken("FilterOfNextYear", "{}", group=EXTENSIONS)),
    Code.POD_NOT_UNDERSTOOD: lambda: ask(pod=replace(WEB, doubts=("odd",))),
    Code.MESH_NOT_READ: lambda: preflight(mesh(unread=("envoyfilters",)), WEB),
}


def test_every_code_has_an_example() -> None:
    assert set(EXAMPLES) == set(Code)


@pytest.mark.parametrize("code", list(Code))
def test_example_brings_the_code_about(code: Code) -> None:
    found = [finding for finding in EXAMPLES[code]().findings if finding.code is code]
    assert found and all(finding.sentence for finding in found)
    refuses = any(finding.verdict is Verdict.REFUSE for finding in found)
    assert refuses == (code not in ONLY_SAID)


@pytest.mark.parametrize("code", [code for code in Code if code not in ONLY_SAID])
def test_page_says_whether_it_may_be_accepted(code: Code) -> None:
    assert acceptable(code) == (code not in NEVER_ACCEPTED) == ("cannot be accepted" not in page_of(code))


def page_of(code: Code) -> str:
    return (PAGES / f"{code}.md").read_text()


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.stem for path in PAGES.glob("HSW*.md")} == set(Code)
    for code in Code:
        text = page_of(code)
        assert text.startswith(f"# {code}\n\n{MEANING[code]}") or MEANING[code] in text.replace("\n", " ")
        headings = re.findall(r"^## (.+)$", text, re.M)
        assert headings == ["What was found", "Why it matters", "What to do", "What accepting it gives away"]


def test_index_says_what_the_code_says() -> None:
    rows = re.findall(r"^\| \[(HSW\d+)\]\((HSW\d+)\.md\) \| (.+) \| (.+) \|$", (PAGES / "README.md").read_text(), re.M)
    words = {c: "refuses nothing" if c in ONLY_SAID else "yes" if acceptable(c) else "never" for c in Code}
    assert rows == [(str(c), str(c), MEANING[c], words[c]) for c in Code]


def test_links_lead_somewhere() -> None:
    for path in PAGES.glob("*.md"):
        assert [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if not (PAGES / link).exists()] == []


def test_unknown_code_is_not_acceptable() -> None:
    assert not acceptable("HSW9999") and not acceptable("")


def test_annotation_has_one_name() -> None:
    assert names.TRUSTS_PROXY_HEADERS == TRUSTS_HEADERS
