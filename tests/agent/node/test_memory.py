"""What a node's agent writes down of its pods, and takes up again (I1)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hotswitch.agent.authority import OwnAuthority
from hotswitch.agent.node import agent as node
from hotswitch.agent.node.agent import NodeAgent
from hotswitch.agent.node.describe import known
from hotswitch.agent.node.memory import Memory, trimmed
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


def test_a_pod_that_was_written_down_otherwise_is_none() -> None:
    odd = {"metadata": {"uid": "odd", "labels": "none"}}
    assert set(node._remembered({"odd": odd, "uid": trimmed(manifest())})) == {"uid"}


def test_one_odd_pod_keeps_no_other_from_being_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading its manifest raises."""

    async def story() -> None:
        agent = NodeAgent(NodeSettings(node="node", directory=tmp_path), OwnAuthority())
        asked: list[str] = []

        def find(wanted: Any) -> dict[str, Any]:
            asked.extend(each.uid for each in wanted)
            return {}

        async def read(pod: pods.Pod, slots: object) -> dict[str, Any]:
            if pod.uid == "odd":
                raise RecursionError("its annotations are odd")
            return manifest(pod.uid)

        monkeypatch.setattr(agent.finder, "find", find)
        monkeypatch.setattr(agent, "_read", read)
        await agent._attach_all({uid: known(trimmed(manifest(uid))) for uid in ("odd", "uid")})
        assert asked == ["uid"] and not agent._is_due("odd")
        await agent.close()

    asyncio.run(story())
