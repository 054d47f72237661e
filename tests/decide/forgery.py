"""Facts that fit nothing: every field drawn on its own. For totality, and for agents that are lied to."""

from __future__ import annotations

import random
from collections.abc import Callable

from hotswitch.model import (
    AcceptQueue,
    Capabilities,
    Dependency,
    Direction,
    Facts,
    Fault,
    Generation,
    Level,
    Listeners,
    Mode,
    Mtls,
    Opening,
    Override,
    PathComparison,
    PodRef,
    PodUid,
    Policy,
    Pressure,
    Probe,
    ProbeOutcome,
    Reaction,
    Standing,
    Supply,
    Surroundings,
    Thresholds,
    Tripwire,
    View,
)

PORTS = (15000, 15001, 15006, 15020, 15021, 15090, 8080, 9000)
ODD_NUMBERS = (0.0, -1.0, 1e18, -1e18, float("inf"), float("-inf"), float("nan"))


def forged_facts(dice: random.Random, now_s: float, *, odd: bool = False) -> Facts:
    """`odd`: numbers may be infinite or no numbers at all."""

    def instant() -> float:
        if odd and dice.random() < 0.3:
            return dice.choice(ODD_NUMBERS)
        return now_s - dice.choice((0.0, 0.001, 0.1, 0.3, 1.0, 3.0, 30.0))

    def left() -> float | None:
        return dice.choice((None, -5.0, 5.0, 5000.0, dice.choice(ODD_NUMBERS) if odd else 1.0))

    return Facts(
        at_s=instant() if odd else now_s,
        tripwire=dice.choice(list(Tripwire)),
        tripwire_since_s=instant(),
        listeners=None if dice.random() < 0.2 else Listeners(instant(), _queues(dice, odd)),
        probes=tuple(Probe(instant(), instant(), _outcome(dice)) for _ in range(dice.randrange(8))),
        pressure=_pressure(dice),
        path=None if dice.random() < 0.3 else PathComparison(instant(), _outcome(dice), _outcome(dice)),
        path_streak=dice.choice((-1, 0, 1, 2, 9)),
        path_passes=dice.choice((None, -1, 0, 3, 9)),
        app_ports=frozenset(dice.sample(PORTS[-2:], dice.randrange(3))),
        identity_expires_in_s=left(),
        proxy_certificate_expires_in_s=left(),
        tripwire_cut_s=None if dice.random() < 0.5 else instant(),
        admin_closed_s=None if dice.random() < 0.8 else instant(),
        proxy_exiting=dice.random() < 0.2,
        envoy_exiting=dice.random() < 0.2,
        envoy_doomed_s=None if dice.random() < 0.8 else instant(),
        supply=_supply(dice, instant, left),
        container_running=dice.choice((None, True, False)),
        ever_ready=dice.random() < 0.9,
        terminating=dice.random() < 0.1,
    )


def _supply(dice: random.Random, instant: Callable[[], float], left: Callable[[], float | None]) -> Supply | None:
    if dice.random() < 0.5:
        return None
    cut_off, rejected, missing = (tuple(name for name in names if dice.random() < 0.3) for names in ("a", "bc", "d"))
    return Supply(instant(), cut_off, instant(), rejected, missing, left())


def _outcome(dice: random.Random) -> ProbeOutcome:
    return dice.choice(list(ProbeOutcome))


def _pressure(dice: random.Random) -> Pressure:
    throttled, memory, starved, dumping, stopped = (dice.random() < 0.2 for _ in range(5))
    workers = dice.choice((None, None, 0, 1, 2))
    known, busy = dice.random() < 0.7, dice.random() < 0.2
    return Pressure(throttled, memory, starved, dumping, stopped, known=known, still_workers=workers, busy=busy)


def _queues(dice: random.Random, odd: bool) -> tuple[AcceptQueue, ...]:
    ports = dice.sample(PORTS, dice.randrange(len(PORTS) + 1))
    stuck = (*ODD_NUMBERS, 0.3) if odd else (0.0, 0.0, 0.3, 3.0)
    return tuple(AcceptQueue(port, port, dice.randrange(3), dice.choice(stuck)) for port in ports for _ in range(2))


