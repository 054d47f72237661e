"""What Leases, Events and EndpointSlices must be like: the kinds that hotswitch writes itself, checked as a real API
server (v1.34) checks them, so that what is written against the embedded one is accepted there.

Times differ: MicroTime (Leases, eventTime) has exactly six digits after the second, Time has any number.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from hotswitch.sandbox.kubeapi.failure import ApiError, Cause, Obj
from hotswitch.sandbox.kubeapi.record import at
from hotswitch.sandbox.kubeapi.resources import Resource, Table

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_PORT_NAME = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?)?")
_MESSAGE_LIMIT = 1024  # of an Event with an eventTime

LEASES, SLICES = ("coordination.k8s.io", "leases"), ("discovery.k8s.io", "endpointslices")
EVENTS = ("", "events")

_TIMES: dict[Table, tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = {
    LEASES: ((("spec", "acquireTime"), _MICRO_TIME), (("spec", "renewTime"), _MICRO_TIME)),
    EVENTS: ((("eventTime",), _MICRO_TIME), (("firstTimestamp",), _TIME), (("lastTimestamp",), _TIME)),
}
_INTEGERS: dict[Table, tuple[tuple[str, ...], ...]] = {
    LEASES: (("spec", "leaseDurationSeconds"), ("spec", "leaseTransitions")),
    EVENTS: (("count",),),
}


def read(resource: Resource, obj: Obj) -> None:
    """Raises ApiError 400 for a value that is not of its field's type."""
    start = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
    for path, form in _TIMES.get(resource.table, ()):
        value = at(obj, *path)
        if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
            raise ApiError(400, f'{start}: parsing time "{value}"')
    for path in _INTEGERS.get(resource.table, ()):
        value = at(obj, *path)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ApiError(400, f"{start}: json: cannot unmarshal {value!r} into field {'.'.join(path)} of type int32")


def complete(resource: Resource, obj: Obj) -> None:
    """Lists that nobody gave are null in the answers, which readers have to bear."""
    if resource.table == SLICES:
        obj.setdefault("endpoints", None)
        obj.setdefault("ports", None)


def mistakes(resource: Resource, obj: Obj) -> Iterator[Cause]:
    check = _CHECKS.get(resource.table)
    return check(obj) if check else iter(())


def _lease(obj: Obj) -> Iterator[Cause]:
    lasts, transitions = at(obj, "spec", "leaseDurationSeconds"), at(obj, "spec", "leaseTransitions")
    if lasts is not None and lasts <= 0:
        yield "spec.leaseDurationSeconds", f"Invalid value: {lasts}: must be greater than 0"
    if transitions is not None and transitions < 0:
        yield "spec.leaseTransitions", f"Invalid value: {transitions}: must be greater than or equal to 0"


def _event(obj: Obj) -> Iterator[Cause]:
    namespace = at(obj, "involvedObject", "namespace") or ""
    if (namespace or "default") != obj["metadata"].get("namespace"):
        yield "involvedObject.namespace", f'Invalid value: "{namespace}": does not match event.namespace'
    if not obj.get("eventTime"):
        return
    for field in ("reportingComponent", "reportingInstance", "action", "reason"):
        if not obj.get(field):
            yield field, "Required value"
    if len(obj.get("message") or "") > _MESSAGE_LIMIT:
        yield "message", f'Invalid value: "": can have at most {_MESSAGE_LIMIT} characters'
    if obj.get("type") not in ("Normal", "Warning"):
        yield "type", f'Invalid value: "": has invalid value: {obj.get("type", "")}'


def _slice(obj: Obj) -> Iterator[Cause]:
    kind = obj.get("addressType")
    if not kind:
        yield "addressType", "Required value"
    elif kind not in ("FQDN", "IPv4", "IPv6"):
        yield "addressType", f'Unsupported value: "{kind}": supported values: "FQDN", "IPv4", "IPv6"'
    for place, endpoint in enumerate(obj.get("endpoints") or ()):
        path = f"endpoints[{place}].addresses"
        if not endpoint.get("addresses"):
            yield path, "Required value: must contain at least 1 address"
        for number, address in enumerate(endpoint.get("addresses") or ()):
            if kind in ("IPv4", "IPv6") and (why := _address(address, kind)):
                yield f"{path}[{number}]", f'Invalid value: "{address}": {why}'
    yield from _ports(obj.get("ports") or [])


def _address(address: Any, kind: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    if f"IPv{parsed.version}" != kind:
        return f"must be an {kind} address"
    if parsed.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if parsed.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    return "may not be unspecified (0.0.0.0)" if parsed.is_unspecified else ""


def _ports(ports: list[Obj]) -> Iterator[Cause]:
    names = [port.get("name") or "" for port in ports]
    for place, name in enumerate(names):
        if name in names[:place]:
            yield f"ports[{place}].name", f'Duplicate value: "{name}"'
        if not _PORT_NAME.fullmatch(name):
            yield (
                f"ports[{place}].name",
                f"Invalid value: \"{name}\": a lowercase RFC 1123 label must consist of lower \
case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            )


_CHECKS: dict[Table, Callable[[Obj], Iterator[Cause]]] = {LEASES: _lease, EVENTS: _event, SLICES: _slice}
