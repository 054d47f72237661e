"""The mesh as one look finds it: for commands that answer and end. What may not be read is a doubt, as it is for the
controller (I2).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from hotswitch.api import names
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import CONFIGMAPS, ISTIO, NAMESPACES, PODS, POLICIES, SERVICES, Kind
from hotswitch.cluster.pods import Pod
from hotswitch.config.objects import Problem
from hotswitch.controller.picture import Picture
from hotswitch.controller.watching import MESH_CONFIG


class NotFound(LookupError):
    """No such pod, or several; the message is a sentence."""


class Snapshot:
    """`problems`: what users wrote that is not valid. `unread`: kinds that may not be listed, with the refusal."""

    def __init__(self, cluster: Cluster, root_namespace: str) -> None:
        self.cluster, self.root_namespace = cluster, root_namespace
        self.problems: dict[str, Problem] = {}
        self.unread: dict[str, str] = {}
        self.picture = Picture(cluster, root_namespace, time.time, self._invalid)

    def _invalid(self, problem: Problem) -> None:
        self.problems[str(problem)] = problem

    async def read(self, namespace: str | None = None) -> Snapshot:
        """Pods of one namespace, or of all. Raises ApiFailure when pods or namespaces cannot be read."""
        for each in await self.cluster.list(NAMESPACES):
            about = each["metadata"]
            labels, notes = about.get("labels") or {}, about.get("annotations") or {}
            self.picture.namespace_there(about["name"], about.get("uid", ""), labels, notes)
        for each in await self._list(POLICIES):
            self.picture.policy_there(each)
        for kind in (*ISTIO, SERVICES):
            for each in await self._list(kind):
                self.picture.istio_there(kind, each)
        self.picture.mesh_config(await self._mesh_config())
        self.picture.unreadable_kinds(self.unread)
        for each in await self.cluster.list(PODS, namespace, label_selector=names.TLS_MODE_LABEL):
            self.picture.pod_there(msgspec.convert(each, Pod))
        return self

    async def _list(self, kind: Kind) -> list[dict[str, Any]]:
        try:
            return list(await self.cluster.list(kind))
        except ApiFailure as failure:
            if not failure.is_missing:
                self.unread[str(kind)] = str(failure)
            return []

    async def _mesh_config(self) -> Mapping[str, Any] | None:
        try:
            return await self.cluster.get(CONFIGMAPS, self.root_namespace, MESH_CONFIG)
        except ApiFailure:
            return None

    def pod(self, name: str, namespace: str) -> Pod:
        """By "namespace/name", name (in `namespace`) or uid. Raises NotFound."""
        place, _, own = name.rpartition("/")
        found = [
            pod
            for pod in self.picture.pods.values()
            if pod.uid == name or (pod.metadata.name == own and pod.metadata.namespace == (place or namespace))
        ]
        if len(found) != 1:
            raise NotFound(f"pod {name!r}: no pod with a sidecar of that name in {place or namespace}")
        return found[0]
