"""Is a backend available? Decided by its app, not by a dead sidecar (S0.1, S0.2, S4.4).

The kubelet counts the sidecar among a pod's containers: one that died makes the pod NotReady, though hotswitch has led
its traffic past it and the app answers. Such a pod is available. A pod whose app says that it is not ready is not.
"""

from __future__ import annotations

from hotswitch.backends import Backend, CheckKind, Conditions, Health, Rotation, ServiceOptions, Staleness


def answers(backend: Backend, options: ServiceOptions) -> bool:
    """Would a request be served, whatever people or the registry want? A check that goes to the app itself decides
    alone for a pod that is bypassed; else both it and the kubelet must agree."""
    if backend.ended or backend.staleness is Staleness.LOST:
        return False
    ready = backend.kubelet_ready or (backend.bypassed and backend.app_ready)
    if options.check.kind is CheckKind.KUBELET:
        return ready
    checked = backend.health is Health.AVAILABLE
    return checked and (ready or backend.bypassed)


def is_available(backend: Backend, options: ServiceOptions) -> bool:
    """May it be given new flows?"""
    return answers(backend, options) and not backend.terminating and backend.rotation is Rotation.IN


def conditions(backend: Backend, options: ServiceOptions) -> Conditions:
    return Conditions(
        ready=is_available(backend, options),
        serving=answers(backend, options) and backend.rotation is not Rotation.OUT,
        terminating=backend.terminating,
    )
