"""What a pod's status proves of its proxy, and of its life (S4.2a, I2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hotswitch.api import names
from hotswitch.cluster.pods import Pod
from hotswitch.controller.seen import ever_ready, proxy_container, running, suspicious
from hotswitch.observe.podlife import app_down, terminating, workload

pytestmark = pytest.mark.k8s

T0, T1 = "2026-11-27T08:00:00Z", "2026-11-27T08:10:00Z"
RUNNING = {"running": {"startedAt": T0}}
EXITED = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": T0, "finishedAt": T1}}
LOOP = {"waiting": {"reason": "CrashLoopBackOff"}}


def status(name: str, state: dict[str, Any], *, ready: bool = False, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "ready": ready, "restartCount": more.pop("restarts", 0), **more}


def pod(
    proxy: dict[str, Any] | None = None,
    app: dict[str, Any] | None = None,
    *,
    native: bool = False,
    metadata: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    **extra: Any,
) -> Pod:
    proxy = proxy or status("istio-proxy", RUNNING, ready=True)
    app = app or status("app", RUNNING, ready=True)
    sidecar: dict[str, Any] = {"name": "istio-proxy"}
    lists: dict[str, Any] = {"containers": [{"name": "app"}], "initContainers": []}
    statuses: dict[str, Any] = {"containerStatuses": [app], "initContainerStatuses": []}
    if native:
        lists["initContainers"].append({**sidecar, "restartPolicy": "Always"})
        statuses["initContainerStatuses"].append(proxy)
    else:
        lists["containers"].append(sidecar)
        statuses["containerStatuses"].append(proxy)
    whole = {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u", **(metadata or {})},
        "spec": {**lists, **(spec or {})},
        "status": {"phase": "Running", "podIP": "192.0.2.7", **statuses, **extra},
    }
    return msgspec.json.decode(msgspec.json.encode(whole), type=Pod)


@pytest.mark.parametrize("native", [False, True])
def test_container_crash_loops(native: bool) -> None:
    seen = proxy_container(pod(status("istio-proxy", LOOP, restarts=4, lastState=EXITED), native=native), 0.0)
    assert seen.running is False and seen.crash_looping and seen.restarts == 4
    assert "CrashLoopBackOff" in seen.told and "exit code 0" in seen.told


@pytest.mark.parametrize("native", [False, True])
def test_pilot_agent_ends_with_exit_code_0(native: bool) -> None:
    dead = pod(status("istio-proxy", EXITED), native=native)
    assert proxy_container(dead, 0.0).running is False and suspicious(dead) and ever_ready(dead)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"metadata": {"deletionTimestamp": T1}}, "deleted"),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]}, "Kubelet"),
        ({"phase": "Succeeded"}, "Succeeded"),
        ({"phase": "Failed", "reason": "Evicted"}, "Failed"),
        ({"reason": "NodeShutdown"}, "NodeShutdown"),
        ({"app": status("app", EXITED), "spec": {"restartPolicy": "Never"}}, "completed"),
    ],
)
def test_pod_ends_with_and_without_a_timestamp(broken: dict[str, Any], why: str) -> None:  # I2
    assert why in terminating(pod(**broken))


def test_pod_that_lives_is_not_terminating() -> None:
    assert terminating(pod()) == "" and app_down(pod()) == "" and not suspicious(pod())


def test_app_is_down_itself() -> None:  # I2
    assert "CrashLoopBackOff" in app_down(pod(app=status("app", LOOP, restarts=3)))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("reason", ["PodInitializing", "ContainerCreating", "ImagePullBackOff"])
def test_pod_starts_while_the_app_was_never_started(native: bool, reason: str) -> None:  # S4.2a
    """The kubelet says so of a native sidecar's pod at every start: the proxy is ready, and then the app is created."""
    starting = pod(app=status("app", {"waiting": {"reason": reason}}), native=native)
    assert app_down(starting) == "" and not ever_ready(starting)


def test_app_that_waits_for_another_start_is_down() -> None:  # I2
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": T0, "finishedAt": T1}}
    for more in ({"restarts": 1}, {"lastState": ended}):
        down = pod(app=status("app", {"waiting": {"reason": "PodInitializing"}}, **more), native=True)
        assert "PodInitializing" in app_down(down) and ever_ready(down)


def test_agent_beside_the_app_is_not_taken_for_it() -> None:  # I2
    """Injected beside an ordinary sidecar, it is one of the pod's containers."""
    agent, spec = status("hotswitch-agent", RUNNING, ready=True), {"restartPolicy": "Never"}
    down = pod(containerStatuses=[agent, status("app", LOOP, restarts=3)])
    assert "CrashLoopBackOff" in app_down(down)
    assert "completed" in terminating(pod(spec=spec, containerStatuses=[agent, status("app", EXITED)]))


def test_proxy_was_never_ready() -> None:  # S4.2a
    starting = pod(status("istio-proxy", RUNNING), status("app", RUNNING))
    assert not ever_ready(starting) and not suspicious(starting)
    crashed_at_start = {"terminated": {"exitCode": 1, "startedAt": T0, "finishedAt": "2026-11-27T08:00:02Z"}}
    assert not ever_ready(pod(status("istio-proxy", LOOP, restarts=3, lastState=crashed_at_start)))


def test_native_sidecars_app_runs_so_the_proxy_was_ready() -> None:
    assert ever_ready(pod(status("istio-proxy", RUNNING), native=True))
    waits = status("app", {"waiting": {"reason": "PodInitializing"}})
    assert not ever_ready(pod(status("istio-proxy", RUNNING), waits, native=True))


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        ({"kind": "ReplicaSet", "name": "web-5d4f", "uid": "r"}, {"pod-template-hash": "5d4f"}, "deploy/web"),
        ({"kind": "ReplicaSet", "name": "web", "uid": "r"}, {}, "replicaset/web"),
        ({"kind": "StatefulSet", "name": "db", "uid": "r"}, {}, "statefulset/db"),
        (None, {}, "pod/web-0"),
    ],
)
def test_workload_is_what_budgets_count_by(owner: dict[str, Any] | None, labels: dict[str, str], expected: str) -> None:
    owners = [] if owner is None else [{**owner, "apiVersion": "apps/v1", "controller": True}]
    assert workload(pod(metadata={"ownerReferences": owners, "labels": labels})) == expected


@pytest.mark.parametrize(
    ("state", "expected"), [(RUNNING, "running"), (EXITED, "ended"), ({"waiting": {}}, "waiting"), (None, "waiting")]
)
def test_helper_container(state: dict[str, Any] | None, expected: str) -> None:
    statuses = [] if state is None else [status(names.HELPER_CONTAINER, state)]
    spec = {"ephemeralContainers": [{"name": names.HELPER_CONTAINER}]}
    assert running(pod(spec=spec, ephemeralContainerStatuses=statuses), names.HELPER_CONTAINER) == expected
    assert running(pod(), names.HELPER_CONTAINER) == ""
