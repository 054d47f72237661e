"""Is the mark on a Service ours? Whoever may annotate the Service can write one, so by itself it says nothing (I2, I6).

It counts when our own record, in a namespace that no workload's owner writes in, has the selector of this very Service
(by uid) and the mark is the same. Where the record is lost, our slices tell: their label has a digest of the selector
that they were made by. Whoever may write EndpointSlices as well leads the Service's traffic where he likes anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from hotswitch.api.adopt import ADOPTED, shown_selector
from hotswitch.endpoints.adoption_ledger import Adoption

SEAL_DIGITS = 16  # of 4 bits: too many to look for another selector with the same


def label(term: int, selector: Mapping[str, str]) -> str:
    """Of our slices while a Service is taken over: the leader who wrote them, and the selector, as in 7.9f2c..."""
    return f"{term}.{_seal(selector)}"


def _seal(selector: Mapping[str, str]) -> str:
    return hashlib.sha256(shown_selector(selector).encode()).hexdigest()[:SEAL_DIGITS]


def is_ours(kept: Mapping[str, str] | None, adoption: Adoption, uid: str, slices: Iterable[Mapping[str, Any]]) -> bool:
    """`kept`: what the mark says, None without one; `uid`: of the Service; `slices`: that bear our managed-by label. A
    record that says that nothing was taken is a record, too."""
    if not kept:
        return False
    if adoption.uid == uid:
        return kept == adoption.selector
    return any(_tells(each["metadata"], uid, _seal(kept)) for each in slices)


def _tells(metadata: Mapping[str, Any], uid: str, seal: str) -> bool:
    owned = any(each.get("uid") == uid for each in metadata.get("ownerReferences") or ())
    return owned and str((metadata.get("labels") or {}).get(ADOPTED, "")).partition(".")[2] == seal
