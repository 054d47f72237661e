"""An ordinary Service that may be taken over, as `kubectl hotswitch endpoints` and `adopt` show it (S0.2, I8).

How far it is stands in the controller's record; what would be done now is reckoned here as the controller does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hotswitch.api.adopt import ADOPTED, shown_selector, wish
from hotswitch.api.values import InvalidValue
from hotswitch.backends import Backend, ServiceRecord
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES, POLICIES
from hotswitch.config.adoption import refusal
from hotswitch.config.settings import Settings
from hotswitch.controller.settings import SYSTEM_NAMESPACE
from hotswitch.decide.endpoints.adopt import Do, Phase, Situation, Word, step
from hotswitch.decide.endpoints.shortage import count
from hotswitch.endpoints import adoption_ledger, objects, ordinary
from hotswitch.endpoints.adoption_ledger import Adoption
from hotswitch.endpoints.memory import MemoryUnreadable, Past

_STANDS = {
    Phase.IDLE: "Kubernetes makes its slices",
    Phase.TAKING: "it is being taken over: our slices are made beside those of Kubernetes",
    Phase.HELD: "it is taken over",
    Phase.RETURNING: "it is being handed back",
    Phase.YIELDED: "somebody else has taken it back: not again until told (`kubectl hotswitch adopt SERVICE --again`)",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """`unread`: why the record cannot be read; "": it was, or there is none yet."""

    record: ServiceRecord
    phase: Phase
    history: tuple[Past, ...] = ()
    unread: str = ""


async def shown(cluster: Cluster, content: objects.Service, wanted: str) -> Taken | None:
    """None: it is not asked for (`wanted`: a name, "" for all), or is no such Service. Raises ApiFailure and, of one
    that is asked for, InvalidValue."""
    name = content.metadata.name
    if wanted not in ("", name):
        return None
    try:
        record = ordinary.adoptable(content)
    except InvalidValue:
        if wanted:
            raise
        record = ordinary.careful(content)
    if record is None:
        return None
    known, unread = await _adoption(cluster, record)
    if known.selector and not content.spec.selector:  # what stands on the Service anybody may have written
        record = replace(record, selector=known.selector)
    return Taken(record, known.phase, known.history, unread or _of_the_mark(record, known))


def _of_the_mark(record: ServiceRecord, known: Adoption) -> str:
    if ADOPTED not in record.annotations or record.annotations[ADOPTED] == shown_selector(known.selector):
        return ""
    why = "is not what hotswitch's record says" if known.uid else "stands there without a record of hotswitch's"
    return f"{Word.FORGED}: {ADOPTED}={record.annotations[ADOPTED]} {why}"


async def _adoption(cluster: Cluster, record: ServiceRecord) -> tuple[Adoption, str]:
    try:
        lease = await cluster.get(LEASES, SYSTEM_NAMESPACE, adoption_ledger.lease_name(record.id))
        known = adoption_ledger.read(lease)
    except MemoryUnreadable as failure:
        return Adoption(), str(failure)
    except ApiFailure as failure:
        return Adoption(), "" if failure.is_missing else f"its record cannot be read: {failure.message}"
    return (known, "") if known.uid in ("", record.uid) else (Adoption(), "")


async def next_step(cluster: Cluster, root: str, taken: Taken, backends: Iterable[Backend]) -> str:
    """What the controller would do where nothing was begun, and why not. Raises ApiFailure."""
    settings = Settings(root)
    for content in await cluster.list(POLICIES):
        settings.put_policy(content)
    why = refusal(settings.policies, root, taken.record.id.namespace)
    if taken.phase is not Phase.IDLE:
        return "policy allows it" if not why else f"policy does not allow it any more: {why}"
    asked = wish(taken.record.annotations)
    verdict = step(Situation(wish=asked, count=count(asked, backends), phase=Phase.IDLE, refusal=why))
    done = "would be taken over now" if verdict.do is not Do.NOTHING else "nothing would be done"
    return f"{done}: {verdict.word} {verdict.sentence}"


def sentence(taken: Taken, backends: Iterable[Backend]) -> str:
    words = [_STANDS[taken.phase], str(count(wish(taken.record.annotations), backends))]
    if ADOPTED in taken.record.annotations and not taken.unread:
        words.append(f"its selector is {shown_selector(taken.record.selector)}")
    return "; ".join([*words, *([taken.unread] if taken.unread else [])])
