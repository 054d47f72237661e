"""Tests that take `api` run against each API server that is at hand."""

from __future__ import annotations

import pytest

from tests.cluster import apis


@pytest.fixture(
    params=[
        pytest.param(apis.embedded, marks=pytest.mark.k8s, id="embedded"),
        pytest.param(apis.real, marks=pytest.mark.e2e, id="real"),
    ]
)
def api(request: pytest.FixtureRequest) -> apis.Api:
    """Opened by `async with api() as place`."""
    opener: apis.Api = request.param
    return opener
