"""What mTLS is demanded: PeerAuthentication at its four levels, and a second, naive reading of the same rules (I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.decide.ports import direct_inbound
from hotswitch.decide.preflight.mtls import demand
from hotswitch.mesh import MeshView
from hotswitch.mesh.objects import PeerAuthentication, Ref
from hotswitch.model import Level, Mtls, Opening, Policy
from tests.decide.preflight.meshes import DIRECT, IN, RESCUE, WEB, ask, codes, mesh

pytestmark = pytest.mark.unit
STRICT, PERMISSIVE, DISABLE = Mtls.STRICT, Mtls.PERMISSIVE, Mtls.DISABLE


def peer(
    namespace: str, mode: str = "", *, name: str = "default", made: str = "2024-05-01T00:00:00Z", more: str = ""
) -> str:
    mtls = f"mtls: {{mode: {mode}}}" if mode else "mtls: {}"
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{made}"}}
spec: {{{mtls}{", " if more else ""}{more}}}
"""


WEB_ONLY = "selector: {matchLabels: {app: web}}"
ROOT_STRICT, SHOP_PERMISSIVE = peer("istio-system", "STRICT"), peer("shop", "PERMISSIVE")


@pytest.mark.parametrize(
    ("text", "mode", "ports"),
    [
        ("", PERMISSIVE, {}),
        (ROOT_STRICT, STRICT, {}),
        (peer("shop", "STRICT"), STRICT, {}),
        (ROOT_STRICT + SHOP_PERMISSIVE, PERMISSIVE, {}),
        (ROOT_STRICT + peer("other", "DISABLE"), STRICT, {}),
        (ROOT_STRICT + peer("shop", "UNSET"), STRICT, {}),
        (ROOT_STRICT + peer("shop"), STRICT, {}),
        (SHOP_PERMISSIVE + peer("shop", "STRICT", name="web", more=WEB_ONLY), STRICT, {}),
        (
            SHOP_PERMISSIVE + peer("shop", "STRICT", name="db", more="selector: {matchLabels: {app: db}}"),
            PERMISSIVE,
            {},
        ),
        (peer("shop", "STRICT", name="web", more="selector: {matchLabels: {}}"), STRICT, {}),
        # selectors in the root namespace select nothing
        (peer("istio-system", "STRICT", name="web", more=WEB_ONLY), PERMISSIVE, {}),
        # ports: from the workload's policy only, UNSET inherits
        (
            ROOT_STRICT + peer("shop", name="web", more=WEB_ONLY + ", portLevelMtls: {8080: {mode: PERMISSIVE}}"),
            STRICT,
            {8080: PERMISSIVE},
        ),
        (
            peer("shop", "STRICT", name="web", more=WEB_ONLY + ", portLevelMtls: {8080: {mode: UNSET}, 9090: {}}"),
            STRICT,
            {8080: STRICT, 9090: STRICT},
        ),
        (peer("shop", "STRICT", more="portLevelMtls: {8080: {mode: DISABLE}}"), STRICT, {}),
        # the oldest of one level counts alone, whatever the order in which they come; equally old: by name
        (peer("shop", "STRICT", made="2025-01-01T00:00:00Z", name="b") + SHOP_PERMISSIVE, PERMISSIVE, {}),
        (peer("shop", "STRICT", name="a") + peer("shop", "DISABLE", name="b"), STRICT, {}),
        (
            peer("shop", "STRICT", name="old", more=WEB_ONLY)
            + peer(
                "shop",
                name="young",
                made="2025-01-01T00:00:00Z",
                more=WEB_ONLY + ", portLevelMtls: {8080: {mode: DISABLE}}",
            ),
            STRICT,
            {},
        ),
        # an oldest that says nothing still silences the younger
        (peer("shop", name="a") + peer("shop", "STRICT", name="b"), PERMISSIVE, {}),
    ],
)
def test_effective_mode(text: str, mode: Mtls, ports: dict[int, Mtls]) -> None:
    found = ask(text)
    assert (found.mtls, found.mtls_by_port) == (mode, ports)
    assert not codes(found) - {"HSW0101"}


