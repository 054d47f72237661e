"""Which pods of the node are guarded: those that opted in and have Istio's sidecar (S4.6, I2). Pure.

A pod that shares the node's network is never touched: its namespace is everybody's. What its own manifest only shows
when it is read whole (a gateway, no capture) is refused later, by name (agent.node.describe).
"""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.api.names import MODE_LABEL
from hotswitch.cluster.pods import Pod
from hotswitch.model import Mode

PROXY = "istio-proxy"
_IN = frozenset({Mode.AUTO.value, Mode.OBSERVE.value})


def why_not(pod: Pod, namespace_labels: Mapping[str, str]) -> str:
    """Why the pod is left alone, as a sentence; "" when it is guarded."""
    return (
        _not_opted_in(pod.labels, namespace_labels)
        or _no_sidecar(pod)
        or ("it shares the node's network" if pod.spec.host_network else "")
        or (f"its phase is {pod.status.phase}" if pod.is_completed else "")
        or ("" if pod.addresses else "it has no address yet")
    )


def _not_opted_in(labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> str:
    """Either may say it; "off" on the pod always counts. How much may be done is for the grant to say."""
    said = labels.get(MODE_LABEL, "")
    if said == Mode.OFF:
        return f"its label {MODE_LABEL} is off"
    if said in _IN or namespace_labels.get(MODE_LABEL) in _IN:
        return ""
    return f"neither it nor its namespace has the label {MODE_LABEL}"


def _no_sidecar(pod: Pod) -> str:
    ordinary = any(each.name == PROXY for each in pod.spec.containers or ())
    native = any(each.name == PROXY and each.restart_policy == "Always" for each in pod.spec.init_containers or ())
    return "" if ordinary or native else "it has no sidecar"
