"""Which words a field takes, for the sentence that refuses another one: msgspec tells only the wrong one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import inspect


def choices(kind: type, steps: Sequence[str | int]) -> list[str]:
    """The words that may stand at `steps` below `kind`: of a mapping its keys, of a list its items. None: any may."""
    places = [inspect.type_info(kind)]
    for step in steps:
        places = [inner for place in _plain(places) for inner in _below(place, step)]
    for place in _plain(places):
        found: inspect.Type = place
        if isinstance(place, inspect.DictType):
            found = place.key_type
        elif isinstance(place, inspect.CollectionType):
            found = place.item_type
        if isinstance(found, inspect.EnumType):
            return [str(each.value) for each in found.cls]
        if isinstance(found, inspect.LiteralType):
            return [str(each) for each in found.values]
    return []


def _plain(places: Sequence[inspect.Type]) -> list[inspect.Type]:
    """Without unions and remarks."""
    found: list[inspect.Type] = []
    for place in places:
        if isinstance(place, inspect.UnionType):
            found += _plain(place.types)
        elif isinstance(place, inspect.Metadata):
            found += _plain([place.type])
        else:
            found.append(place)
    return found


def _below(place: inspect.Type, step: str | int) -> list[inspect.Type]:
    if isinstance(place, inspect.StructType):
        return [each.type for each in place.fields if each.encode_name == step]
    if isinstance(place, inspect.DictType):
        return [place.value_type]
    return [place.item_type] if isinstance(place, inspect.CollectionType) else []
