"""Searched for a breach: more policy never allows more, and junk never does either (I2)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotswitch.config.meshpod import read_pod
from hotswitch.config.meshread import READERS, read_mesh, read_object
from hotswitch.decide.preflight import Preflight, preflight
from hotswitch.mesh.objects import Doubt
from hotswitch.model import Direction
from tests.decide.preflight.meshes import ALL, IN, OUT, SERVICE, WEB, allowed, allowed_ports, objects
from tests.decide.preflight.test_authorization import CHECKOUT, CUSTOM, DENY_NAMESPACE, METHODS, policy
from tests.decide.preflight.test_clients import rule
from tests.decide.preflight.test_doubts import broken
from tests.decide.preflight.test_extension import envoy_filter
from tests.decide.preflight.test_mtls import WEB_ONLY, peer
from tests.decide.preflight.test_outbound import (
    ALL_BUT,
    ANY,
    DENY_ONE,
    EGRESS,
    REGISTRY,
    WEBS,
    entry,
    sidecar,
    virtual_service,
)

pytestmark = pytest.mark.unit
SPACES = ("istio-system", "shop", "other")
LISTENER = "{ingress: [{port: {number: 8080}, defaultEndpoint: 127.0.0.1:8080}]}"

ADDING = [
    *(
        policy(spec, space)
        for spec in (CHECKOUT, CUSTOM, DENY_NAMESPACE, METHODS, DENY_ONE, ALL_BUT)
        for space in SPACES
    ),
    *(envoy_filter(context, space) for context in ("ANY", "SIDECAR_INBOUND", "GATEWAY") for space in SPACES),
    broken("RequestAuthentication", "{}"),
    broken("RequestAuthentication", "{selector: {matchLabels: {app: db}}}"),
    broken("WasmPlugin", "{match: [{mode: CLIENT}]}", group="extensions.istio.io/v1alpha1"),
    broken("FilterOfNextYear", "{}", group="extensions.istio.io/v1alpha1"),
    broken("AuthorizationPolicy", "{action: MAYBE}"),
    *(rule(host, "ISTIO_MUTUAL", space) for host in ("web.shop.svc.cluster.local", "*.local") for space in SPACES),
    virtual_service("api.example", EGRESS),
    virtual_service("reviews", "reviews"),
    entry("{hosts: [db.internal], resolution: STATIC}"),
    SERVICE.replace("10.96.4.17", "None").replace("name: web,", "name: web-headless,"),
]
"""Objects that can only take away. The others are there to override each other, and have properties of their own."""

OVERRIDING = [
    *(peer(space, mode) for space in SPACES for mode in ("STRICT", "PERMISSIVE", "DISABLE", "")),
    peer("shop", "PERMISSIVE", name="web", more=WEB_ONLY + ", portLevelMtls: {8080: {mode: STRICT}}"),
    *(sidecar(spec, space) for spec in (REGISTRY, ANY, LISTENER) for space in SPACES),
    sidecar(f"{{{WEBS}, {ANY[1:]}", name="web"),
    rule("web", "DISABLE"),
    rule("*.shop.svc.cluster.local", "", "checkout"),
]
POOL = [found for text in (*ADDING, *OVERRIDING) for found in objects(text)]
some_objects = st.lists(st.sampled_from(POOL), max_size=6)


def ask(found: list[dict[str, Any]]) -> Preflight:
    return preflight(read_mesh([*objects(SERVICE), *found]), WEB)


def no_more(before: Preflight, after: Preflight, ways: tuple[Direction, ...] = (IN, OUT)) -> None:
    gained = {place for place in allowed_ports(after) - allowed_ports(before) if place[0] in ways}
    assert gained == set()
    if OUT in ways:
        assert before.outbound_free or not after.outbound_free


@settings(max_examples=300, deadline=None)
@given(some_objects, st.sampled_from(ADDING))
def test_one_more_policy_never_allows_more(found: list[dict[str, Any]], text: str) -> None:
    no_more(ask(found), ask(found + objects(text)))


@settings(max_examples=150, deadline=None)
@given(
    some_objects,
    st.sampled_from(SPACES),
    st.sampled_from(["", WEB_ONLY]),
    st.sampled_from(["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]),
)
def test_one_more_strict_never_allows_more_inbound(
    found: list[dict[str, Any]], space: str, more: str, made: str
) -> None:
    no_more(ask(found), ask(found + objects(peer(space, "STRICT", name="more", made=made, more=more))), (IN,))


@settings(max_examples=150, deadline=None)
@given(some_objects, st.sampled_from(SPACES), st.sampled_from(["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]))
def test_one_more_registry_only_never_allows_more_outbound(found: list[dict[str, Any]], space: str, made: str) -> None:
    no_more(ask(found), ask(found + objects(sidecar(REGISTRY, space, "more", made))), (OUT,))


@settings(max_examples=100, deadline=None)
@given(some_objects, st.randoms(use_true_random=False))
def test_order_of_objects_says_nothing(found: list[dict[str, Any]], chance: Any) -> None:
    named = [{**each, "metadata": {**each["metadata"], "name": f"x{at}"}} for at, each in enumerate(found)]
    shuffled = list(named)  # names differ, as the API server sees to it: of equal age the name decides
    chance.shuffle(shuffled)
    assert allowed_ports(ask(named)) == allowed_ports(ask(shuffled))


@settings(max_examples=100, deadline=None)
@given(some_objects, st.sets(st.sampled_from(sorted(ask(POOL).codes))))
def test_accepting_never_adds_what_may_not_be_accepted(found: list[dict[str, Any]], codes: set[str]) -> None:
    view = read_mesh([*objects(SERVICE), *found])
    plain, granted = preflight(view, WEB), preflight(view, WEB, frozenset(codes))
    assert allowed_ports(plain) <= allowed_ports(granted)
    assert granted.outbound_free == plain.outbound_free
    assert not granted.codes - plain.codes


# ---- junk ----

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KNOWN_WORDS = [
    "selector",
    "matchLabels",
    "mtls",
    "mode",
    "portLevelMtls",
    "rules",
    "from",
    "to",
    "when",
    "source",
    "principals",
    "operation",
    "key",
    "values",
    "action",
    "configPatches",
    "match",
    "context",
    "trafficPolicy",
    "tls",
    "host",
    "subsets",
    "portLevelSettings",
    "port",
    "number",
    "ingress",
    "egress",
    "hosts",
    "resolution",
    "endpoints",
    "http",
    "route",
    "destination",
    "parentRefs",
    "backendRefs",
    "kind",
    "name",
    "targetRefs",
    "workloadSelector",
    "labels",
]
near_specs = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KNOWN_WORDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(READERS)), near_specs, json_values)
def test_no_object_makes_the_reader_fall(kind: tuple[str, str], spec: Any, labels: Any) -> None:
    found = {
        "apiVersion": f"{kind[0]}/v1",
        "kind": kind[1],
        "metadata": {"name": "odd", "namespace": "shop", "labels": labels, "annotations": labels},
        "spec": spec,
    }
    read = read_object(found)
    view = read_mesh([found])
    if isinstance(read, Doubt) and not read.selector:
        assert not allowed(preflight(view, WEB))
    else:
        assert allowed(preflight(view, WEB)) <= ALL


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


BREAKABLE = [(found, place) for found in POOL for place in places(found["spec"], ("spec",))]
IGNORED = {"url", "egress", "operation", "applyTo", "value", "clusterIP", "jwtRules", "provider", "protocol"}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BREAKABLE), st.sampled_from([7.5, [7]]))
def test_value_of_the_wrong_type_never_allows_more(
    breakable: tuple[dict[str, Any], tuple[Any, ...]], junk: Any
) -> None:
    whole, place = breakable
    assume(not IGNORED & set(place) and (isinstance(junk, float) or place[-1] not in ("resolution",)))
    mended = copy.deepcopy(whole)
    holder: Any = mended
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = junk
    no_more(ask([whole]), ask([mended]))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "kind"]), near_specs))
def test_no_pod_makes_the_reader_fall(found: dict[str, Any]) -> None:
    assert not allowed(preflight(read_mesh([]), read_pod(found)))
