"""Nearest first: which backends serve whom, in which shares, and what follows when they fail (S2.5 to S2.8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hotswitch.backends import Backend, BackendPort, Conditions, Locality, PublishedEndpoint, ServiceId, Staleness
from hotswitch.decide.endpoints import nearest
from hotswitch.decide.endpoints.capacity import FILL, REFILL, Bounds, bounds
from hotswitch.decide.endpoints.nearest import FULL, NOBODY, Ladder, Part
from hotswitch.decide.endpoints.place import DEFAULT, Caller, Distance, Group, Order, grouped
from hotswitch.model import PodRef, PodUid

pytestmark = pytest.mark.unit

PLACES = {
    "host": Locality("home", "north", "n1", "node-a"),
    "zone": Locality("home", "north", "n1", "node-b"),
    "cluster": Locality("home", "north", "n2", "node-c"),
    "other": Locality("away", "south", "s1", "node-d"),
}
CALLER = Caller("shop/web-0", ("10.0.0.200",), PLACES["host"])
READY, DOWN, LEAVING = Conditions(True, True, False), Conditions(False, False, False), Conditions(False, True, True)


def backend(name: str, where: str = "host", **fields: Any) -> Backend:
    pod = PodRef(name, "shop", PodUid(f"uid-{name}"))
    return Backend(
        service=ServiceId("shop", "db"),
        pod=pod,
        addresses=(f"10.1.0.{len(name)}{name}",),
        ports=(BackendPort("sql", 5432),),
        locality=PLACES[where],
        **fields,
    )


def groups(ready: Iterable[Backend], down: Iterable[Backend] = ()) -> tuple[Group, ...]:
    told = [PublishedEndpoint(each, READY) for each in ready]
    return grouped([*told, *(PublishedEndpoint(each, DOWN) for each in down)])


def ladder(
    caller: Caller,
    at: tuple[Group, ...],
    order: Order = DEFAULT,
    bounds: Bounds | None = None,
    before: Ladder = NOBODY,
) -> Ladder:
    return nearest.ladder(caller, at, nearest.arranged(caller.locality, at, order), bounds, before)


def names(found: Ladder, at: tuple[Group, ...]) -> list[list[str]]:
    """Of the backends of each tier."""
    return [sorted(name for rung in tier for part in rung.parts for name in members(part, at)) for tier in found.tiers]


def members(part: Part, at: tuple[Group, ...]) -> list[str]:
    chosen = (each for each in at[part.group].backends if part.only in (None, each.id) and each.id != part.without)
    return [each.pod.name for each in chosen]


def shares(found: Ladder) -> dict[str, int]:
    return {str(each.distance): each.share for each in found.rungs if each.share}


# ---- S2.5: the order ----


def test_order_is_own_pod_host_zone_cluster_other_cluster() -> None:
    at = groups(backend(*each) for each in (("h", "host"), ("z", "zone"), ("c", "cluster"), ("o", "other")))
    assert names(ladder(CALLER, at), at) == [["h"], ["z"], ["c"], ["o"]]


def test_caller_that_is_a_backend_itself_comes_first() -> None:
    at = groups([backend("a"), backend("web-0"), backend("z", "zone")])
    assert names(ladder(CALLER, at), at) == [["web-0"], ["a"], ["z"]]


def test_caller_that_says_no_name_is_known_by_its_address() -> None:
    mine = backend("m")
    at = groups([backend("a"), mine])
    assert names(ladder(Caller("", mine.addresses, PLACES["host"]), at), at) == [["m"], ["a"]]


def test_neighbour_on_the_hosts_network_is_not_taken_for_the_own_pod() -> None:
    neighbour = backend("n")
    at = groups([neighbour, backend("z", "zone")])
    found = ladder(Caller("shop/web-0", neighbour.addresses, PLACES["host"]), at)
    assert [each.distance for each in found.rungs] == [Distance.HOST, Distance.ZONE]


def test_caller_that_says_nothing_has_its_cluster_first() -> None:
    at = groups(backend(*each) for each in (("h", "host"), ("c", "cluster"), ("o", "other")))
    found = ladder(Caller(locality=Locality("home")), at)
    assert names(found, at) == [["c", "h"], ["o"]]


def test_cluster_that_was_not_heard_of_comes_last() -> None:
    far = backend("f", "other", staleness=Staleness.STALE)
    at = groups([far, backend("o", "other"), backend("c", "cluster")])
    assert names(ladder(CALLER, at), at) == [["c"], ["o"], ["f"]]


# ---- S2.6, S2.7: when a distance cannot serve ----


def test_host_is_lost_and_then_the_cluster() -> None:
    every = [backend("h"), backend("z", "zone"), backend("c", "cluster"), backend("o", "other")]
    served = []
    for lost in range(len(every)):
        at = groups(every[lost:], every[:lost])
        served.append(names(ladder(CALLER, at), at)[0])
    assert served == [["h"], ["z"], ["c"], ["o"]]


def test_nobody_is_ready() -> None:
    at = groups([], [backend("h"), backend("o", "other")])
    found = ladder(CALLER, at)
    assert found.tiers == () and [each.sentence for each in found.rungs] == ["0 of 1 ready: nobody can serve"] * 2


@pytest.mark.parametrize(("ready", "share"), [(10, 100), (8, 100), (7, 98), (5, 70), (1, 14)])
def test_part_of_a_distance_is_ready(ready: int, share: int) -> None:
    """By Envoy's rule: in full while 1 of 1.4 is ready, then in proportion."""
    here = [backend(f"h{number}") for number in range(10)]
    at = groups([*here[:ready], backend("z", "zone")], here[ready:])
    found = shares(ladder(CALLER, at))
    assert found == ({"same-host": share, "same-zone": 100 - share} if share < 100 else {"same-host": 100})


