"""So much of Helm as the chart uses, without Helm: conditions, values, toYaml, int, ge, ne. All else is refused.

What it makes of the chart is what Helm 3.21 makes of it: compared by hand, and by `test_real.py` where helm is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

TOKEN = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
WORD = re.compile(r'"[^"]*"|\(|\)|[^\s()]+')


class NotKnown(ValueError):
    """The chart uses something of Helm's that is not known here."""


def values_of(chart: Path, **changed: Any) -> dict[str, Any]:
    """`changed`: paths like istio__namespace."""
    values: dict[str, Any] = yaml.safe_load((chart / "values.yaml").read_text())
    for path, value in changed.items():
        *outer, name = path.split("__")
        inner = values
        for step in outer:
            inner = inner[step]
        inner[name] = value
    return values


def rendered(chart: Path, namespace: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    dot = {"Values": values, "Release": {"Namespace": namespace}}
    texts = [text(path.read_text(), dot) for path in sorted((chart / "templates").glob("*.yaml"))]
    return [each for one in texts for each in yaml.load_all(one, yaml.CSafeLoader) if each is not None]


def text(template: str, dot: dict[str, Any]) -> str:
    said: list[str] = []
    shown, taken = [True], [True]
    for piece in _pieces(template):
        if isinstance(piece, str):
            said.append(piece if all(shown) else "")
        else:
            said.append(_done(piece[0], dot, shown, taken))
    if len(shown) != 1:
        raise NotKnown("an `if` without its `end`")
    return "".join(said)


def _pieces(template: str) -> Iterator[str | tuple[str]]:
    """Literal texts, and what stands in braces; `{{-` and `-}}` take the white space beside them."""
    at, trims = 0, False
    for found in TOKEN.finditer(template):
        before = template[at : found.start()] + ("" if found[2] else found[1])
        yield before.lstrip() if trims else before
        yield (found[3],)
        at, trims = found.end(), bool(found[4])
    yield template[at:].lstrip() if trims else template[at:]


def _done(words: str, dot: dict[str, Any], shown: list[bool], taken: list[bool]) -> str:
    """`shown`: is each `if` that we are in true; `taken`: was one of its branches."""
    if words.startswith("/*"):
        return ""
    if words == "end":
        shown.pop()
        taken.pop()
    elif words == "else" or words.startswith("else if "):
        shown[-1] = not taken[-1] and (words == "else" or bool(_value(words[8:], dot)))
        taken[-1] = taken[-1] or shown[-1]
    elif words.startswith("if "):
        shown.append(bool(_value(words[3:], dot)))
        taken.append(shown[-1])
    elif all(shown):
        return _as_text(_value(words, dot))
    return ""


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(words: str, dot: dict[str, Any]) -> Any:
    first, *pipes = (part.strip() for part in words.split("|"))
    value = _call(WORD.findall(first), dot)
    for pipe in pipes:
        name, argument = pipe.split()
        if name != "nindent":
            raise NotKnown(words)
        indent = " " * int(argument)
        value = "\n" + "\n".join(indent + line for line in value.splitlines())
    return value


def _call(words: list[str], dot: dict[str, Any]) -> Any:
    name, *rest = words
    arguments = list(_arguments(rest, dot))
    match name, arguments:
        case "ge", [left, right]:
            return left >= right
        case "ne", [left, right]:
            return left != right
        case "int", [value]:
            return int(value)
        case "toYaml", [value]:
            return yaml.safe_dump(value, sort_keys=True).rstrip("\n")
        case _, []:
            return _one(name, dot)
    raise NotKnown(" ".join(words))


def _arguments(words: list[str], dot: dict[str, Any]) -> Iterator[Any]:
    while words:
        if words[0] == "(":
            end = words.index(")")
            yield _call(words[1:end], dot)
            words = words[end + 1 :]
        else:
            yield _one(words[0], dot)
            words = words[1:]


def _one(word: str, dot: dict[str, Any]) -> Any:
    if word.startswith('"'):
        return word[1:-1]
    if word.isdecimal():
        return int(word)
    if not re.fullmatch(r"(\.[A-Za-z]+)+", word):
        raise NotKnown(word)
    value: Any = dot
    for step in word.removeprefix(".").split("."):
        value = value[step]
    return value
