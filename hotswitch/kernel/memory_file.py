"""Content that has a path and is on no disk: for libraries that read keys from paths alone (Python's ssl)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """Its path, for this process, while the body runs. Raises OSError."""
    fd = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