def test_backend_that_leaves_is_not_missed() -> None:
    told = [PublishedEndpoint(backend("h"), READY), PublishedEndpoint(backend("g"), LEAVING)]
    at = grouped([*told, PublishedEndpoint(backend("z", "zone"), READY)])
    assert shares(ladder(CALLER, at)) == {"same-host": 100}


# ---- S2.8: by capacity, and by order ----


def loaded(demand: float, before: Ladder = NOBODY, **capacity: int) -> Ladder:
    """One backend at each named place, and requests at once from the caller's host."""
    at = groups(backend(where, where, capacity=each) for where, each in capacity.items())
    found = bounds(at, DEFAULT, {CALLER.locality: demand}).get(CALLER.locality)
    return ladder(CALLER, at, bounds=found, before=before)


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        (10, {"same-host": 100}),
        (80, {"same-host": 100}),
        (100, {"same-host": 80, "same-zone": 20}),
        (160, {"same-host": 50, "same-zone": 50}),
        (320, {"same-host": 25, "same-zone": 25, "other-cluster": 50}),
        (1000, {"same-host": 25, "same-zone": 25, "other-cluster": 50}),
    ],
)
def test_distance_spills_over_before_it_is_overloaded(demand: float, expected: Mapping[str, int]) -> None:
    found = shares(loaded(demand, host=100, zone=100, other=200))
    assert found.keys() == expected.keys()
    assert all(abs(found[each] - expected[each]) <= 1 for each in expected)


def test_demand_that_sways_moves_nothing() -> None:
    found = loaded(100, host=100, zone=100)
    spilled = shares(found)
    for demand in (95, 99, 100, 92, 97, 85, 81):
        found = loaded(demand, found, host=100, zone=100)
        assert shares(found) == spilled


def test_demand_that_falls_is_taken_back() -> None:
    found = loaded(160, host=100, zone=100)
    found = loaded(100, found, host=100, zone=100)
    assert shares(found)["same-host"] == 60
    assert shares(loaded(50, found, host=100, zone=100)) == {"same-host": 100}


def test_demand_that_grows_is_spilled_at_once() -> None:
    found = loaded(10, host=100, zone=100)
    assert shares(loaded(160, found, host=100, zone=100)) == {"same-host": 50, "same-zone": 50}


def test_capacity_is_given_out_once() -> None:
    """Two hosts without backends ask for the same zone, which bears 80 of their 160."""
    at = groups([backend("z", "zone", capacity=100), backend("o", "other", capacity=1000)])
    here = [Locality("home", "north", "n1", node) for node in ("x", "y")]
    found = bounds(at, DEFAULT, dict.fromkeys(here, 80.0))
    assert [shares(ladder(Caller(locality=each), at, bounds=found[each])) for each in here] == [
        {"same-zone": 50, "other-cluster": 50}
    ] * 2


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("same-cluster", [["c", "h", "z"], ["o"]]),
        ("other-cluster,same-host", [["o"], ["h"], ["c", "z"]]),
        ("same-cluster,same-host", [["c", "z"], ["h"], ["o"]]),
        ("only:same-zone", [["h", "z"]]),
        ("only: other-cluster", [["o"]]),
    ],
)
def test_another_order(order: str, expected: list[list[str]]) -> None:
    at = groups(backend(*each) for each in (("h", "host"), ("z", "zone"), ("c", "cluster"), ("o", "other")))
    assert names(ladder(CALLER, at, Order.parse(order)), at) == expected


