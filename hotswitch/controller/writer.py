"""Writing a pod's status annotation and condition: one PATCH of pods/status, fenced by uid and version (I6).

A pod that was replaced, or changed since it was looked at, is not written: the API server answers 409, and the worker
looks again. Only our own keys are ever named, and the admission policy that is shipped allows no others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import msgspec

from hotswitch.api import names
from hotswitch.api.status import PodStatus, StatusError, decode, encode
from hotswitch.cluster.answers import read
from hotswitch.cluster.client import STRATEGIC, Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.controller.seen import SeenPod


class Stale(RuntimeError):
    """The pod is not what it was when it was looked at, or gone: look again."""


class Writer(Protocol):
    async def write(
        self,
        pod: SeenPod,
        status: PodStatus,
        condition: Mapping[str, Any] | None = None,
    ) -> str:
        """The new resourceVersion. Raises Stale, ApiFailure."""
        ...

    async def version(self, pod: SeenPod, status: PodStatus | None) -> str:
        """The newest resourceVersion of this very pod, as long as it still says `status`: who else has written that
        leads by now. Raises Stale, ApiFailure."""
        ...

    async def exists(self, pod: SeenPod) -> bool:
        """This very pod, whatever the watch shows of it. Raises ApiFailure."""
        ...


def opened_by(pod: SeenPod, status: PodStatus, lasting: Collection[str]) -> dict[str, str | None]:
    """The label that is written with this status, by the same write (I4, I6). `lasting`: actuators whose openings
    nothing but a controller ends. None: it is taken away. Empty: the pod's labels are not touched at all. One that says
    so of this very opening stays, also where that actuator is not offered any longer."""
    label = pod.labels.get(names.OPENED_BY_LABEL)
    if status.actuator in lasting:
        return {names.OPENED_BY_LABEL: status.actuator if status.may_be_open else None}
    if label is None or (label == status.actuator and status.may_be_open):
        return {}
    return {names.OPENED_BY_LABEL: None}


class StatusWriter:
    """`lasting`: as of `opened_by`."""

    def __init__(self, cluster: Cluster, lasting: frozenset[str] = frozenset()) -> None:
        self._cluster, self._lasting = cluster, lasting

    async def write(
        self,
        pod: SeenPod,
        status: PodStatus,
        condition: Mapping[str, Any] | None = None,
    ) -> str:
        metadata: dict[str, Any] = {
            "uid": pod.ref.uid,
            "resourceVersion": pod.resource_version,
            "annotations": {names.STATUS: encode(status)},
        }
        if labels := opened_by(pod, status, self._lasting):
            metadata["labels"] = labels
        patch: dict[str, Any] = {"metadata": metadata}
        if condition is not None:
            patch["status"] = {"conditions": [dict(condition)]}
        path = PODS.path(pod.ref.namespace, pod.ref.name, "status")
        try:
            answer = await self._cluster.request("PATCH", path, body=patch, content_type=STRATEGIC)
        except ApiFailure as failure:
            if failure.is_missing or failure.is_conflict:
                raise Stale(f"{pod.ref}: {failure}") from failure
            raise
        return read(answer, _Written).metadata.resourceVersion

    async def version(self, pod: SeenPod, status: PodStatus | None) -> str:
        found = await self._read(pod)
        if found is None:
            raise Stale(f"{pod.ref}: is gone, or another one now")
        if _said(found, pod) != status:
            raise Stale(f"{pod.ref}: somebody else has written its status")
        return found.resourceVersion

    async def exists(self, pod: SeenPod) -> bool:
        return await self._read(pod) is not None

    async def _read(self, pod: SeenPod) -> _Metadata | None:
        try:
            answer = await self._cluster.request("GET", PODS.path(pod.ref.namespace, pod.ref.name))
        except ApiFailure as failure:
            if failure.is_missing:
                return None
            raise
        found = read(answer, _Written).metadata
        return found if found.uid == pod.ref.uid else None


def _said(found: _Metadata, pod: SeenPod) -> PodStatus | None:
    text = found.annotations.get(names.STATUS)
    try:
        return None if text is None else decode(text, pod.ref.uid)
    except StatusError as failure:
        raise Stale(f"{pod.ref}: {failure}") from failure


class _Metadata(msgspec.Struct):
    uid: str
    resourceVersion: str
    annotations: dict[str, str] = {}


class _Written(msgspec.Struct):
    metadata: _Metadata
