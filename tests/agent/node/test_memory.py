"""What a node's agent writes down of its pods, and takes up again (I1)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotswitch.agent.authority import OwnAuthority
from hotswitch.agent.node.agent import NodeAgent
from hotswitch.agent.node.describe import known
from hotswitch.agent.node.memory import Manifests, Memory, trimmed
from hotswitch.agent.node.reader import Reader
from hotswitch.agent.node.settings import NodeSettings
from hotswitch.cluster import pods

pytestmark = pytest.mark.unit

SECRET = "hunter2"


def manifest(uid: str = "uid") -> dict[str, Any]:
    env = [{"name": "PASSWORD", "value": SECRET}]
    proxy = {"name": "istio-proxy", "args": ["proxy", "sidecar"]}
    containers = [{"name": "app", "env": env}, proxy]
    spec = {"initContainers": [{"name": "istio-validation"}], "containers": containers}
    applied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": spec})}
    annotations = {"traffic.sidecar.istio.io/excludeOutboundPorts": "5432", **applied}
    metadata = {"name": f"pod-{uid}", "namespace": "shop", "uid": uid, "annotations": annotations}
    return {"metadata": metadata, "spec": spec, "status": {}}


def test_no_variable_of_the_app_is_written_down(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "pods")
    memory.keep("uid", trimmed(manifest()))
    assert all(SECRET not in path.read_text() for path in (tmp_path / "pods").iterdir())
    (kept,) = memory.read()
    assert kept["metadata"]["annotations"] == {"traffic.sidecar.istio.io/excludeOutboundPorts": "5432"}


def test_a_pod_that_was_written_down_otherwise_is_none(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.keep("odd", {"metadata": {"uid": "odd", "labels": "none"}})
    memory.keep("uid", trimmed(manifest()))
    reader = Reader(tmp_path)
    assert set(reader.manifests) == {"odd", "uid"} and set(reader.remembered()) == {"uid"}


def test_what_is_kept_of_a_pod_is_what_was_read(tmp_path: Path) -> None:
    """And takes less memory than its text: nearly all of it is said over and over."""
    kept, whole = Manifests(), trimmed(manifest())
    whole["spec"]["volumes"] = [{"name": f"volume-{number}", "emptyDir": {}} for number in range(100)]
    kept["uid"] = whole
    assert kept["uid"] == whole
    assert len(kept._packed["uid"]) < len(json.dumps(whole)) / 4


def test_one_odd_pod_keeps_no_other_from_being_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading its manifest raises."""

    async def story() -> None:
        agent = NodeAgent(NodeSettings(node="node", directory=tmp_path), OwnAuthority())
        asked: list[str] = []

        def find(wanted: Any) -> dict[str, Any]:
            asked.extend(each.uid for each in wanted)
            return {}

        async def read(cluster: object, pod: pods.Pod) -> dict[str, Any]:
            if pod.uid == "odd":
                raise RecursionError("its annotations are odd")
            return manifest(pod.uid)

        monkeypatch.setattr(agent.finder, "find", find)
        monkeypatch.setattr(agent._reader, "read", read)
        monkeypatch.setattr(agent, "_cluster", None, raising=False)
        monkeypatch.setattr(agent, "roster", SimpleNamespace(synced=True), raising=False)
        await agent._attach_all({uid: known(trimmed(manifest(uid))) for uid in ("odd", "uid")})
        assert asked == ["uid"] and not agent._retries.is_due("odd")
        await agent.close()

    asyncio.run(story())
