"""An ordinary Service that may be taken over for a while, as a record like those that are always ours (S2.1). Pure.

Its pods are chosen by its own selector; while that is away, by what stands of it in the annotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hotswitch.api import service as said
from hotswitch.api.adopt import (
    ADOPT,
    ADOPT_MINIMUM,
    ADOPTED,
    WHEN_BELOW,
    kept_selector,
    shown_selector,
    wish,
)
from hotswitch.api.values import InvalidValue
from hotswitch.backends import ServiceId, ServiceMode, ServiceRecord
from hotswitch.endpoints import objects
from hotswitch.endpoints.assemble import service_ports

CAREFUL_WORDS = {ADOPT: WHEN_BELOW, ADOPT_MINIMUM: "100%"}


def adoptable(content: objects.Service, recorded: Mapping[str, str] | None = None) -> ServiceRecord | None:
    """`recorded`: the selector that our own record has of it; it goes before what the annotation says. None: it neither
    asks to be taken over nor is it. Raises InvalidValue."""
    annotations = content.metadata.annotations or {}
    asked = wish(annotations)
    kept = dict(recorded) if recorded else kept_selector(annotations)
    if not asked.opted_in and kept is None:
        return None
    if asked.opted_in:
        _fits(content, annotations[ADOPT], kept is not None)
    return _record(content, annotations, content.spec.selector or kept or {})


def careful(
    content: objects.Service, last: ServiceRecord | None = None, recorded: Mapping[str, str] | None = None
) -> ServiceRecord | None:
    """One that is taken over goes on, as long as any of its pods needs it; what was read last counts on, but for the
    mark, and the selector while it is away: `recorded` as above."""
    mark = {key: text for key, text in (content.metadata.annotations or {}).items() if key == ADOPTED}
    if last is not None:
        selector = dict(recorded) if recorded and not content.spec.selector else last.selector
        return replace(last, annotations={**_unmarked(last.annotations), **mark}, selector=selector)
    try:
        kept = dict(recorded) if recorded else kept_selector(content.metadata.annotations or {})
    except InvalidValue:
        return None
    return None if kept is None else _record(content, CAREFUL_WORDS | mark, content.spec.selector or kept)


def _unmarked(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in annotations.items() if key != ADOPTED}


def _fits(content: objects.Service, word: str, is_taken: bool) -> None:
    spec = content.spec
    if spec.type == "ExternalName":
        raise InvalidValue(ADOPT, word, "means nothing for a Service of type ExternalName")
    if not spec.selector and not is_taken:
        raise InvalidValue(ADOPT, word, "means nothing for a Service without spec.selector")
    if spec.cluster_ip == "None":
        raise InvalidValue(ADOPT, word, "is not for a headless Service: its pods would lose their names in DNS")
    if spec.publish_not_ready_addresses:
        raise InvalidValue(ADOPT, word, "is not needed with publishNotReadyAddresses: all its pods are published")
    if spec.selector and not _can_be_kept(spec.selector):
        raise InvalidValue(ADOPT, word, f"cannot be: its selector would not come back as it is from {ADOPTED}")


def _can_be_kept(selector: dict[str, str]) -> bool:
    try:
        return said.selector_words(shown_selector(selector)) == selector
    except ValueError:
        return False


def _record(content: objects.Service, annotations: dict[str, str], selector: dict[str, str]) -> ServiceRecord:
    metadata, spec = content.metadata, content.spec
    return ServiceRecord(
        id=ServiceId(metadata.namespace, metadata.name),
        uid=metadata.uid,
        mode=ServiceMode.ALL,
        ports=service_ports(content),
        selector=selector,
        families=spec.ip_families or ("IPv4",),
        annotations={key: text for key, text in annotations.items() if key.startswith(said.PREFIX)},
        labels=metadata.labels or {},
    )
