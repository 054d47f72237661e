"""The fewest writes that make slices as they have to be (S2.1, facts: at most 100, all conditions set)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.backends import Backend, BackendPort, Published, ServiceMode
from hotswitch.decide.endpoints import everyone
from hotswitch.decide.endpoints.active_standby import Election, published
from hotswitch.endpoints import slicing
from hotswitch.endpoints.slicing import AT_MOST, Part
from hotswitch.model import Generation
from tests.endpoints.make import backend, service

pytestmark = pytest.mark.unit


def all_of(backends: list[Backend], **fields: Any) -> Published:
    return everyone.published(service(ServiceMode.ALL, **fields), backends)


def many(count: int, start: int = 0) -> list[Backend]:
    return [backend(f"db-{number}", number) for number in range(start, start + count)]


def names(part: Part) -> list[str]:
    return [each["targetRef"]["name"] for each in part.endpoints]


def test_a_first_slice_says_everything() -> None:
    (part,) = slicing.parts(all_of(many(1)), ())
    assert part.name == "db-hotswitch-4-0"
    assert part.endpoints[0] == {
        "addresses": ["10.0.0.0"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "node-a",
        "zone": "north-1",
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": "db-0", "uid": "uid-db-0"},
    }
    assert part.ports == ({"name": "sql", "port": 5432, "protocol": "TCP"},)


def test_one_that_changes_rewrites_one_slice() -> None:
    every = many(250)
    before = slicing.parts(all_of(every), ())
    every[120] = replace(every[120], kubelet_ready=False)
    after = slicing.parts(all_of(every), before)
    assert [old.name for old, new in zip(before, after, strict=True) if old != new] == [before[1].name]


def test_one_that_goes_leaves_room_for_the_next() -> None:
    every = many(2 * AT_MOST)
    before = slicing.parts(all_of(every), ())
    without = slicing.parts(all_of(every[1:]), before)
    again = slicing.parts(all_of([*every[1:], *many(1, 900)]), without)
    assert [part.name for part in again] == [part.name for part in before]
    assert "db-900" in names(again[0])


def test_what_is_empty_goes_and_one_stays() -> None:
    before = slicing.parts(all_of(many(150)), ())
    (part,) = slicing.parts(all_of([]), before)
    assert part.name == before[0].name and part.endpoints == ()


def test_a_slice_that_stands_empty_is_taken_for_the_next_one() -> None:  # S0.7: one write, and no slice goes for it
    empty = slicing.parts(all_of([]), slicing.parts(all_of(many(1)), ()))
    other = replace(backend("other", 9), ports=(BackendPort("sql", 6000),))
    for whom in (many(1), [other], [*many(1), other], many(150)):
        assert empty[0].name in [part.name for part in slicing.parts(all_of(whom), empty)]
    assert len({part.name for part in slicing.parts(all_of([*many(150), other]), empty)}) == 3


def test_two_families_are_two_slices() -> None:
    parts = slicing.parts(all_of(many(1), families=("IPv6", "IPv4")), ())
    assert [(part.family, part.endpoints[0]["addresses"]) for part in parts] == [
        ("IPv6", ["fd00::0"]),
        ("IPv4", ["10.0.0.0"]),
    ]


def test_pods_with_other_ports_are_in_slices_of_their_own() -> None:
    other = replace(backend("db-9", 9), ports=(BackendPort("sql", 6543),))
    parts = slicing.parts(all_of([*many(1), other]), ())
    assert sorted((names(part), part.ports[0]["port"]) for part in parts) == [(["db-0"], 5432), (["db-9"], 6543)]


def test_a_switch_is_one_write_and_standbys_are_in_no_slice() -> None:  # S0.4, S0.5
    every = many(3)
    first = published(service(), every, Election(generation=Generation(1), active=every[0].id))
    second = published(service(), every, Election(generation=Generation(2), active=every[1].id))
    before = slicing.parts(first, ())
    assert [names(part) for part in before] == [["db-0"]]
    (after,) = slicing.parts(second, before)
    assert after.name == before[0].name and names(after) == ["db-1"]
    assert slicing.manifest(second, after)["metadata"]["annotations"] == {slicing.GENERATION: "2"}


def test_a_pod_of_another_cluster_is_not_looked_for_in_this_one() -> None:  # S2.4
    (part,) = slicing.parts(all_of([backend("db-0", 7, cluster="east")]), ())
    assert "targetRef" not in part.endpoints[0] and "nodeName" not in part.endpoints[0]


def test_what_others_wrote_into_ours_is_made_right() -> None:
    told = all_of(many(1))
    (part,) = slicing.parts(told, ())
    wanted = slicing.manifest(told, part)
    assert not slicing.differs(wanted, wanted)
    changed = {**wanted, "endpoints": []}
    assert slicing.differs(wanted, changed)
    unowned = {**wanted, "metadata": {**wanted["metadata"], "ownerReferences": []}}
    assert slicing.differs(wanted, unowned)


def test_its_service_owns_it_and_is_not_held_up() -> None:
    """An API server that checks owners asks who writes `blockOwnerDeletion` for the right to update the Service's
    finalizers, which hotswitch has not (OwnerReferencesPermissionEnforcement)."""
    told = all_of(many(1))
    (part,) = slicing.parts(told, ())
    (owner,) = slicing.manifest(told, part)["metadata"]["ownerReferences"]
    assert owner["kind"] == "Service" and owner["controller"] is True
    assert "blockOwnerDeletion" not in owner


PODS = st.lists(st.integers(0, 400), unique=True, max_size=320)


@given(PODS, PODS)
def test_every_pod_is_in_exactly_one_slice_and_none_is_too_full(first: list[int], second: list[int]) -> None:
    def told(numbers: list[int]) -> Published:
        return all_of([backend(f"db-{number}", number) for number in numbers])

    before = slicing.parts(told(first), ())
    after = slicing.parts(told(second), before)
    found = [name for part in after for name in names(part)]
    assert sorted(found) == sorted(f"db-{number}" for number in second)
    assert all(len(part.endpoints) <= AT_MOST for part in after)
    assert len({part.name for part in after}) == len(after)
    places = {name: part.name for part in before for name in names(part)}
    stayed = {name: part.name for part in after for name in names(part) if name in places}
    assert stayed == {name: places[name] for name in stayed}
