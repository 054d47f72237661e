"""Each fault told apart from those it resembles (S4.2, S4.2a, S4.2b, S4.2c)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.decide import diagnose
from hotswitch.model import Facts, Fault, Grade, PathComparison, Pressure, Tripwire
from tests.decide.scenes import (
    APP,
    CALM,
    EVERYTHING,
    NOW,
    OK,
    PROXY_PORTS,
    REFUSED,
    RESET,
    THRESHOLDS,
    TIMEOUT,
    TLS,
    UNREADY,
    dead,
    dump,
    hung,
    probes,
    well,
)

pytestmark = pytest.mark.unit

NONE, SUSPECTED, CONFIRMED, CORROBORATED = Grade.NONE, Grade.SUSPECTED, Grade.CONFIRMED, Grade.CORROBORATED


def said(facts: Facts) -> tuple[Fault, Grade]:
    diagnosis = diagnose(facts, THRESHOLDS)
    assert diagnosis.sentence and diagnosis.evidence  # I8
    return diagnosis.fault, diagnosis.grade


def test_nothing_is_wrong() -> None:
    assert said(well()) == (Fault.WELL, NONE)


def test_nothing_is_known() -> None:
    assert said(Facts(at_s=NOW, ever_ready=True)) == (Fault.UNKNOWN, NONE)


# ---- dead, drained, dumping ----


def test_sidecar_dies() -> None:
    assert said(dead(for_s=0.002)) == (Fault.DEAD, CONFIRMED)


def test_sidecar_dies_and_its_container_agrees_later() -> None:
    assert said(dead(for_s=0.2, container_running=False)) == (Fault.DEAD, CONFIRMED)  # 250 ms have not passed
    assert said(dead(for_s=0.3, container_running=False)) == (Fault.DEAD, CORROBORATED)
    assert said(dead(for_s=0.3, container_running=True)) == (Fault.DEAD, CONFIRMED)


def test_sidecar_dies_and_the_path_agrees_only_if_compared_since() -> None:
    blames = PathComparison(NOW - 0.1, proxied=REFUSED, direct=OK)
    assert said(dead(for_s=0.5, path=blames)) == (Fault.DEAD, CORROBORATED)
    stale = PathComparison(NOW - 0.9, proxied=REFUSED, direct=OK)
    assert said(dead(for_s=0.5, path=stale)) == (Fault.DEAD, CONFIRMED)


def test_held_connection_closes_before_listeners_do() -> None:
    """14 of 20 reconnects succeeded after kill -9; the new connection died 0.1 to 0.3 ms later."""
    reconnected = well(tripwire=Tripwire.HELD, tripwire_since_s=NOW - 0.0001)
    assert said(reconnected) == (Fault.WELL, NONE)
    torn = dead(for_s=0.0003, listeners=dump(NOW, (15006, 15090, APP)))
    assert said(torn) == (Fault.DEAD, SUSPECTED)
    assert said(dead(for_s=0.002)) == (Fault.DEAD, CONFIRMED)


def test_refused_without_a_dump_made_since() -> None:
    assert said(dead(for_s=0.5, listeners=None)) == (Fault.DEAD, SUSPECTED)
    assert said(dead(for_s=0.5, listeners=dump(NOW - 0.6, (APP,)))) == (Fault.DEAD, SUSPECTED)


def test_operator_drains() -> None:
    """Plain drain_listeners: only the admin port goes on listening, and the process lives."""
    drained = dead(for_s=0.1, listeners=dump(NOW, (15000, 15020, APP)))
    assert said(drained) == (Fault.DRAINED, CONFIRMED)


def test_operator_drains_and_the_held_connection_stays() -> None:
    drained = well(listeners=dump(NOW, (15000, APP)), probes=probes(OK, REFUSED, REFUSED))
    assert said(drained) == (Fault.DRAINED, CONFIRMED)


def test_operator_drains_inbound_only() -> None:
    drained = well(listeners=dump(NOW, (15000, 15001, 15021, 15090, APP)))
    assert said(drained) == (Fault.DRAINED, CONFIRMED)


def test_drained_inbound_is_not_misrouting() -> None:
    """Behind closed listeners the proxied way fails too: without a fresh dump that is only suspected."""
    blames = PathComparison(NOW, proxied=REFUSED, direct=OK)
    unseen = well(listeners=None, path=blames, path_streak=9)
    assert said(unseen) == (Fault.MISROUTING, SUSPECTED)


def test_health_port_refuses_and_listens_again() -> None:
    assert said(dead(for_s=0.5, listeners=dump(NOW, EVERYTHING))) == (Fault.DEAD, SUSPECTED)


def test_sidecar_restarted_and_answers_before_the_tripwire_is_armed() -> None:
    back = dead(for_s=2.0, listeners=dump(NOW, EVERYTHING), probes=probes(OK))
    assert said(back) == (Fault.WELL, NONE)


def test_agent_starts_after_the_sidecar_died() -> None:
    assert said(dead(tripwire=Tripwire.UNARMED, probes=())) == (Fault.UNKNOWN, NONE)
    refused = dead(tripwire=Tripwire.UNARMED, probes=probes(REFUSED, REFUSED, REFUSED, every_s=0.05))
    assert said(refused) == (Fault.DEAD, CONFIRMED)
    once = dead(tripwire=Tripwire.UNARMED, probes=probes(REFUSED))
    assert said(once) == (Fault.DEAD, SUSPECTED)


def test_connection_held_though_nothing_listens() -> None:
    odd = well(listeners=dump(NOW, (APP,)), probes=probes(REFUSED, REFUSED, REFUSED))
    assert said(odd) == (Fault.DEAD, SUSPECTED)


def test_sidecar_is_on_its_way_out() -> None:
    """The kernel ends the process: on a busy machine 15021 goes some 10 ms after the traffic ports."""
    dying = well(proxy_exiting=True, listeners=dump(NOW, (15021, 15090, APP)))
    assert said(dying) == (Fault.DEAD, CONFIRMED)
    assert said(well(proxy_exiting=True)) == (Fault.WELL, NONE)


def test_envoy_is_on_its_way_out() -> None:
    """The held connection goes first: by then most of Envoy's ports may still listen."""
    dying = well(proxy_exiting=True, envoy_exiting=True, tripwire_cut_s=NOW - 0.001)
    assert said(dying) == (Fault.DEAD, CONFIRMED)
    assert said(replace(dying, tripwire_cut_s=None)) == (Fault.WELL, NONE)
    assert said(replace(dying, tripwire_cut_s=NOW - 60)) == (Fault.WELL, NONE)
    assert said(replace(dying, envoy_exiting=False)) == (Fault.WELL, NONE)