def test_strict_refuses_direct_and_nothing_else() -> None:
    found = ask(ROOT_STRICT)
    assert codes(found) == {"HSW0101"}
    assert not found.allows(IN, DIRECT) and found.allows(IN, RESCUE)
    (finding,) = found.refusals(IN, DIRECT)
    assert finding.port is None and str(finding.object) == "PeerAuthentication istio-system/default"


def test_strict_on_one_port_refuses_that_port() -> None:
    found = ask(peer("shop", name="web", more=WEB_ONLY + ", portLevelMtls: {9090: {mode: STRICT}}"))
    assert found.closed_ports(IN, DIRECT) == {9090} and found.allows(IN, DIRECT)
    policy = found.limit(Policy(inbound=(DIRECT,)))
    assert direct_inbound(policy, frozenset({8080, 9090})) == Opening(Level.DIRECT, {9090: Level.HOLD})


def test_strict_on_every_port_refuses_the_level() -> None:
    found = ask(
        peer("shop", name="web", more=WEB_ONLY + ", portLevelMtls: {8080: {mode: STRICT}, 9090: {mode: STRICT}}")
    )
    assert not found.allows(IN, DIRECT)


def test_strict_is_accepted() -> None:
    found = ask(ROOT_STRICT, accepted=("HSW0101",))
    assert found.allows(IN, DIRECT) and found.mtls is STRICT
    policy = found.limit(Policy(inbound=(DIRECT,)))
    assert policy.strict_granted and policy.mtls is STRICT, "the rescue goes on demanding mTLS"
    assert direct_inbound(policy, frozenset({8080})) == Opening(Level.DIRECT)


def test_rev_of_another_istiod_does_not_count() -> None:
    labelled = ROOT_STRICT.replace("name: default,", "name: default, labels: {istio.io/rev: canary},")
    assert ask(labelled).mtls is PERMISSIVE


# ---- a naive oracle: every policy in the order of its level and age, the first word of each level counts ----

LABELS = [{}, {"app": "web"}, {"app": "web", "version": "v1"}, {"app": "db"}]
peers = st.builds(
    lambda namespace, name, made, selector, mode, ports: PeerAuthentication(
        ref=Ref("PeerAuthentication", namespace, name), created=made, selector=selector, mode=mode, ports=ports
    ),
    st.sampled_from(["istio-system", "shop", "other"]),
    st.sampled_from("abcd"),
    st.sampled_from(["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"]),
    st.sampled_from(LABELS),
    st.sampled_from([None, *Mtls]),
    st.dictionaries(st.sampled_from([8080, 9090]), st.sampled_from([None, *Mtls]), max_size=2),
)


def oracle(policies: list[PeerAuthentication], port: int) -> Mtls:
    """Istio's documentation read aloud, without an index, a class or a thought for speed."""
    ordered = sorted(policies, key=lambda p: (p.created, p.ref.name + "." + p.ref.namespace))

    def first(namespace: str, with_selector: bool) -> PeerAuthentication | None:
        for policy in ordered:
            fits = all(WEB.labels.get(key) == policy.selector[key] for key in policy.selector)
            if policy.ref.namespace == namespace and fits and bool(policy.selector) == with_selector:
                return policy
        return None

    workload = first("shop", True)
    answers = [workload.ports.get(port) if workload else None]
    answers += [policy.mode if policy else None for policy in (workload, first("shop", False))]
    mesh_wide = first("istio-system", False)
    answers += [mesh_wide.mode if mesh_wide else None, PERMISSIVE]
    return next(answer for answer in answers if answer is not None)


@settings(max_examples=300, deadline=None)
@given(st.lists(peers, max_size=7, unique_by=lambda policy: policy.ref))
def test_agrees_with_a_naive_reading(policies: list[PeerAuthentication]) -> None:
    demanded = demand(MeshView(objects=tuple(policies)), WEB)
    assert [demanded.on(port) for port in (8080, 9090, 1)] == [oracle(policies, port) for port in (8080, 9090, 1)]


def test_pod_of_the_root_namespace() -> None:
    there = replace(WEB, namespace="istio-system")
    text = ROOT_STRICT + peer("istio-system", "DISABLE", name="web", more=WEB_ONLY)
    assert demand(mesh(text), there).mode is STRICT
