"""Which order a Service wants, and which other orders for which requests, as its annotations say (S2.8). Pure.

    endpoints.hotswitch.io/order: same-host,same-cluster
    endpoints.hotswitch.io/routes: batch header x-batch=yes other-cluster; report prefix /report only:same-cluster

The first rule that matches a request has it; a request that none matches goes by the Service's own order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hotswitch.backends import ServiceMode
from hotswitch.decide.endpoints.place import DEFAULT, Order

_NAME, _HEADER = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?"), re.compile(r"[a-z0-9][-a-z0-9_]{0,63}")
MOST_RULES = 32


@dataclass(frozen=True, slots=True)
class RequestRule:
    """Requests whose `header` is `value`, or whose path begins with `prefix`, are served in `order`."""

    name: str
    order: Order
    prefix: str = "/"
    header: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    own: Order = DEFAULT
    rules: tuple[RequestRule, ...] = ()

    def of(self, rule: str) -> Order | None:
        """None: there is no such rule."""
        if not rule:
            return self.own
        return next((each.order for each in self.rules if each.name == rule), None)


def usual(mode: ServiceMode) -> Order:
    """Of a Service that says nothing: only mode `nearest` has a preference within the cluster."""
    return DEFAULT if mode is ServiceMode.NEAREST else Order(())


def rules(text: str) -> tuple[RequestRule, ...]:
    """Raises ValueError."""
    found = tuple(_rule(each.strip()) for each in text.split(";") if each.strip())
    names = [each.name for each in found]
    if len(set(names)) != len(names):
        raise ValueError("uses a name twice")
    if len(found) > MOST_RULES:
        raise ValueError(f"has {len(found)} rules; {MOST_RULES} are allowed")
    return found


def _rule(text: str) -> RequestRule:
    words = text.split(maxsplit=3)
    if len(words) != 4 or words[1] not in ("header", "prefix"):
        raise ValueError(f"{text!r} is not `NAME header H=V ORDER` or `NAME prefix /P ORDER`")
    name, kind, what, order = words
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: lower-case letters, digits and -, 32 at most")
    parsed = Order.parse(order)
    if kind == "prefix":
        if not what.startswith("/"):
            raise ValueError(f"prefix {what!r} does not begin with /")
        return RequestRule(name, parsed, prefix=what)
    header, equals, value = what.partition("=")
    if not equals or not _HEADER.fullmatch(header.lower()):
        raise ValueError(f"header {what!r} is not NAME=VALUE")
    return RequestRule(name, parsed, header=header.lower(), value=value)
