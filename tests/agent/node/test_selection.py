"""Which pods of a node are left alone, and why (S4.6, I2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hotswitch.agent.node.selection import why_not
from hotswitch.cluster.pods import Pod

pytestmark = pytest.mark.unit

MODE = "hotswitch.io/mode"
NATIVE = {"initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}], "containers": [{"name": "app"}]}
CLASSIC = {"containers": [{"name": "app"}, {"name": "istio-proxy"}]}


def pod(spec: dict[str, Any], labels: dict[str, str] | None = None, **status: Any) -> Pod:
    told = {"podIP": "10.0.0.1", "phase": "Running", **status}
    return msgspec.convert({"metadata": {"name": "p", "labels": labels or {}}, "spec": spec, "status": told}, Pod)


@pytest.mark.parametrize("spec", [NATIVE, CLASSIC])
@pytest.mark.parametrize("mode", ["auto", "observe"])
def test_a_pod_in_a_namespace_that_opted_in_is_guarded(spec: dict[str, Any], mode: str) -> None:  # S4.6
    assert why_not(pod(spec), {MODE: mode}) == ""
    assert why_not(pod(spec, {MODE: mode}), {}) == ""


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (pod(CLASSIC, {MODE: "off"}), "is off"),
        (pod({**CLASSIC, "hostNetwork": True}), "shares the node's network"),
        (pod({"containers": [{"name": "app"}]}), "no sidecar"),
        (pod({"containers": [{"name": "app"}], "initContainers": [{"name": "istio-proxy"}]}), "no sidecar"),
        (pod(CLASSIC, podIP=""), "no address"),
        (pod(CLASSIC, phase="Succeeded"), "Succeeded"),
    ],
)
def test_others_are_left_alone(changed: Pod, why: str) -> None:  # I2
    assert why in why_not(changed, {MODE: "auto"})


@pytest.mark.parametrize("said", [{}, {MODE: "off"}, {MODE: "yes"}])
def test_who_did_not_opt_in_is_left_alone(said: dict[str, str]) -> None:  # S4.6
    assert MODE in why_not(pod(CLASSIC), said)
