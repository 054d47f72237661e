"""The register of backends: who is told of what, and when nobody is (S2.1 to S2.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.backends import ServiceId
from hotswitch.endpoints.registry import Registry
from tests.endpoints.make import SERVICE, backend, service

pytestmark = pytest.mark.unit


def test_listeners_hear_of_changes_and_of_nothing_else() -> None:  # S2.3
    registry, heard = Registry(), list[ServiceId]()
    registry.listen(heard.append)
    registry.put_service(service())
    registry.put(backend("db-0"))
    registry.put(backend("db-0"))
    registry.put_service(service())
    assert heard == [SERVICE, SERVICE]
    registry.put(replace(backend("db-0"), kubelet_ready=False))
    registry.drop(SERVICE, backend("db-1").id)
    assert len(heard) == 3


def test_pods_of_one_name_in_two_clusters_are_two_backends() -> None:  # S2.4
    registry = Registry()
    registry.put_service(service())
    registry.put(backend("db-0", cluster="west"))
    registry.put(backend("db-0", cluster="east"))
    assert [each.locality.cluster for each in registry.backends(SERVICE)] == ["east", "west"]


def test_a_service_that_goes_takes_its_backends_along() -> None:
    registry = Registry()
    registry.put_service(service())
    registry.put(backend("db-0"))
    registry.drop_service(SERVICE)
    assert len(registry) == 0 and registry.backends(SERVICE) == ()
