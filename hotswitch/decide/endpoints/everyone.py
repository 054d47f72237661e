"""Mode `all`: every available backend serves, those whose proxy hotswitch has bypassed included (S2.1, S4.4).

`nearest` begins with the same list; its order is reckoned for each caller by whoever knows the caller (S2.5).
"""

from __future__ import annotations

from collections.abc import Iterable

from hotswitch.backends import Backend, Published, PublishedEndpoint, ServiceRecord, Staleness
from hotswitch.decide.endpoints.availability import conditions


def published(service: ServiceRecord, backends: Iterable[Backend]) -> Published:
    """A stale cluster's come last; a lost one's, and what has ended, are told to nobody (S2.4, S2.7)."""
    told = [each for each in backends if each.staleness is not Staleness.LOST and not each.ended]
    endpoints = tuple(
        PublishedEndpoint(each, conditions(each, service.options), int(each.staleness is Staleness.STALE))
        for each in sorted(told, key=lambda each: each.staleness is Staleness.STALE)
    )
    ready = sum(each.conditions.ready for each in endpoints)
    return Published(service, endpoints, sentence=f"{ready} of {len(endpoints)} are available")
