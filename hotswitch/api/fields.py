"""What the parts of a policy's model have in common: names in YAML, durations, and errors that name field and value."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from hotswitch.api.values import DNS_LABEL_PATTERN, WEEK_S, InvalidValue, duration_s, shown_duration

Item = TypeVar("Item", bound=Hashable)


def camel(name: str) -> str:
    return to_camel(name.removesuffix("_s"))


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=camel, arbitrary_types_allowed=True)


def _within_a_week(seconds: float) -> float:
    if not 0 < seconds <= WEEK_S:
        raise ValueError(f"is not above zero and at most {shown_duration(WEEK_S)}")
    return seconds


def no_doubles(values: tuple[Item, ...]) -> tuple[Item, ...]:
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"names {twice} twice")
    return values


Duration = Annotated[float, BeforeValidator(duration_s), AfterValidator(_within_a_week)]
DnsLabel = Annotated[str, Field(pattern=DNS_LABEL_PATTERN)]


class InvalidValues(ValueError):
    """All that is wrong with one object."""

    def __init__(self, found: list[InvalidValue]) -> None:
        super().__init__("; ".join(str(each) for each in found))
        self.found = tuple(found)


def invalid_values(failure: ValidationError, at: str) -> InvalidValues:
    """`at`: what the model as a whole is called, e.g. spec."""
    return InvalidValues([_invalid(dict(error), at) for error in failure.errors(include_url=False)])


def _invalid(error: dict[str, Any], at: str) -> InvalidValue:
    field = at + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    return InvalidValue(field, error.get("input"), str(error["msg"]).removeprefix("Value error, "))
