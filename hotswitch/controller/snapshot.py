"""The mesh as one look finds it: for commands that answer and end. What may not be read is a doubt, as it is for the
controller (I2).
"""

from __future__ import annotations

import re
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

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def where(name: str, namespace: str) -> str | None:
    """The namespace to look in for a pod of this name; None: in all, because a uid says none."""
    place = name.rpartition("/")[0]
    return place or (None if _UID.fullmatch(name) else namespace)


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
        """Pods of one namespace, or of all. Raises ApiFailure when pods cannot be read."""
        for each in await self._namespaces(namespace):
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

    async def _namespaces(self, only: str | None) -> list[dict[str, Any]]:
        """Who may not list them all may still look at their own."""
        if only is None:
            return await self._list(NAMESPACES)
        try:
            return [await self.cluster.get(NAMESPACES, None, only)]
        except ApiFailure as failure:
            if not failure.is_missing:
                self._leave_unread(NAMESPACES, failure)
            return []

    async def _list(self, kind: Kind) -> list[dict[str, Any]]:
        try:
            return list(await self._listed(kind))
        except ApiFailure as failure:
            self._leave_unread(kind, failure)
            return []

    async def _listed(self, kind: Kind) -> list[dict[str, Any]]:
        """In the version that is served, as the controller asks: an older Istio serves another one."""
        try:
            return list(await self.cluster.list(kind))
        except ApiFailure as failure:
            if not failure.is_missing:
                raise
        other = await self.cluster.served(kind)
        return [] if other is None or other == kind else list(await self.cluster.list(other))

    def _leave_unread(self, kind: Kind, failure: ApiFailure) -> None:
        """For want of a right. Raises the failure when it is another: then nobody knows anything."""
        if not failure.is_refused or failure.status == 401:
            raise failure
        self.unread[str(kind)] = failure.message

    @property
    def settings_known(self) -> bool:
        """Whether what policies and namespaces say could be read at all."""
        return not {str(POLICIES), str(NAMESPACES)} & self.unread.keys()

    async def _mesh_config(self) -> Mapping[str, Any] | None:
        try:
            return await self.cluster.get(CONFIGMAPS, self.root_namespace, MESH_CONFIG)
        except ApiFailure as failure:
            if not failure.is_missing:
                self._leave_unread(CONFIGMAPS, failure)
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
