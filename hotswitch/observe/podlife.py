"""A pod by its object alone: whose it is, whether it is ending, whether its app runs (S4.2a, I2). Pure.

A terminating pod does not always say so by a deletionTimestamp (eviction and node shutdown by the kubelet).
"""

from __future__ import annotations

from hotswitch.api import names
from hotswitch.cluster.pods import ContainerStatus, Pod
from hotswitch.model import AGENT_CONTAINER, PodRef, PodUid

PROXY = "istio-proxy"
NOT_APP = frozenset({PROXY, AGENT_CONTAINER, names.HELPER_CONTAINER})


def reference(pod: Pod) -> PodRef:
    return PodRef(pod.metadata.name, pod.metadata.namespace, PodUid(pod.uid), workload(pod))


def workload(pod: Pod) -> str:
    """Its owner; of a Deployment's ReplicaSet the Deployment, by the name that it makes of its own and the hash."""
    owner = pod.metadata.controller
    if owner is None:
        return f"pod/{pod.metadata.name}"
    suffix = pod.labels.get("pod-template-hash", "")
    if owner.kind == "ReplicaSet" and suffix and owner.name.endswith(f"-{suffix}"):
        return f"deploy/{owner.name.removesuffix(f'-{suffix}')}"
    return f"{owner.kind.lower()}/{owner.name}"


def terminating(pod: Pod) -> str:
    if pod.is_terminating:
        return "it is being deleted"
    if pod.is_completed:
        return f"its phase is {pod.status.phase}"
    disrupted = pod.condition("DisruptionTarget")
    if disrupted is not None and disrupted.status == "True":
        return f"it is about to be ended: {disrupted.reason or 'DisruptionTarget'}"
    if pod.status.reason in ("Evicted", "NodeShutdown", "Terminated", "Shutdown"):
        return f"its status says {pod.status.reason}"
    return "its app has completed" if _completed(pod) else ""


def _completed(pod: Pod) -> bool:
    """Of a Job: what is left running is the proxy, and what ended was meant to end."""
    every = apps(pod)
    ended = [each.state.terminated for each in every if each.state is not None]
    return bool(every) and pod.spec.restart_policy != "Always" and all(ended) and len(ended) == len(every)


def app_down(pod: Pod) -> str:
    every = apps(pod)
    if not every or any(each.is_running for each in every) or app_not_begun(pod):
        return ""
    return f"no container of the app runs ({every[0].name} is {told(every[0])})"


def app_not_begun(pod: Pod) -> bool:
    """No container of the app was ever started: its image is being pulled, or the kubelet starts what comes before it.
    A native sidecar is ready by then."""
    every = apps(pod)
    return bool(every) and all(map(_waits_for_its_first_start, every))


def _waits_for_its_first_start(status: ContainerStatus) -> bool:
    ended = status.last_state is not None and status.last_state.terminated is not None
    waits = status.state is not None and status.state.waiting is not None
    return waits and not ended and status.restart_count == 0


def told(status: ContainerStatus) -> str:
    state = status.state
    if state is None:
        return "no state"
    if state.running is not None:
        return f"running{'' if status.ready else ', not ready'}, {status.restart_count} restarts"
    if state.terminated is not None:
        return f"terminated: {state.terminated.reason or 'no reason'}, exit code {state.terminated.exit_code}"
    last = status.last_state.terminated if status.last_state else None
    ended = f", last ended by {last.reason or 'no reason'}, exit code {last.exit_code}" if last else ""
    return f"waiting: {(state.waiting.reason if state.waiting else '') or 'no reason'}{ended}"


def apps(pod: Pod) -> list[ContainerStatus]:
    return [each for each in pod.status.container_statuses or () if each.name not in NOT_APP]