def test_all_that_is_held_closes_at_once() -> None:
    """S4.2a: nothing is seen of the process, and its listeners may stand for 20 ms more: a drain it is not."""
    dying = well(admin_closed_s=NOW - 0.001, tripwire_cut_s=NOW - 0.002)
    assert said(dying) == (Fault.DEAD, CONFIRMED)
    assert said(replace(dying, tripwire_cut_s=NOW - 0.2)) == (Fault.WELL, NONE), "each for itself: recycled"
    assert said(replace(dying, tripwire_cut_s=None)) == (Fault.WELL, NONE)
    assert said(replace(dying, admin_closed_s=None)) == (Fault.WELL, NONE), "drained, or reset by somebody"
    assert said(replace(dying, at_s=NOW + 60, listeners=None)) == (Fault.WELL, NONE), "long ago"
    back = (*probes(OK), replace(probes(OK)[0], started_s=NOW - 0.0005, ended_s=NOW))
    assert said(replace(dying, probes=back)) == (Fault.WELL, NONE), "it has answered since"


def test_envoys_threads_go() -> None:
    """S4.2a: the kernel gives back its memory before it closes a single socket, so all else still looks well."""
    dying = well(envoy_doomed_s=NOW - 0.001)
    assert said(dying) == (Fault.DEAD, CONFIRMED)
    assert said(replace(dying, envoy_doomed_s=NOW - 60)) == (Fault.WELL, NONE), "another has taken its place"
    assert said(replace(dying, terminating=True)) == (Fault.TERMINATING, CONFIRMED)
    assert said(replace(dying, ever_ready=False)) == (Fault.STARTING, CONFIRMED)


def test_command_that_drained_the_sidecar_exits() -> None:
    """kubectl exec ... drain_listeners: what is on its way out is the command, not the proxy."""
    drained = dead(for_s=0.001, proxy_exiting=True, listeners=dump(NOW, (15000, 15020, APP)))
    assert said(drained) == (Fault.DEAD, SUSPECTED)
    later = dead(for_s=0.1, proxy_exiting=True, listeners=dump(NOW, (15000, 15020, APP)))
    assert said(later) == (Fault.DRAINED, CONFIRMED)


def test_sidecar_dumps_core() -> None:
    """The sockets stay open while the core is written: it looks like a hang, but is sure at once."""
    dumping = well(pressure=Pressure(known=True, dumping=True))
    assert said(dumping) == (Fault.CORE_DUMPING, CONFIRMED)
    blames = PathComparison(NOW, proxied=TIMEOUT, direct=OK)
    silent = hung(pressure=Pressure(known=True, dumping=True), path=blames)
    assert said(silent) == (Fault.CORE_DUMPING, CORROBORATED)


def test_container_said_dead_while_the_kernel_says_alive() -> None:
    assert said(well(container_running=False)) == (Fault.DEAD, SUSPECTED)  # S4.2a: a reason to look


# ---- configuration, readiness, certificates ----


