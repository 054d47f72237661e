"""The child that `template` asks: a shape of pod in, its clusters and listeners encoded, with blanks in them."""

from __future__ import annotations

import sys

from hotswitch.rescue.clusters import clusters
from hotswitch.rescue.drafter import serve
from hotswitch.rescue.listeners import listeners
from hotswitch.rescue.template import BLANK_GENERATION, Messages, Shape, blank_pod


def draft(shape: Shape) -> Messages:
    """Raises UnsupportedAuthorization. About 40 ms of CPU."""
    pod = blank_pod(shape)
    return Messages(
        clusters=tuple((cluster.name, bytes(cluster)) for cluster in clusters(pod)),
        listeners=tuple((listener.name, bytes(listener)) for listener in listeners(pod, BLANK_GENERATION)),
    )


if __name__ == "__main__":
    serve(draft, sys.stdin.buffer, sys.stdout.buffer)
