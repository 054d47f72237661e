"""Which of the app's probes go to pilot-agent: by the agent's file, or by the pod's manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hotswitch.agent.standin import declared
from hotswitch.config.agentfile import Pod
from hotswitch.config.told import parse_as
from tests.capture.golden import pods

pytestmark = pytest.mark.unit


def pod(**more: Any) -> Pod:
    fields = {"name": "web-0", "uid": "u", "netns": "/proc/self/ns/net", "addresses": ["10.0.0.1"]}
    return parse_as(Pod, {"capture": {"args": ["-b", "*"]}, **fields, **more}, "test")


def test_by_a_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    workload = pods()["hello-probes.yaml.injected"]
    manifest.write_text(yaml.safe_dump({"kind": "Pod", **workload["spec"]["template"]}))
    found = declared(pod(capture={"manifest": str(manifest)}))
    assert found.refusal == "" and found.status_port == 15020
    names = sorted(probe.name for probe in found.probes)  # two lifecycle hooks are left out
    assert names == ["/app-health/hello/livez", "/app-health/hello/readyz", "/app-health/world/livez"]


def test_by_the_file_itself() -> None:
    probers = {
        "/app-health/web/livez": {"tcpSocket": {"port": 80}},
        "/app-lifecycle/web/prestopz": {"httpGet": {"port": 1}},
    }
    found = declared(pod(app={"probers": probers, "status_port": 15999}))
    assert [(probe.name, probe.port) for probe in found.probes] == [("/app-health/web/livez", 80)]
    assert found.status_port == 15999


def test_none_or_unknown() -> None:
    assert declared(pod()).refusal == "no probe of the app goes to pilot-agent"
    bad = declared(pod(app={"probers": {"/app-health/web/livez": {"exec": {}}}}))
    assert bad.refusal.startswith("the app's probes are not known")
