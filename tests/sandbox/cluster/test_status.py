"""From what the kubelet stand-in knows to a pod's status."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.sandbox.cluster import rights, status
from hotswitch.sandbox.cluster.status import Identity
from hotswitch.sandbox.container import Container, ContainerSpec, ContainerStatus, LastState, Restart, Timings
from hotswitch.sandbox.process import Process

pytestmark = pytest.mark.unit

IDENTITY = Identity("istio-proxy", "proxyv2:1", "web-0_default(1)", "ab")
DEAD = LastState(0, 20.0, "envoy ended with signal SIGKILL", 10.0)


def _never() -> Process:
    raise AssertionError("nothing is started here")


def _container(restart: Restart = Restart.ALWAYS, **known: Any) -> Container:
    container = Container(ContainerSpec("istio-proxy", _never, restart=restart), Timings(), lambda: None)
    container.status = ContainerStatus(**known)
    return container


def test_crash_loop_shows_as_waiting() -> None:  # facts/kubernetes.md 6d
    entry = status.container_status(IDENTITY, _container(waiting="CrashLoopBackOff", last_state=DEAD, restart_count=3))
    assert entry["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert entry["lastState"]["terminated"]["exitCode"] == 0, "pilot-agent leaves with 0 whatever killed Envoy"
    assert entry["restartCount"] == 3 and not entry["ready"] and not entry["started"]


def test_dead_container_shows_before_its_restart() -> None:
    state = status.container_status(IDENTITY, _container(last_state=DEAD))["state"]
    assert state["terminated"]["reason"] == "Completed"
    assert state["terminated"]["message"] == "envoy ended with signal SIGKILL"


def test_killed_container_has_the_signals_exit_code() -> None:
    killed = status.terminated(LastState(-9, 2.0, "", 1.0), IDENTITY, 0)
    assert (killed["exitCode"], killed["reason"]) == (137, "Error")


def test_sidecar_waits_for_its_startup_probe() -> None:
    entry = status.container_status(IDENTITY, _container(running=True))
    assert "running" in entry["state"] and not entry["started"] and not entry["ready"]


def test_unready_container_keeps_the_pod_from_ready() -> None:
    entries = [{"name": "app", "ready": True}, {"name": "istio-proxy", "ready": False}]
    found = {each["type"]: each for each in status.conditions(entries, "Running", {}, True)}
    assert found["Ready"]["status"] == found["ContainersReady"]["status"] == "False"
    assert found["Ready"]["message"] == "containers with unready status: [istio-proxy]"
    assert found["Initialized"]["status"] == "True"


def test_closed_gate_keeps_the_pod_from_ready() -> None:  # facts/kubernetes.md 6c
    found = {
        each["type"]: each
        for each in status.conditions([{"name": "app", "ready": True}], "Running", {"a/b": False}, True)
    }
    assert (found["ContainersReady"]["status"], found["Ready"]["status"]) == ("True", "False")
    assert found["Ready"]["reason"] == "ReadinessGatesNotReady"


def test_transition_time_moves_without_a_transition() -> None:
    before = [{"type": "Ready", "status": "False", "reason": "x", "message": "y", "lastTransitionTime": "then"}]
    still, turned = {"type": "Ready", "status": "False", "reason": "z"}, {"type": "Ready", "status": "True"}
    assert status.dated([still], before, "now") == [{**still, "message": None, "lastTransitionTime": "then"}]
    assert status.dated([turned], before, "now") == [
        {**turned, "reason": None, "message": None, "lastTransitionTime": "now"}
    ]


def test_job_restarts_what_has_succeeded() -> None:
    assert [Restart.ON_FAILURE.after(code) for code in (0, 1)] == [False, True]
    assert not Restart.NEVER.after(1) and Restart.ALWAYS.after(0)


def test_container_has_more_rights_than_it_asked_for() -> None:  # facts/kubernetes.md 6e
    asked = {
        "securityContext": {"runAsUser": 0, "runAsGroup": 1337, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}
    }
    found = rights.of(asked, {"securityContext": {"runAsUser": 1000}})
    assert (found.uid, found.gid, found.capabilities) == (0, 1337, ("NET_ADMIN",))
    assert "--bounding-set=-all,+net_admin" in found.argv(("true",))
    assert rights.of({}, {"securityContext": {"runAsUser": 1000}}).uid == 1000
    assert rights.of({}, {}).capabilities == rights.RUNTIME_DEFAULT