@pytest.mark.parametrize("text", ["", "nearby", "same-host,same-host", "only:", "same-host,"])
def test_order_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not one of|twice"):
        Order.parse(text)


# ---- whatever the input ----

localities = st.builds(
    Locality,
    cluster=st.sampled_from(("home", "away", "far")),
    region=st.just("r"),
    zone=st.sampled_from(("", "z1", "z2")),
    node=st.sampled_from(("", "n1", "n2", "n3")),
)


@st.composite
def towns(draw: st.DrawFn) -> tuple[Group, ...]:
    told = []
    for number in range(draw(st.integers(1, 8))):
        made = Backend(
            service=ServiceId("shop", "db"),
            pod=PodRef(f"p{number}", "shop", PodUid(f"u{number}")),
            addresses=(f"10.0.0.{number}",),
            ports=(),
            locality=draw(localities),
            capacity=draw(st.one_of(st.none(), st.integers(0, 50))),
            staleness=draw(st.sampled_from((Staleness.FRESH, Staleness.FRESH, Staleness.STALE))),
        )
        told.append(PublishedEndpoint(made, draw(st.sampled_from((READY, READY, DOWN, LEAVING)))))
    return grouped(told)


callers = st.builds(Caller, st.sampled_from(("", "shop/p0", "shop/p1", "shop/x")), st.just(()), localities)
demands = st.dictionaries(localities, st.floats(0, 200), max_size=4)


def decided(caller: Caller, at: tuple[Group, ...], demand: Mapping[Locality, float], before: Ladder = NOBODY) -> Ladder:
    return ladder(caller, at, bounds=bounds(at, DEFAULT, demand).get(caller.locality), before=before)


@given(callers, towns(), demands)
def test_never_nobody_while_somebody_can_serve(
    caller: Caller, at: tuple[Group, ...], demand: Mapping[Locality, float]
) -> None:
    found = decided(caller, at, demand)
    ready = sorted(each.pod.name for group in at for each in group.backends)
    assert sorted(name for tier in names(found, at) for name in tier) == ready  # each of them, and each once
    assert sum(each.share for each in found.rungs) == (FULL if ready else 0)


@given(callers, towns(), demands)
def test_nearer_distance_that_can_carry_the_demand_is_not_passed_over(
    caller: Caller, at: tuple[Group, ...], demand: Mapping[Locality, float]
) -> None:
    rungs = decided(caller, at, demand).rungs
    full = next((number for number, each in enumerate(rungs) if each.carries == FULL), len(rungs))
    assert not any(each.share for each in rungs[full + 1 :])
    for each in rungs[:full]:
        known = each.capacity is not None and demand.get(caller.locality, 0) > 0 and each.distance is not Distance.POD
        assert known or not each.ready or 1.4 * each.ready < each.expected


@given(callers, towns(), st.floats(0.1, 200))
def test_alone_with_enough_capacity_everything_stays_near(caller: Caller, at: tuple[Group, ...], demand: float) -> None:
    found = decided(caller, at, {caller.locality: demand})
    nearest = next((each for each in found.rungs if each.ready), None)
    assume(nearest is not None and nearest.capacity is not None and nearest.distance is not Distance.POD)
    assert nearest is not None and nearest.capacity is not None
    if FILL * nearest.capacity >= demand:
        assert nearest.share == FULL


@given(callers, towns(), demands)
def test_same_input_gives_the_same_answer(
    caller: Caller, at: tuple[Group, ...], demand: Mapping[Locality, float]
) -> None:
    turned = {each: demand[each] for each in sorted(demand, key=str, reverse=True)}
    assert decided(caller, at, demand) == decided(caller, at, turned)


@given(callers, towns(), demands, st.floats(1.0, FILL / REFILL))
def test_demand_that_falls_a_little_moves_nothing(
    caller: Caller, at: tuple[Group, ...], demand: Mapping[Locality, float], less: float
) -> None:
    before = decided(caller, at, demand)
    after = decided(caller, at, {each: value / less for each, value in demand.items()}, before)
    kept = [each.carries for each in before.rungs]
    assert [each.carries for each in after.rungs] == kept


@given(callers, towns(), demands)
def test_told_again_the_same(caller: Caller, at: tuple[Group, ...], demand: Mapping[Locality, float]) -> None:
    found = decided(caller, at, demand)
    assert decided(caller, at, demand, found) == found