def test_sidecar_restarts_without_istiod() -> None:
    bare = well(listeners=dump(NOW, (15000, 15021, 15090, APP)), probes=probes(UNREADY, UNREADY, UNREADY))
    assert said(bare) == (Fault.UNCONFIGURED, CONFIRMED)
    once = well(listeners=dump(NOW, (15000, 15021, 15090, APP)), probes=probes(UNREADY))
    assert said(once) == (Fault.UNCONFIGURED, SUSPECTED)


def test_pod_is_deleted() -> None:
    assert said(dead(terminating=True)) == (Fault.TERMINATING, CONFIRMED)


def test_proxy_closes_down_and_nobody_said_so() -> None:
    """kubelet-led eviction sets no deletionTimestamp."""
    closing = well(listeners=dump(NOW, (15000, 15001, 15021, 15090, APP)), probes=probes(OK, UNREADY))
    assert said(closing) == (Fault.TERMINATING, CONFIRMED)


def test_pod_was_never_ready() -> None:
    assert said(dead(ever_ready=False)) == (Fault.STARTING, CONFIRMED)


def test_health_says_503() -> None:
    """S4.2b: alive but not healthy; that requests suffer must be shown."""
    unready = well(probes=probes(OK, UNREADY, UNREADY, UNREADY))
    assert said(unready) == (Fault.UNREADY, SUSPECTED)
    blames = PathComparison(NOW, proxied=UNREADY, direct=OK)
    assert said(well(probes=unready.probes, path=blames)) == (Fault.UNREADY, CORROBORATED)  # 15021, and the path
    recent = probes(UNREADY, UNREADY, UNREADY, every_s=0.05)
    assert said(well(probes=recent, path=blames)) == (Fault.UNREADY, CONFIRMED)
    squeezed = Pressure(known=True, throttled=True)
    assert said(well(probes=unready.probes, path=blames, pressure=squeezed)) == (Fault.UNREADY, SUSPECTED)
    assert said(well(probes=probes(OK, RESET))) == (Fault.UNREADY, SUSPECTED)


def test_bad_listener_is_pushed() -> None:
    """Ready by 15021, yet what passes the proxy fails."""
    blames = PathComparison(NOW, proxied=RESET, direct=OK)
    assert said(well(path=blames, path_streak=1)) == (Fault.MISROUTING, SUSPECTED)
    assert said(well(path=blames, path_streak=2)) == (Fault.MISROUTING, CONFIRMED)
    assert said(well(path=blames, path_streak=2, pressure=Pressure())) == (Fault.MISROUTING, SUSPECTED)


def test_strict_proxy_answers_tls_to_a_plain_question() -> None:
    assert said(well(path=PathComparison(NOW, proxied=TLS, direct=OK))) == (Fault.WELL, NONE)


def test_certificate_expires() -> None:
    assert said(well(proxy_certificate_expires_in_s=-1.0))[0] is Fault.CERTIFICATE_EXPIRED  # S4.2c
    assert said(well(proxy_certificate_expires_in_s=1.0)) == (Fault.WELL, NONE)
    assert said(well(proxy_certificate_expires_in_s=None)) == (Fault.WELL, NONE)


# ---- the app ----


def test_app_crashes() -> None:
    assert said(well(listeners=dump(NOW, PROXY_PORTS))) == (Fault.APP_SICK, CONFIRMED)


def test_app_and_sidecar_both_die() -> None:
    assert said(dead(listeners=dump(NOW, ()))) == (Fault.APP_SICK, CONFIRMED)
    refused = PathComparison(NOW, proxied=REFUSED, direct=REFUSED)
    assert said(dead(path=refused, path_streak=1)) == (Fault.APP_SICK, SUSPECTED)  # enough to forbid an opening


def test_app_hangs() -> None:
    both_fail = PathComparison(NOW, proxied=TIMEOUT, direct=TIMEOUT)
    assert said(well(path=both_fail, path_streak=2)) == (Fault.APP_SICK, CONFIRMED)


def test_app_is_unready_because_its_sidecar_is_dead() -> None:
    """It answers 503 as it cannot reach what it depends on: the proxy is proven dead, so the proxy is to blame."""
    unready = PathComparison(NOW, proxied=REFUSED, direct=UNREADY)
    assert said(dead(path=unready, path_streak=5)) == (Fault.DEAD, CONFIRMED)
    assert said(well(path=PathComparison(NOW, UNREADY, UNREADY), path_streak=2)) == (Fault.APP_SICK, SUSPECTED)


def test_app_had_not_started_at_the_last_look() -> None:
    assert said(well(listeners=dump(NOW - 30, PROXY_PORTS))) == (Fault.WELL, NONE)


def test_pressure_alone_is_no_fault() -> None:
    assert said(well(pressure=Pressure(known=True, throttled=True, memory=True, starved=True))) == (Fault.WELL, NONE)
    assert CALM.known