def forged_view(dice: random.Random) -> View:
    """A whole view in which nothing fits anything, and numbers need not be numbers."""
    now_s = dice.choice((*ODD_NUMBERS, 1000.0, 1000.0, 1000.0))
    return View(
        now_s=now_s,
        pod=PodRef("web-0", "shop", PodUid("uid"), "deploy/web"),
        policy=_policy(dice),
        facts=forged_facts(dice, 1000.0, odd=True),
        standing=_standing(dice),
        capabilities=Capabilities(dice.random() < 0.9, "", dice.random() < 0.8, "", dice.randrange(-1, 4)),
        surroundings=_surroundings(dice),
    )


def _surroundings(dice: random.Random) -> Surroundings:
    names = ("open_on_node", "open_of_workload", "node_budget", "workload_budget", "pods_on_node", "faulty_on_node")
    numbers = {name: dice.randrange(-1, 9) for name in (*names, "open_in_namespace")}
    budget = dice.choice((None, 0, 1, 3))
    ages_s = (_number(dice), _number(dice))
    return Surroundings(**numbers, namespace_budget=budget, workload_fault_ages_s=ages_s)


def _number(dice: random.Random) -> float:
    return dice.choice((*ODD_NUMBERS, 0.25, 3.0, 990.0, 1000.0, 1300.0))


def _policy(dice: random.Random) -> Policy:
    mtls = list(Mtls)
    numbers = {name: _number(dice) for name in ("expiry_s", "open_at_most_s", "hold_down_s", "hold_down_max_s")}
    timed = {name: _number(dice) for name in ("hung_queue_s", "direct_after_s", "recover_after_s")}
    return Policy(
        mode=dice.choice((Mode.AUTO, Mode.AUTO, Mode.OBSERVE, Mode.OFF)),
        inbound=tuple(dice.sample(list(Level), dice.randrange(5))),
        outbound=tuple(dice.sample(list(Level), dice.randrange(5))),
        outbound_free=dice.random() < 0.5,
        mtls=dice.choice(mtls),
        mtls_by_port={port: dice.choice(mtls) for port in dice.sample(PORTS, 3)},
        strict_granted=dice.random() < 0.2,
        never_direct=frozenset(dice.sample(PORTS, dice.randrange(3))),
        dependencies={dependency: dice.choice(list(Reaction)) for dependency in Dependency if dice.random() < 0.3},
        stale_after_s=_number(dice),
        certificate_ends_s=_number(dice),
        thresholds=Thresholds(hung_probes=dice.randrange(-1, 4), recover_probes=dice.randrange(-1, 4), **timed),
        **numbers,
    )


def _standing(dice: random.Random) -> Standing:
    """Also one that contradicts itself, such as levels that are open without openings."""

    def perhaps() -> float | None:
        return dice.choice((None, _number(dice)))

    def some(direction: Direction) -> Opening:
        return Opening(dice.choice(list(Level)), {8080: dice.choice(list(Level))})

    ways = [way for way in Direction if dice.random() < 0.8]
    order = Override({way: dice.choice(list(Level)) for way in ways}, _number(dice), "because", "ada")
    return Standing(
        generation=Generation(dice.randrange(9)),
        levels={way: dice.choice(list(Level)) for way in ways},
        opened_s=perhaps(),
        expires_s=perhaps(),
        fault=dice.choice(list(Fault)),
        fault_since_s=perhaps(),
        well_since_s=perhaps(),
        hold_down_s=_number(dice),
        hold_down_until_s=_number(dice),
        recent_faults_s=(_number(dice), _number(dice)),
        override=dice.choice((None, order)),
        openings={way: some(way) for way in ways if dice.random() < 0.8},
        ordered=frozenset(way for way in ways if dice.random() < 0.3),
        induced=dice.random() < 0.3,
        said=frozenset(),
        rebuilt=dice.random() < 0.3,
    )
