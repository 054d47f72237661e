"""I2: nothing that a namespace or a workload writes, garbage included, ever gives more than the mesh gave."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.api import names
from hotswitch.config.merged import Effective
from hotswitch.config.safety import MODE
from hotswitch.config.settings import Settings
from hotswitch.model import Dependency, Level, Mode, Mtls, Reaction

pytestmark = pytest.mark.unit
ROOT = "istio-system"
CAREFUL = (Mode.OFF, Mode.OBSERVE, Mode.AUTO)
FAST = 0.1  # probe_timeout_s of the fast profile

LEVELS = st.lists(st.sampled_from(["rescue", "direct", "hold"]), unique=True)
DURATION = st.sampled_from(["1s", "30s", "5m", "1h", "10h", "100h"])
SHARE = st.one_of(st.integers(0, 9), st.integers(0, 100).map(lambda share: f"{share}%"))
CODE = st.sampled_from(["HSW0101", "HSW0102"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


BOUND = st.lists(st.sampled_from([10, 60, 3600, 36000]), min_size=2, max_size=2).map(
    lambda pair: {"min": f"{min(pair)}s", "max": f"{max(pair)}s"}
)
SPEC = optional(
    selector=optional(matchLabels=st.just({"app": "web"}), namespaces=st.just(["shop"])),
    mode=st.sampled_from(["auto", "observe", "off"]),
    optIn=st.sampled_from(["label", "all"]),
    directions=st.lists(st.sampled_from(["inbound", "outbound"]), unique=True),
    levels=optional(inbound=LEVELS, outbound=LEVELS),
    profile=st.sampled_from(["default", "fast"]),
    timings=optional(expiry=st.sampled_from(["1s", "30s"]), openAtMost=DURATION, holdDown=st.just("1s"))
    | optional(holdDownMax=DURATION, recoverAfter=DURATION),
    bounds=optional(expiry=BOUND, openAtMost=BOUND, holdDown=BOUND, profile=st.sampled_from(["default", "fast"])),
    accept=st.lists(st.fixed_dictionaries({"code": CODE, "reason": st.just("so it is")}), max_size=2),
    budgets=optional(mesh=SHARE, node=SHARE, namespace=SHARE, workload=SHARE),
    actuators=st.lists(st.sampled_from(["agent", "helper", "exec"]), unique=True),
    dependencies=optional(certificateExpired=st.sampled_from(["act", "page", "say"])),
)
GARBAGE = st.one_of(st.text(max_size=20), st.sampled_from(["rescue,direct", "auto", "false", "fast", "99", "100%", ""]))
ANY_SPEC = SPEC | st.dictionaries(st.sampled_from(["mode", "levels", "accept", "zzz"]), GARBAGE) | st.none()
KNOBS = [getattr(names, name) for name in dir(names) if str(getattr(names, name)).startswith("hotswitch.io/")]
WIDE = ["rescue,direct,hold", "inbound,outbound", "100h", "1s", "helper,exec", "HSW0101"]
KNOB_VALUE = GARBAGE | st.sampled_from(WIDE)
ANNOTATIONS = st.dictionaries(st.sampled_from(KNOBS), KNOB_VALUE, max_size=6)
MODE_LABEL = optional(**{names.MODE_LABEL: st.sampled_from(["auto", "observe", "off", "on", ""])})


def policy(namespace: str, name: str, spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name, "uid": f"{namespace}/{name}"}, "spec": spec}


def mesh_of(specs: list[Any]) -> Settings:
    known = Settings(ROOT)
    for place, spec in enumerate(specs):
        known.put_policy(policy(ROOT, f"mesh-{place}", spec))
    return known


def pod(known: Settings, labels: dict[str, str], annotations: dict[str, str]) -> Effective:
    return known.for_pod("shop", "web-0", "u1", {"app": "web"} | labels, annotations)


def no_more(less: Effective, most: Effective) -> None:
    """`most`: what the mesh gives a pod that says all it must say to be given anything."""
    assert CAREFUL.index(less.policy.mode) <= CAREFUL.index(most.policy.mode)
    assert set(less.policy.inbound) <= set(most.policy.inbound)
    assert set(less.policy.outbound) <= set(most.policy.outbound)
    assert (less.policy.mtls, less.policy.mtls_by_port, less.policy.outbound_free) == (Mtls.STRICT, {}, False)
    assert (less.accepted, less.accepted_by_order) == (most.accepted, most.accepted_by_order)
    assert set(less.actuators) <= set(most.actuators)
    for name in ("mesh", "node", "namespace", "workload"):
        ours, theirs = getattr(less.budgets, name), getattr(most.budgets, name)
        assert all(ours.of(total) <= theirs.of(total) for total in (0, 1, 2, 3, 7, 10, 99, 1000))
    for dependency in Dependency:
        acts = less.policy.reaction(dependency) is Reaction.ACT
        assert not acts or most.policy.reaction(dependency) is Reaction.ACT


@settings(max_examples=400, deadline=None)
@given(
    mesh=st.lists(SPEC, max_size=3),
    spaces=st.lists(ANY_SPEC, max_size=3),
    of_namespace=st.tuples(MODE_LABEL, ANNOTATIONS),
    of_pod=st.tuples(MODE_LABEL, ANNOTATIONS),
    before=st.tuples(MODE_LABEL, ANNOTATIONS),
)
def test_nobody_is_given_more_than_the_mesh_gives(
    mesh: list[Any], spaces: list[Any], of_namespace: Any, of_pod: Any, before: Any
) -> None:  # I2
    known = mesh_of(mesh)
    asking = {names.MODE_LABEL: "auto"}
    known.put_namespace("shop", "n1", {}, {})
    most = known.for_pod("shop", "web-9", "u9", {"app": "web", **asking}, {names.TRUSTS_PROXY_HEADERS: "false"})
    for place, spec in enumerate(spaces):
        known.put_policy(policy("shop", f"own-{place}", spec))
    known.put_namespace("shop", "n1", *of_namespace)
    pod(known, *before)
    no_more(pod(known, *of_pod), most)


@settings(max_examples=200, deadline=None)
@given(mesh=st.lists(SPEC, max_size=3), of_pod=st.tuples(MODE_LABEL, ANNOTATIONS))
def test_no_label_gets_more_than_its_absence(mesh: list[Any], of_pod: Any) -> None:  # I2
    """In a namespace that no policy names."""
    known = mesh_of(mesh)
    known.put_namespace("new", "n1", {}, {})
    asking = {names.MODE_LABEL: "auto"}
    most = known.for_pod("new", "web-9", "u9", asking, {names.TRUSTS_PROXY_HEADERS: "false"})
    no_more(known.for_pod("new", "web-0", "u1", {"app": "web", **of_pod[0]}, of_pod[1]), most)


@settings(max_examples=200, deadline=None)
@given(mesh=SPEC, space=ANY_SPEC, of_pod=ANNOTATIONS)
def test_no_timing_leaves_the_bounds_of_the_mesh(mesh: Any, space: Any, of_pod: dict[str, str]) -> None:  # I2
    known = mesh_of([{**mesh, "selector": {}}])
    own = pod(known, {}, {}).policy
    bounds = known.policies[0].spec.bounds
    known.put_policy(policy("shop", "own", space))
    got = pod(known, {}, of_pod).policy
    longest = max(own.open_at_most_s, (bounds.open_at_most.max_s if bounds.open_at_most else None) or 0)
    shortest = min(own.hold_down_s, (bounds.hold_down.min_s if bounds.hold_down else None) or own.hold_down_s)
    assert got.expiry_s <= got.open_at_most_s <= longest
    assert shortest <= got.hold_down_s <= got.hold_down_max_s
    allowed_fast = own.thresholds.probe_timeout_s == FAST or bounds.profile == "fast"
    assert allowed_fast or got.thresholds.probe_timeout_s != FAST


@given(annotations=ANNOTATIONS, label=MODE_LABEL)
def test_a_workloads_word_alone_opens_nothing(annotations: dict[str, str], label: dict[str, str]) -> None:  # I2
    got = pod(Settings(ROOT), label, annotations).policy
    assert got.mode is not Mode.AUTO
    assert Level.DIRECT not in (*got.inbound, *got.outbound)
    assert MODE.default is Mode.OBSERVE
