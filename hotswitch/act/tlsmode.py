"""The mesh's side of `direct` inbound: meshed clients are told to send plaintext, and later to stop it (S4.3, S4.5).

A meshed client sends mTLS to an endpoint as long as its configuration says so, and a gate opened straight to the app
would make that garbage. So, before the gate: the pod's label, then a touch of its EndpointSlices (a NotReady pod's
label is read at no other event), then istiod is watched by a subscription of our own until it says the same, and a
second more for the slowest proxy. Back again after the gate is closed: label, touch, and the same look.

The label is written by PATCH pods/status, bound to the pod's uid and the version that was read. It changes nothing of
what the pod's own proxy accepts. Headless and multi-network Services are the preflight's to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hotswitch.act import slices
from hotswitch.act.steps import Step, StepFailed, again, step_failed
from hotswitch.api.names import TLS_MODE_LABEL, TOUCHED
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.patch import patch_pod_status, status_patch
from hotswitch.model import PodRef

DISABLED, ISTIO = "disabled", "istio"
TRIES = 4  # the label's patch, when others write the pod at the same time
EDS_WITHIN_S = 30.0  # istiod's debounce may take 10 s, and a big mesh's push some more


class Clients(Protocol):
    """What istiod tells meshed clients (act.eds_check)."""

    async def until(self, clusters: tuple[str, ...], addresses: frozenset[str], *, tls: bool, within_s: float) -> None:
        """Raises StepFailed when they are not told so in time, or it cannot be asked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Meshed:
    """One pod in the mesh. `label_before`: the label's value before hotswitch changed it; None: it had none.
    `generation`: of the act, so that a touch of an earlier one is not taken for this one's."""

    cluster: Cluster
    clients: Clients
    pod: PodRef
    addresses: frozenset[str]
    label_before: str | None
    generation: int
    domain: str = "cluster.local"


def before_opening(mesh: Meshed) -> tuple[Step, ...]:
    """What has to be done before the gate is opened `direct` inbound. Nothing where clients send plaintext anyway."""
    return _steps(mesh, "plain", DISABLED)


def after_closing(mesh: Meshed) -> tuple[Step, ...]:
    """What has to be done after the gate was closed. Also undoes an opening that was not carried to its end."""
    return _steps(mesh, "mtls", ISTIO)


def _steps(mesh: Meshed, way: str, label: str) -> tuple[Step, ...]:
    if mesh.label_before != ISTIO:
        return ()
    mark = f"{mesh.pod.uid}/{mesh.generation}/{way}"
    tls = label == ISTIO
    return (
        Step(
            name=f"{way}-label",
            do=lambda: _label(mesh, label),
            done=lambda: _is_labelled(mesh, label),
            says=f"label {TLS_MODE_LABEL}={label} on pod {mesh.pod}, by PATCH pods/status",
        ),
        Step(
            name=f"{way}-touch",
            do=lambda: slices.touch(mesh.cluster, mesh.pod, mark),
            done=lambda: slices.are_touched(mesh.cluster, mesh.pod, mark),
            says=f"annotation {TOUCHED}={mark} on every EndpointSlice that has it",
        ),
        Step(
            name=f"{way}-eds",
            do=lambda: _told(mesh, tls=tls),
            done=_never,
            says=f"wait until istiod tells clients to send {'mTLS' if tls else 'plaintext'} to it, and 1 s more",
        ),
    )


async def _never() -> bool:
    """Looked at again after a crash: nobody kept watching."""
    return False


async def _told(mesh: Meshed, *, tls: bool) -> None:
    names = await slices.eds_clusters(mesh.cluster, mesh.pod, mesh.domain)
    if names:  # a pod of no Service has no clients that would have to be told
        await mesh.clients.until(names, mesh.addresses, tls=tls, within_s=EDS_WITHIN_S)


async def _label(mesh: Meshed, value: str) -> None:
    for _ in range(TRIES):
        label, version = await _read(mesh)
        if label == value:
            return
        patch = status_patch(uid=mesh.pod.uid, resource_version=version, labels={TLS_MODE_LABEL: value})
        try:
            await again(partial(patch_pod_status, mesh.cluster, mesh.pod.namespace, mesh.pod.name, patch))
        except ApiFailure as failure:
            if failure.is_conflict:
                continue  # somebody else wrote the pod: look again
            right = f"patch pods/status (label {TLS_MODE_LABEL}) in namespace {mesh.pod.namespace}"
            raise step_failed(f"the label of {mesh.pod} cannot be written", right, failure) from failure
        return
    raise StepFailed(f"the label of {mesh.pod} cannot be written: the pod changes all the time")


async def _is_labelled(mesh: Meshed, value: str) -> bool:
    return (await _read(mesh))[0] == value


async def _read(mesh: Meshed) -> tuple[str | None, str]:
    """The label and the version of the pod. Raises StepFailed."""
    try:
        pod = await again(lambda: mesh.cluster.get(PODS, mesh.pod.namespace, mesh.pod.name))
    except ApiFailure as failure:
        right = f"get pods in namespace {mesh.pod.namespace}"
        raise step_failed(f"{mesh.pod} cannot be read", right, failure) from failure
    metadata = pod.get("metadata") or {}
    if metadata.get("uid") != mesh.pod.uid:
        raise StepFailed(f"another pod is called {mesh.pod} now", again=False)
    return (metadata.get("labels") or {}).get(TLS_MODE_LABEL), str(metadata.get("resourceVersion", ""))
