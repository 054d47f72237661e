"""EnvoyFilter and WasmPlugin: which proxies they change, and in which direction (I2)."""

from __future__ import annotations

import pytest

from tests.decide.preflight.meshes import ALL, DIRECT, IN, OUT, RESCUE, allowed, ask, codes

pytestmark = pytest.mark.unit


def envoy_filter(context: str, namespace: str = "shop", selector: str = "", value: str = "{name: limit}") -> str:
    match = f"match: {{context: {context}}}, " if context else ""
    return f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: limit, namespace: {namespace}}}
spec:
  {selector}
  configPatches:
  - {{applyTo: HTTP_FILTER, {match}patch: {{operation: INSERT_BEFORE, value: {value}}}}}
"""


@pytest.mark.parametrize(
    ("context", "closed"),
    [
        ("SIDECAR_INBOUND", {IN}),
        ("SIDECAR_OUTBOUND", {OUT}),
        ("ANY", {IN, OUT}),
        ("", {IN, OUT}),
        ("GATEWAY", set()),
    ],
)
def test_direction_of_an_envoy_filter(context: str, closed: set[object]) -> None:
    found = ask(envoy_filter(context))
    assert allowed(found) == {(way, level) for way, level in ALL if way not in closed}
    assert codes(found) == ({"HSW0301"} if closed else set())
    assert found.outbound_free == (OUT not in closed)


def test_envoy_filter_for_other_pods() -> None:
    assert not codes(ask(envoy_filter("ANY", selector="workloadSelector: {labels: {app: db}}")))
    assert not codes(ask(envoy_filter("ANY", "other")))
    assert codes(ask(envoy_filter("ANY", "istio-system", "workloadSelector: {labels: {app: web}}"))) == {"HSW0301"}


@pytest.mark.parametrize(
    ("type_url", "harmless"),
    [
        ("type.googleapis.com/stats.PluginConfig", True),
        ("type.googleapis.com/io.istio.http.peer_metadata.Config", True),
        ("type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua", False),
        ("", False),
    ],
)
def test_istios_own_statistics_filter_enforces_nothing(type_url: str, harmless: bool) -> None:
    typed = f'{{"@type": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: "{type_url}"}}'
    found = ask(envoy_filter("ANY", "istio-system", value=f"{{name: istio.stats, typed_config: {typed}}}"))
    assert bool(codes(found)) != harmless


@pytest.mark.parametrize(("kind", "code"), [("WasmPlugin", "HSW0302"), ("TrafficExtension", "HSW0303")])
@pytest.mark.parametrize(
    ("match", "closed"),
    [
        ("", {IN, OUT}),
        ("match: [{mode: SERVER}]", {IN}),
        ("match: [{mode: CLIENT}]", {OUT}),
        ("match: [{}]", {IN, OUT}),
    ],
)
def test_plugin(match: str, closed: set[object], kind: str, code: str) -> None:
    found = ask(f"""
apiVersion: extensions.istio.io/v1alpha1
kind: {kind}
metadata: {{name: auth, namespace: shop}}
spec:
  url: oci://registry.example/auth:1
  {match}
""")
    assert {way for way in (IN, OUT) if not found.allows(way, RESCUE)} == closed
    assert codes(found) == {code}


def test_accepted_extension_still_is_no_free_way_out() -> None:
    found = ask(envoy_filter("ANY"), accepted=("HSW0301",))
    assert allowed(found) == ALL and not found.outbound_free
    assert found.allows(OUT, DIRECT)
