"""`kubectl hotswitch endpoints --output istio`: what the controller would write as Istio's configuration (S2.5).

For people who want it in a repository, or want to see it first. Nothing is written, and no policy is asked. Who may
serve is told by what this caller can see: a check of the controller's own by its slices, pods of further clusters not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from hotswitch.backends import Backend, Conditions, Published, PublishedEndpoint, Role, ServiceMode
from hotswitch.cli.cluster_endpoints import Refused, Shown, may_serve, role_of
from hotswitch.cluster.kinds import DESTINATION_RULES, SERVICE_ENTRIES, Kind
from hotswitch.endpoints.istio import config
from hotswitch.model import Generation


def documents(services: Iterable[Shown]) -> str:
    """Raises Refused when a Service cannot be said so."""
    found = [each for one in services for each in _of(one)]
    return yaml.safe_dump_all(found, sort_keys=False) if found else ""


def _of(one: Shown) -> list[dict[str, Any]]:
    published = _published(one)
    if left_out := config.left_out(published):
        raise Refused(
            f"{one.record.id}: one ServiceEntry bears {config.AT_MOST} endpoints: {left_out} more are left out"
        )
    try:
        rule = config.destination_rule(published)
        found = [_whole(SERVICE_ENTRIES, config.service_entry(published))]
    except ValueError as unsaid:
        raise Refused(f"{one.record.id}: {unsaid}") from unsaid
    return found + ([_whole(DESTINATION_RULES, rule)] if rule is not None else [])


def _whole(kind: Kind, content: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **content}


def _published(one: Shown) -> Published:
    generation = Generation(one.memory.generation if one.memory is not None else 0)
    told = tuple(_endpoint(one, each) for each in one.backends if _is_told(one, each))
    return Published(one.record, told, generation)


def _is_told(one: Shown, backend: Backend) -> bool:
    """Of an active/standby Service the active one, and nobody before it is elected (I7)."""
    return one.record.mode is not ServiceMode.ACTIVE_STANDBY or role_of(one, backend) is Role.ACTIVE


def _endpoint(one: Shown, backend: Backend) -> PublishedEndpoint:
    ready = may_serve(one, backend)
    return PublishedEndpoint(backend, Conditions(ready, ready, backend.terminating))
