"""A Service's order and request rules, from its annotations (S2.8; decide/endpoints/rules.py). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from hotswitch.api.service import ORDER, ROUTES
from hotswitch.api.values import InvalidValue
from hotswitch.backends import ServiceMode
from hotswitch.decide.endpoints.place import Order
from hotswitch.decide.endpoints.rules import Orders, rules, usual

T = TypeVar("T")


def orders(mode: ServiceMode, annotations: Mapping[str, str]) -> Orders:
    """Raises InvalidValue."""
    own = _read(annotations, ORDER, Order.parse) if ORDER in annotations else usual(mode)
    return Orders(own, _read(annotations, ROUTES, rules))


def _read(annotations: Mapping[str, str], name: str, read: Callable[[str], T]) -> T:
    text = annotations.get(name, "")
    try:
        return read(text)
    except ValueError as wrong:
        raise InvalidValue(name, text, str(wrong)) from None
