"""What an agent is told, by a file or by variables: checked by its type; errors name field and value (I2).

By msgspec, as what machines send: pydantic, which reads what users write for a controller, would be an eighth of an
agent's memory (docs/decisions/0020-agents-without-pydantic.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

import msgspec

from hotswitch.config.choices import choices


class ConfigError(ValueError):
    """It cannot be used; the message names source, field and value."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No field but those that are named, and none that changes."""


class Address(str):
    """Of IPv4 or IPv6, in its shortest form. Raises ValueError or TypeError."""

    __slots__ = ()

    def __new__(cls, text: object) -> Address:
        return super().__new__(cls, ip_address(_text(text)))


class Network(str):
    """Of IPv4 or IPv6, without bits of hosts. Raises ValueError or TypeError."""

    __slots__ = ()

    def __new__(cls, text: object) -> Network:
        return super().__new__(cls, ip_network(_text(text)))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("is not a text")
    return value


M = TypeVar("M")


def parse_as(kind: type[M], content: object, source: str, spelled: Callable[[str], str] = str) -> M:
    """`content`: of dicts, lists and texts; numbers may be texts. `spelled`: how people write the name of a top field,
    where that differs. Raises ConfigError naming the first wrong field."""
    try:
        return msgspec.convert({} if content is None else content, kind, strict=False, str_keys=True, dec_hook=_made)
    except msgspec.ValidationError as failure:
        raise ConfigError(f"{source}: {_sentence(str(failure), content, kind, spelled)}") from failure


def _made(kind: type[Any], value: object) -> Any:
    """A Path, Address or Network; what it raises is told with the field's name."""
    return kind(value)


_SAID = re.compile(r"(?P<what>.*?)( - at (`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_WORD = ("Invalid enum value", "Expected `str`")
_OF_OBJECT = re.compile(r"Object (?P<how>missing required|contains unknown) field `(?P<field>.+)`", re.DOTALL)


def _sentence(said: str, content: object, kind: type, spelled: Callable[[str], str]) -> str:
    """msgspec says "WHAT - at `$.pods[0].uid`": where it is as people write it, and what stands there."""
    parts = _SAID.fullmatch(said)
    assert parts is not None
    steps = [name or int(number) for name, number in _STEP.findall(parts["path"] or "") if number != "..."]
    what = parts["what"]
    if (of_object := _OF_OBJECT.fullmatch(what)) is not None:
        steps.append(of_object["field"])
        what = "is missing" if of_object["how"] == "missing required" else "there is no such field"
    elif what.startswith(_WORD) and (words := choices(kind, steps)):
        what = f"is none of {', '.join(words)}"
    where = ".".join([spelled(str(step)) if place == 0 else str(step) for place, step in enumerate(steps)]) or "file"
    try:
        value = _at(content, steps)
    except (LookupError, TypeError):
        return f"{where}: {what}"
    given = repr(value) + ("; YAML takes off, on, yes and no for this: quote it" if isinstance(value, bool) else "")
    return f"{where}: {what} (given: {given if len(given) <= 80 else given[:77] + '...'})"


def _at(content: Any, steps: Sequence[str | int]) -> object:
    """Raises LookupError or TypeError: nothing stands there."""
    for step in steps:
        content = content[step]
    return content
