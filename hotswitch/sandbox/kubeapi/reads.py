"""Lists, as bytes joined from what is stored: with selectors, and in pages by limit and continue.

A page goes on after the last key of the one before. Unlike a real API server's, a later page shows the objects as they
are when it is asked for, under the first page's resource version.
"""

from __future__ import annotations

import base64
import binascii
from itertools import islice

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.record import Key, Record, decode, encode
from hotswitch.sandbox.kubeapi.request import Ask, number
from hotswitch.sandbox.kubeapi.selectors import selector
from hotswitch.sandbox.kubeapi.store import Store
from hotswitch.sandbox.kubeapi.tables import table


def listed(ask: Ask, store: Store, *, as_table: bool = False) -> bytes:
    """Raises ApiError 400 for a selector or a continue token that cannot be read, 504 for a version yet to come."""
    version, after = _continued(ask.query.get("continue", ""), store.version)
    _check_version(ask.query.get("resourceVersion", ""), store.version)
    found = matching(ask, store, after)
    limit = number(ask.query, "limit") or 0
    meta: Obj = {"resourceVersion": str(version)}
    if limit and limit < len(found):
        meta["continue"] = _token(version, found[limit - 1].key)
        if not ask.query.get("labelSelector") and not ask.query.get("fieldSelector"):
            meta["remainingItemCount"] = len(found) - limit
    shown = islice(found, limit or None)
    resource = ask.resource
    if as_table:
        shape = table(resource, shown, str(version))
        return encode({**shape, "metadata": meta})
    items = b",".join(record.sent(resource) if resource.custom else record.raw for record in shown)
    kind = f'{{"kind":"{resource.kind}List","apiVersion":"{resource.api_version}","metadata":'.encode()
    return b'%s%s,"items":[%s]}\n' % (kind, encode(meta), items)


def matching(ask: Ask, store: Store, after: Key | None = None) -> list[Record]:
    matches = selector(ask.resource, ask.query.get("labelSelector", ""), ask.query.get("fieldSelector", ""))
    records = store.records(ask.resource.table, ask.namespace, after)
    return list(records) if matches is None else list(filter(matches, records))


def _token(version: int, key: Key) -> str:
    return base64.urlsafe_b64encode(encode([version, *key])).decode()


def _continued(token: str, version: int) -> tuple[int, Key | None]:
    if not token:
        return version, None
    try:
        first, namespace, name = decode(base64.urlsafe_b64decode(token))
        return int(first), (namespace, name)
    except (ValueError, TypeError, binascii.Error):
        raise ApiError(400, "continue key is not valid") from None


def _check_version(said: str, version: int) -> None:
    if not said:
        return
    if not said.isdigit():
        raise ApiError(400, f'resourceVersion: Invalid value: "{said}"')
    if int(said) > version:
        raise ApiError(504, f"Too large resource version: {said}, current: {version}")
