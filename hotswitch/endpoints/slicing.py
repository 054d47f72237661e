"""What the EndpointSlices of a Service have to be, and the fewest writes that make them so (facts: at most 100). Pure.

Every condition is set: consumers take an unset one for something else each. An endpoint stays in the slice that it is
in, so one that changes rewrites one slice; slices have names by number, and a gap is filled before a new one is made.
Standbys are left out altogether: a data plane that panics sends to endpoints that are not ready, too (S0.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotswitch.backends import Backend, Published, PublishedEndpoint, Role, ServiceRecord
from hotswitch.endpoints import managers

AT_MOST = 100
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpoints.hotswitch.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
GENERATION = "endpoints.hotswitch.io/generation"
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One slice's content. `ports` as the API has them."""

    name: str
    family: str
    ports: tuple[Mapping[str, Any], ...]
    endpoints: tuple[Object, ...]


def parts(published: Published, known: Iterable[Part], others: Iterable[str] = ()) -> tuple[Part, ...]:
    """All slices that there should be. `known`: those that there are, by whose content endpoints stay where they are;
    `others`: names that somebody else has. Of each family there is one at least, if only an empty one."""
    there = {part.name: part for part in known}
    found: list[Part] = []
    for family in published.service.families:
        mine = sorted((part for part in there.values() if part.family == family), key=lambda part: part.name)
        found += _of_family(published, family, mine, others)
    return tuple(found)


def _of_family(published: Published, family: str, known: Sequence[Part], others: Iterable[str]) -> list[Part]:
    groups: dict[tuple[tuple[tuple[str, Any], ...], ...], list[Object]] = {}
    for each in published.endpoints:
        address = each.backend.address(family)
        if address is not None and each.backend.role is not Role.STANDBY:
            groups.setdefault(_key(_ports(each.backend)), []).append(endpoint(each, address))
    spare = [part.name for part in known if not part.endpoints and not part.ports] if () not in groups else []
    names = _Names(published.service, family, {*(part.name for part in known), *others}, spare)
    found: list[Part] = []
    for key, endpoints in groups.items():
        ports = tuple(dict(each) for each in key)
        found += _placed(names, family, ports, endpoints, [part for part in known if _key(part.ports) == key])
    if not found:
        name = known[0].name if known else names.next()
        found.append(Part(name, family, (), ()))
    return found


def _placed(
    names: _Names, family: str, ports: tuple[Object, ...], endpoints: list[Object], known: Sequence[Part]
) -> list[Part]:
    """Each where it was; new ones where there is room, the fullest first; then in slices of their own."""
    wanted = {_identity(each): each for each in endpoints}
    rooms: list[tuple[str, list[Object]]] = []
    for part in known:
        stay = [wanted.pop(identity) for each in part.endpoints if (identity := _identity(each)) in wanted]
        rooms.append((part.name, stay[:AT_MOST]))
        wanted |= {_identity(each): each for each in stay[AT_MOST:]}
    left = list(wanted.values())
    for _, room in sorted(rooms, key=lambda each: -len(each[1])):
        taken, left = left[: AT_MOST - len(room)], left[AT_MOST - len(room) :]
        room += taken
    rooms += [(names.next(), left[start : start + AT_MOST]) for start in range(0, len(left), AT_MOST)]
    return [Part(name, family, ports, tuple(room)) for name, room in rooms if room]


class _Names:
    """SERVICE-hotswitch-4-0 and so on: the lowest number that is free. First those in `spare`, which stand empty: who
    is promoted is told of by one write, without a slice that goes before."""

    def __init__(self, service: ServiceRecord, family: str, taken: set[str], spare: list[str]) -> None:
        self._spare = spare
        self._stem, self._taken = f"{service.id.name}-hotswitch-{'6' if family == 'IPv6' else '4'}", taken

    def next(self) -> str:
        if self._spare:
            return self._spare.pop(0)
        number = next(number for number in range(len(self._taken) + 1) if f"{self._stem}-{number}" not in self._taken)
        name = f"{self._stem}-{number}"
        self._taken.add(name)
        return name


def endpoint(published: PublishedEndpoint, address: str) -> Object:
    backend, said = published.backend, published.conditions
    content: Object = {
        "addresses": [address],
        "conditions": {"ready": said.ready, "serving": said.serving, "terminating": said.terminating},
    }
    content |= {"nodeName": backend.locality.node} if backend.locality.node and not backend.locality.cluster else {}
    content |= {"zone": backend.locality.zone} if backend.locality.zone else {}
    if not backend.locality.cluster:  # a pod of another cluster must not be looked for in this one
        pod = backend.pod
        content["targetRef"] = {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
    return content


def _ports(backend: Backend) -> list[Object]:
    found = []
    for port in backend.ports:
        own: Object = {"name": port.name, "port": port.port, "protocol": port.protocol}
        found.append(own | ({"appProtocol": port.app_protocol} if port.app_protocol else {}))
    return found


def _key(ports: Iterable[Mapping[str, Any]]) -> tuple[tuple[tuple[str, Any], ...], ...]:
    return tuple(tuple(sorted(each.items())) for each in ports)


def _identity(content: Mapping[str, Any]) -> tuple[str, str]:
    return str((content.get("targetRef") or {}).get("uid", "")), str(content["addresses"][0])


def manifest(published: Published, part: Part) -> Object:
    """The whole object, without version and uid. Its owner is the Service: with that, it goes. It does not hold up the
    Service's deletion: who says so needs the right to change the Service's finalizers, where the API server checks
    owners (OwnerReferencesPermissionEnforcement, as on OpenShift)."""
    service = published.service
    owner = {"apiVersion": "v1", "kind": "Service", "name": service.id.name, "uid": service.uid}
    labels = {**service.labels, SERVICE_NAME: service.id.name, MANAGED_BY: MANAGER}
    labels |= {HEADLESS: ""} if service.headless else {}
    return {
        "metadata": {
            "name": part.name,
            "namespace": service.id.namespace,
            "labels": labels,
            "annotations": {GENERATION: str(published.generation)},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "addressType": part.family,
        "endpoints": list(part.endpoints),
        "ports": [dict(port) for port in part.ports],
    }


def part_of(content: Mapping[str, Any]) -> Part:
    """Of an object as the API has it."""
    return Part(
        name=str(content["metadata"]["name"]),
        family=str(content.get("addressType", "")),
        ports=tuple(content.get("ports") or ()),
        endpoints=tuple(content.get("endpoints") or ()),
    )


def differs(wanted: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """In anything that is ours to say. The annotation alone is no reason to write."""
    labels = (known.get("metadata") or {}).get("labels") or {}
    same_labels = all(labels.get(key) == text for key, text in wanted["metadata"]["labels"].items())
    return (
        not same_labels
        or (known.get("endpoints") or []) != wanted["endpoints"]
        or (known.get("ports") or []) != wanted["ports"]
        or (known["metadata"].get("ownerReferences") or []) != wanted["metadata"]["ownerReferences"]
    )


def is_ours(content: Mapping[str, Any]) -> bool:
    """To write: it carries our label, and no GitOps tool says what it is to be."""
    labels = content["metadata"].get("labels") or {}
    return labels.get(MANAGED_BY) == MANAGER and not managers.applied_by_others(content)
