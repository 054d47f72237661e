"""Available is what the app answers, not what a dead sidecar says (S0.1, S0.2, S4.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.backends import Check, CheckKind, Health, Rotation, ServiceMode, ServiceOptions, Staleness
from hotswitch.decide.endpoints.availability import conditions, is_available
from hotswitch.decide.endpoints.everyone import published
from hotswitch.model import Level
from tests.endpoints.make import backend, service

pytestmark = pytest.mark.unit
KUBELET = ServiceOptions()
HTTP = ServiceOptions(check=Check(CheckKind.HTTP, 8080, "/"))
WELL = backend("web-0")
SIDECAR_DEAD = replace(WELL, kubelet_ready=False, app_ready=True, proxied=True, proxy_ready=False)
BYPASSED = replace(SIDECAR_DEAD, inbound=Level.DIRECT)


@pytest.mark.parametrize("options", [KUBELET, HTTP])
def test_a_bypassed_pod_whose_app_answers_is_available(options: ServiceOptions) -> None:
    assert is_available(BYPASSED, options)
    assert is_available(replace(BYPASSED, inbound=Level.RESCUE), options)


@pytest.mark.parametrize("options", [KUBELET, HTTP])
def test_a_dead_sidecar_that_nobody_has_bypassed_is_in_the_way(options: ServiceOptions) -> None:
    assert not is_available(SIDECAR_DEAD, options)


def test_an_app_that_says_no_is_not_available_for_being_bypassed() -> None:
    assert not is_available(replace(BYPASSED, app_ready=False), KUBELET)
    assert not is_available(replace(BYPASSED, health=Health.UNAVAILABLE), HTTP)


def test_a_check_that_failed_counts_though_the_kubelet_is_content() -> None:
    assert not is_available(replace(WELL, health=Health.UNAVAILABLE), HTTP)
    assert is_available(replace(WELL, health=Health.UNAVAILABLE), KUBELET)


def test_nothing_heard_yet_is_not_available() -> None:
    assert not is_available(replace(WELL, health=Health.UNKNOWN), HTTP)


def test_draining_takes_no_new_flows_and_serves_those_that_stand() -> None:
    said = conditions(replace(WELL, rotation=Rotation.DRAINING), KUBELET)
    assert (said.ready, said.serving, said.terminating) == (False, True, False)
    assert conditions(replace(WELL, rotation=Rotation.OUT), KUBELET).serving is False


def test_a_pod_that_is_being_deleted_serves_and_terminates() -> None:
    said = conditions(replace(WELL, terminating=True), KUBELET)
    assert (said.ready, said.serving, said.terminating) == (False, True, True)


def test_all_lists_everybody_with_stale_clusters_last_and_lost_ones_not_at_all() -> None:  # S2.4, S2.7
    stale = backend("web-1", 2, cluster="east", staleness=Staleness.STALE)
    lost = backend("web-2", 3, cluster="west", staleness=Staleness.LOST)
    told = published(service(ServiceMode.ALL), (stale, lost, WELL))
    assert [(each.backend.pod.name, each.priority) for each in told.endpoints] == [("web-0", 0), ("web-1", 1)]
