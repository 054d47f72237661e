"""Whatever is given, the answer is a right spec or a SpecError, never another exception (S4.3a)."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.capture.option_table import OPTIONS, VARIABLES
from hotswitch.capture.options import parse, to_argv, to_env
from hotswitch.capture.podspec import facts_from_pod, spec_from_pod
from hotswitch.capture.render import render
from hotswitch.capture.spec import Backend, CaptureSpec, Interception, SpecError
from tests.capture.golden import pods

pytestmark = pytest.mark.unit

NUMBERS = st.integers(0, 65535)
LISTENING = st.integers(1, 65535)
PORT_LISTS = st.lists(NUMBERS, max_size=4).map(tuple)
IDS = st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=3).map(tuple)
V4 = st.builds(lambda number, bits: (number, bits), st.integers(0, 2**32 - 1), st.integers(0, 32))
CIDRS = st.lists(
    st.one_of(
        V4.map(lambda pair: f"{'.'.join(str(pair[0] >> shift & 255) for shift in (24, 16, 8, 0))}/{pair[1]}"),
        st.sampled_from(["2001:db8::/32", "::1/128", "fd00::1/64", "::/0", "127.0.0.1/24"]),
    ),
    max_size=3,
).map(tuple)
INTERFACES = st.lists(st.from_regex(r"[a-z][a-z0-9]{1,8}", fullmatch=True), max_size=3).map(tuple)
GROUPS = st.lists(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True), max_size=3).map(tuple)
SPECS = st.builds(
    CaptureSpec,
    mode=st.sampled_from([Interception.REDIRECT, Interception.TPROXY]),
    proxy_port=LISTENING,
    inbound_port=LISTENING,
    tunnel_port=LISTENING,
    proxy_uids=IDS,
    proxy_gids=IDS,
    inbound_ports=st.one_of(st.just("*"), PORT_LISTS),
    inbound_exclude_ports=PORT_LISTS,
    outbound_cidrs=st.one_of(st.just("*"), CIDRS),
    outbound_exclude_cidrs=CIDRS,
    outbound_ports=PORT_LISTS,
    outbound_exclude_ports=PORT_LISTS,
    exclude_interfaces=INTERFACES,
    kube_virt_interfaces=INTERFACES,
    owner_groups=st.one_of(st.just("*"), GROUPS),
    owner_groups_exclude=GROUPS,
    loopback_cidr=st.sampled_from(["127.0.0.1/32", "127.0.0.0/8", "127.1.2.3/16"]),
    redirect_dns=st.booleans(),
    capture_all_dns=st.booleans(),
    drop_invalid=st.booleans(),
    dual_stack=st.booleans(),
    native_nftables=st.booleans(),
    tproxy_mark=st.integers(0, 2**32 - 1),
    force_iptables_binary=st.sampled_from(["", "legacy", "nft"]),
)
WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from([f"--{option.name}" for option in OPTIONS] + [f"-{o.short}" for o in OPTIONS if o.short]),
    st.sampled_from(["*", ",", "80", "80,", "10.0.0.0/8", "::1/128", "true", "TPROXY", "\n-A INPUT -j ACCEPT"]),
)


@settings(deadline=None)
@given(SPECS)
def test_written_arguments_read_back_as_the_same_spec(spec: CaptureSpec) -> None:
    assert parse(to_argv(spec), to_env(spec)) == spec


@settings(deadline=None)
@given(SPECS, st.data())
def test_variables_mean_the_same_as_options(spec: CaptureSpec, data: st.DataObject) -> None:
    """Any option that has a variable may be given by it instead."""
    argv, env = ["istio-iptables"], dict(to_env(spec))
    variables = {option.name: option.all_variables for option in OPTIONS}
    for word in to_argv(spec)[1:]:
        name, _, value = word[2:].partition("=")
        if variables[name] and data.draw(st.booleans()):
            env[data.draw(st.sampled_from(variables[name]))] = value
        else:
            argv.append(word)
    assert parse(argv, env) == spec


@settings(deadline=None)
@given(st.lists(WORDS, max_size=8), st.dictionaries(st.sampled_from(sorted(VARIABLES)), WORDS, max_size=5))
def test_any_words_give_a_spec_or_a_spec_error(argv: list[str], env: dict[str, str]) -> None:
    try:
        spec = parse(argv, env)
    except SpecError:
        return
    assert parse(to_argv(spec), to_env(spec)) == spec
    for backend in (Backend.IPTABLES_NFT, Backend.NFTABLES):
        for line in "".join(render(spec, backend)).splitlines():  # nothing given can become a rule of its own
            assert re.match(r"\* \w+$|COMMIT$|-[NAI] [A-Z_]+( |$)|(add|flush|insert) (table|chain|rule) inet ", line)
            assert "INPUT" not in line


@settings(deadline=None)
@given(SPECS)
def test_both_backends_say_the_same_number_of_things(spec: CaptureSpec) -> None:
    """In a pod with one family, native nft has exactly one rule for each of iptables'."""
    native = [line for line in render(spec, Backend.NFTABLES)[0].splitlines() if line.split()[1] == "rule"]
    (text,) = render(spec, Backend.IPTABLES_NFT)
    assert len(native) == sum(line.startswith(("-A", "-I")) for line in text.splitlines())


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
PODS = pods()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], by)
    return changed


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_part_of_a_manifest_may_be_anything(data: st.DataObject) -> None:
    pod = PODS[data.draw(st.sampled_from(sorted(PODS)))]
    for _ in range(data.draw(st.integers(1, 3))):
        pod = replaced(pod, data.draw(st.sampled_from(places(pod))), data.draw(JSON))
    for read in (spec_from_pod, facts_from_pod):
        try:
            read(pod)
        except SpecError as refused:
            assert str(refused)


@settings(deadline=None)
@given(JSON)
def test_probers_of_any_shape(value: object) -> None:
    pod = copy.deepcopy(PODS["native-sidecar.yaml.injected"])
    (proxy,) = (item for item in pod["spec"]["initContainers"] if item["name"] == "istio-proxy")
    proxy["env"] = [{"name": "ISTIO_KUBE_APP_PROBERS", "value": value if isinstance(value, str) else repr(value)}]
    try:
        facts_from_pod(pod)
    except SpecError as refused:
        assert "ISTIO_KUBE_APP_PROBERS" in str(refused)


ANNOTATIONS = [
    "sidecar.istio.io/interceptionMode",
    "status.sidecar.istio.io/port",
    "istio.io/reroute-virtual-interfaces",
    *(
        f"traffic.sidecar.istio.io/{name}"
        for name in (
            "includeInboundPorts",
            "excludeInboundPorts",
            "includeOutboundPorts",
            "excludeOutboundPorts",
            "includeOutboundIPRanges",
            "excludeOutboundIPRanges",
            "excludeInterfaces",
            "kubevirtInterfaces",
        )
    ),
]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ANNOTATIONS), WORDS))
def test_annotations_of_a_cni_pod_may_say_anything(annotations: dict[str, str]) -> None:
    pod = copy.deepcopy(PODS["hello.yaml.cni.injected"])
    pod["spec"]["template"]["metadata"]["annotations"] = annotations
    try:
        spec = spec_from_pod(pod)
        facts_from_pod(pod)
    except SpecError as refused:
        assert refused.field in ANNOTATIONS
        return
    assert spec.mode is Interception.NONE or {15020, 15021, 15090} <= set(spec.inbound_exclude_ports)
