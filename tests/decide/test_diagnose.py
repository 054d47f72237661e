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
    INVALID,
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


# ---- hung, throttled, one worker stuck ----


def test_sidecar_hangs() -> None:
    assert said(hung(for_s=0.8)) == (Fault.HUNG, CONFIRMED)


def test_sidecar_is_stopped() -> None:
    stopped = Pressure(known=True, stopped=True, throttled=True)
    assert said(hung(pressure=stopped)) == (Fault.HUNG, CORROBORATED)


def test_sidecar_hangs_too_briefly() -> None:
    assert said(hung(for_s=0.5)) == (Fault.HUNG, SUSPECTED)  # two timeouts


def test_sidecar_accepts_and_does_not_answer() -> None:
    """15021 is answered by pilot-agent behind Envoy: timeouts without a standing queue do not blame the proxy."""
    slow_agent = hung(listeners=dump(NOW, EVERYTHING))
    assert said(slow_agent) == (Fault.HUNG, SUSPECTED)


def test_queue_seen_before_the_timeouts() -> None:
    old = hung(for_s=0.75, listeners=dump(NOW - 0.8, EVERYTHING, {15021: (1.0, 1.0)}))
    assert said(old) == (Fault.HUNG, SUSPECTED)


def test_hang_between_answers() -> None:
    assert said(hung(probes=probes(TIMEOUT, TIMEOUT, OK, TIMEOUT)))[1] is SUSPECTED


def test_our_own_loop_was_late() -> None:
    assert said(hung(probes=probes(OK, *[INVALID] * 12))) == (Fault.WELL, NONE)
    assert said(hung(probes=probes(TIMEOUT, INVALID, TIMEOUT, INVALID, TIMEOUT))) == (Fault.HUNG, CONFIRMED)


@pytest.mark.parametrize("reason", ["throttled", "memory", "starved"])
def test_sidecar_is_only_slow(reason: str) -> None:
    squeezed = Pressure(known=True, **{reason: True})
    assert said(hung(for_s=5.0, pressure=squeezed)) == (Fault.THROTTLED, CONFIRMED)
    assert said(hung(for_s=0.5, pressure=squeezed)) == (Fault.THROTTLED, SUSPECTED)


def test_throttled_and_the_proxied_way_times_out() -> None:
    squeezed = Pressure(known=True, throttled=True)
    blames = PathComparison(NOW, proxied=TIMEOUT, direct=OK)
    assert said(well(pressure=squeezed, path=blames, path_streak=9)) == (Fault.MISROUTING, SUSPECTED)


def test_pressure_is_not_known() -> None:
    """Nothing can be excluded, so twice as many timeouts are asked for."""
    assert said(hung(for_s=0.8, pressure=Pressure())) == (Fault.HUNG, SUSPECTED)
    assert said(hung(for_s=1.5, pressure=Pressure())) == (Fault.HUNG, CONFIRMED)


def test_one_of_two_workers_is_stuck() -> None:
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK, TIMEOUT, OK))) == (Fault.STUCK_WORKER, CONFIRMED)
    assert said(well(listeners=half)) == (Fault.STUCK_WORKER, SUSPECTED)  # no probe has suffered yet
    assert said(well(listeners=half, probes=probes(TIMEOUT, TIMEOUT, TIMEOUT)))[0] is Fault.STUCK_WORKER


def test_one_worker_is_busy_for_a_moment() -> None:
    half = dump(NOW, EVERYTHING, {15006: (0.3, 0.0)})
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK))) == (Fault.WELL, NONE)


def test_one_worker_is_stuck_while_throttled() -> None:
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    squeezed = Pressure(known=True, throttled=True)
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK), pressure=squeezed))[0] is Fault.THROTTLED


def test_drained_and_its_certificate_has_ended() -> None:
    """Until it is clear what the refusal means, nothing else is said of it: it may be drained, on purpose."""
    coming = dead(for_s=0.001, listeners=dump(NOW, (15000, 15020, APP)), proxy_certificate_expires_in_s=-5.0)
    assert said(coming) == (Fault.DEAD, SUSPECTED)


def test_sidecar_has_much_to_do() -> None:
    """All of its workers work, and its queues never shrink: no hang, unless it goes on for long."""
    busy = Pressure(known=True, still_workers=0)
    assert said(hung(for_s=1.9, pressure=busy)) == (Fault.HUNG, SUSPECTED)
    assert said(hung(for_s=2.1, pressure=busy)) == (Fault.HUNG, CONFIRMED)
    assert said(hung(for_s=1.0, pressure=replace(busy, stopped=True))) == (Fault.HUNG, CORROBORATED)
    half = dump(NOW, EVERYTHING, {15021: (0.9, 0.0)})
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK), pressure=busy))[0] is Fault.WELL
    stands = replace(busy, still_workers=1)
    assert said(well(listeners=half, probes=probes(OK, TIMEOUT, OK), pressure=stands))[0] is Fault.STUCK_WORKER


def test_its_workers_were_not_watched_for_long_enough() -> None:
    """They may be waiting for a CPU."""
    unknown = Pressure(known=True, workers=2)
    assert said(hung(for_s=0.8, pressure=unknown)) == (Fault.HUNG, SUSPECTED)
    assert said(hung(for_s=0.8, pressure=replace(unknown, still_workers=2))) == (Fault.HUNG, CONFIRMED)
    assert said(hung(for_s=0.8, pressure=replace(unknown, stopped=True))) == (Fault.HUNG, CORROBORATED)


def test_unanswered_and_yet_accepted() -> None:
    """Seen under stress: inbound had its queues full, and those of 15021 moved."""
    inbound = dump(NOW, EVERYTHING, {15006: (0.9, 0.9)})
    assert said(hung(for_s=1.0, listeners=inbound)) == (Fault.HUNG, SUSPECTED)
    half = well(listeners=dump(NOW, EVERYTHING, {15006: (0.9, 0.0)}), probes=probes(OK, TIMEOUT, OK, TIMEOUT, OK))
    assert said(half) == (Fault.STUCK_WORKER, SUSPECTED)


def test_one_worker_stands_and_nearly_all_is_answered() -> None:
    """Of two workers, a stuck one would have got every other question."""
    half = dump(NOW, EVERYTHING, {15006: (4.5, 0.0), 15021: (4.5, 0.0)})
    rare = probes(*[OK] * 7, TIMEOUT, *[OK] * 8, every_s=0.05)
    assert said(well(listeners=half, probes=rare)) == (Fault.STUCK_WORKER, SUSPECTED)
    often = probes(*[OK, OK, OK, TIMEOUT] * 4, every_s=0.05)
    assert said(well(listeners=half, probes=often)) == (Fault.STUCK_WORKER, CONFIRMED)


def test_broken_connection_neither_refused_nor_accepted() -> None:
    assert said(well(tripwire=Tripwire.UNANSWERED, tripwire_since_s=NOW - 0.1)) == (Fault.HUNG, SUSPECTED)


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
