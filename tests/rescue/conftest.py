"""envoy-data-plane's own modules warn about pydantic when they are first imported; that is not our tests' business."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import envoy_data_plane.envoy.service.discovery.v3  # noqa: F401

    import hotswitch.rescue.drafting
    import hotswitch.rescue.sds
    import hotswitch.rescue.service  # noqa: F401
    from hotswitch.rescue import template


@pytest.fixture(scope="session", autouse=True)
def no_drafter_is_left() -> Iterator[None]:
    """The child that encodes for this process would linger for a while."""
    yield
    template._drafter.close()
