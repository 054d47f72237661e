"""Listeners and clusters encoded once per shape of pod, with blanks for what differs from pod to pod.

betterproto2 needs some 40 ms of CPU, and a lot of memory, to build and encode one pod's listeners and clusters; 250
pods of a node have a handful of shapes. So a child does it (drafter.py), once for each. A blank has exactly the length
of what will stand there, so every length in the encoding stays true and filling in is three replacements of bytes.
Blanks are control characters, and anchored, so that nothing else in a message can look like one. It is filled in
whenever the bytes are asked for, and not kept: with secrets, those of 250 pods were 1 MB of what is there anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hotswitch.model import Mtls, Port
from hotswitch.rescue.authorization import AuthorizationPolicy
from hotswitch.rescue.drafter import Drafter
from hotswitch.rescue.pod import MeshDestination, RescuePod

GENERATION_DIGITS = 10
BLANK_GENERATION = "\x03" * GENERATION_DIGITS
_SHAPES_KEPT = 512  # some 8 kB each
_drafter = Drafter("hotswitch.rescue.drafting")


@dataclass(frozen=True, slots=True)
class Messages:
    """Encoded messages by resource name."""

    clusters: tuple[tuple[str, bytes], ...]
    listeners: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a RescuePod that is more than a name of the same length."""

    key_length: int
    netns_length: int
    has_ipv4: bool
    has_ipv6: bool
    trust_domains: tuple[str, ...]
    modes: tuple[tuple[Port | None, Mtls], ...]
    authorization: tuple[AuthorizationPolicy, ...]
    outbound_mtls: tuple[MeshDestination, ...]


class _Blank(RescuePod):
    """A pod whose name and path are blanks, which no real pod may have."""

    __slots__ = ()

    def __post_init__(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Filled:
    """A message with its blanks filled in, made anew by each call."""

    template: bytes
    blanks: tuple[tuple[bytes, bytes], ...]

    def __call__(self) -> bytes:
        message = self.template
        for blank, value in self.blanks:
            message = message.replace(blank, value)
        return message


_Named = tuple[tuple[str, Filled], ...]


def filled(pod: RescuePod, generation: int) -> tuple[_Named, _Named]:
    """The pod's clusters and listeners by resource name; `generation` stands in the names of filter chains. May wait
    for a second. Raises UnsupportedAuthorization, DraftFailed."""
    shape = _shape(pod)
    template = _template(shape)
    blanks = (
        (_blank_key(shape), pod.key),
        (_blank_netns(shape), pod.netns),
        (BLANK_GENERATION, f"{generation:0{GENERATION_DIGITS}d}"),
    )
    there = tuple((blank, value) for blank, value in blanks if blank)
    return _fill(template.clusters, there), _fill(template.listeners, there)


def _fill(messages: tuple[tuple[str, bytes], ...], blanks: tuple[tuple[str, str], ...]) -> _Named:
    written = tuple((blank.encode(), value.encode()) for blank, value in blanks)
    named = []
    for name, message in messages:
        for blank, value in blanks:
            name = name.replace(blank, value)
        named.append((name, Filled(message, written)))
    return tuple(named)


def _shape(pod: RescuePod) -> Shape:
    return Shape(
        len(pod.key.encode()),
        len(pod.netns.encode()),
        pod.has_ipv4,
        pod.has_ipv6,
        pod.trust_domains,
        pod.modes,
        pod.authorization,
        pod.outbound_mtls,
    )


def _blank_key(shape: Shape) -> str:
    return "\x01" * shape.key_length


def _blank_netns(shape: Shape) -> str:
    return "/" + "\x02" * (shape.netns_length - 1) if shape.netns_length else ""


def blank_pod(shape: Shape) -> RescuePod:
    """A pod of this shape with blanks for what differs."""
    (_, mtls), *others = shape.modes
    return _Blank(
        key=_blank_key(shape),
        netns=_blank_netns(shape),
        addresses=("0.0.0.0",) * shape.has_ipv4 + ("::",) * shape.has_ipv6,
        trust_domains=shape.trust_domains,
        mtls=mtls,
        mtls_by_port={port: mode for port, mode in others if port is not None},
        authorization=shape.authorization,
        outbound_mtls=shape.outbound_mtls,
    )


@lru_cache(maxsize=_SHAPES_KEPT)
def _template(shape: Shape) -> Messages:
    drafted = _drafter.ask(shape)
    assert isinstance(drafted, Messages)
    return drafted
