"""What the slices of a Service have to be, as Kubernetes' EndpointSlice controller sees it (facts/kubernetes.md 6b).

Ready is the pod's Ready and not terminating, serving is Ready alone, publishNotReadyAddresses makes ready true always;
ended pods are left out; at most 100 endpoints a slice, all with the same ports. Pure: objects in, objects out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = dict[str, Any]

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
AT_MOST = 100


def managed(service: Object) -> bool:
    """Does the controller make slices for it?"""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def selects(service: Object, pod: Object) -> bool:
    selector: Mapping[str, str] = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    same_namespace = pod["metadata"]["namespace"] == service["metadata"]["namespace"]
    return same_namespace and bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def wanted(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The slices' contents, without names: addressType, endpoints, ports, labels."""
    chosen = sorted((pod for pod in pods if selects(service, pod) and _counts(pod)), key=lambda pod: _name(pod))
    found: list[Object] = []
    for family in families(service):
        by_ports: dict[str, list[Object]] = {}
        for pod in chosen:
            if addresses := _addresses(pod, family):
                ports = json.dumps(_ports(service, pod), sort_keys=True)
                by_ports.setdefault(ports, []).append(_endpoint(service, pod, addresses))
        for ports, endpoints in by_ports.items():
            found += [content(service, family, part, json.loads(ports)) for part in _parts(endpoints)]
    return found


def families(service: Object) -> tuple[str, ...]:
    return tuple(service["spec"].get("ipFamilies") or ("IPv4",))


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each.get("status") == "True" for each in conditions)


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _counts(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def _addresses(pod: Object, family: str) -> list[str]:
    every = [each["ip"] for each in (pod.get("status") or {}).get("podIPs") or ()]
    return [address for address in every if (":" in address) == (family == "IPv6")][:1]


def _endpoint(service: Object, pod: Object, addresses: list[str]) -> Object:
    ready, terminating = is_ready(pod), "deletionTimestamp" in pod["metadata"]
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    metadata = pod["metadata"]
    ref = {"kind": "Pod", **{part: metadata[part] for part in ("namespace", "name", "uid")}}
    return {
        "addresses": addresses,
        "conditions": {"ready": anyway or (ready and not terminating), "serving": ready, "terminating": terminating},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": ref,
    }


def _ports(service: Object, pod: Object) -> list[Object]:
    found = []
    for port in service["spec"].get("ports") or ():
        number = _number(port.get("targetPort") or port["port"], pod)
        if number is not None:
            own = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            found.append(own | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}))
    return found


def _number(target: int | str, pod: Object) -> int | None:
    if isinstance(target, int):
        return target
    named = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    return next((port["containerPort"] for port in named if port.get("name") == target), None)


def _parts(endpoints: Sequence[Object]) -> list[list[Object]]:
    return [list(endpoints[start : start + AT_MOST]) for start in range(0, len(endpoints), AT_MOST)]


def content(service: Object, family: str, endpoints: list[Object], ports: list[Object]) -> Object:
    name = service["metadata"]["name"]
    labels = {**(service["metadata"].get("labels") or {}), SERVICE_NAME: name, MANAGED_BY: CONTROLLER}
    labels |= {HEADLESS: ""} if service["spec"].get("clusterIP") == "None" else {}
    return {"addressType": family, "endpoints": endpoints, "ports": ports, "labels": labels}
