"""One mesh for each module of tests: starting Envoys is what takes the time."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator

import pytest

with warnings.catch_warnings():  # envoy-data-plane's own modules warn about pydantic when they are first imported
    warnings.simplefilter("ignore")
    import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3
    import envoy_data_plane.envoy.service.discovery.v3  # noqa: F401


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner
