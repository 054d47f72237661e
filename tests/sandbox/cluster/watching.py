"""Waiting until the API shows something, and asking it things, for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import PODS, Kind
from hotswitch.cluster.watch import Watcher
from tests.kubeapi import realapi

Object = dict[str, Any]
EMBEDDED, REAL = "embedded", "real"
every_api = pytest.mark.parametrize(
    "cluster", [EMBEDDED, *([REAL] if realapi.assets() else [])], indirect=True, scope="module"
)
"""What is true on the embedded API has to be true on a real API server: tried there where there is one."""


async def shown(
    cluster: Cluster, name: str, wanted: Callable[[Object], bool], kind: Kind = PODS, timeout_s: float = 15.0
) -> Object:
    """The object's first version that is as wanted. Raises TimeoutError with what was seen last."""
    found: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
    seen: list[Object] = []

    def hear(change: Any) -> None:
        seen[:] = [change.object]
        if change.type != "DELETED" and wanted(change.object) and not found.done():
            found.set_result(change.object)

    watcher = Watcher(cluster, kind, dict, on_event=hear, namespace="default", field_selector=f"metadata.name={name}")
    task = asyncio.create_task(watcher.run())
    try:
        return await asyncio.wait_for(found, timeout_s)
    except TimeoutError:
        raise TimeoutError(f"{name} was never as wanted; last: {[each.get('status') for each in seen]}") from None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def container(pod: Object, name: str) -> Object:
    """Its status, in whichever list it is; an empty one before there is any."""
    lists = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    every = (each for key in lists for each in pod["status"].get(key) or ())
    return next((each for each in every if each["name"] == name), {"state": {}, "lastState": {}})


def condition(pod: Object, kind: str) -> str:
    return next((each["status"] for each in pod["status"].get("conditions") or () if each["type"] == kind), "")


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready") == "True"


def waits(pod: Object, name: str = "istio-proxy") -> str:
    """Why the container waits; empty when it does not."""
    return str((container(pod, name)["state"].get("waiting") or {}).get("reason", ""))
