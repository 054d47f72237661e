"""What a client may say, for ever, costs no more memory than it may: anybody inside the cluster may connect (I1)."""

from __future__ import annotations

import pytest

from hotswitch.backends import Locality, ServiceMode
from hotswitch.decide.endpoints import everyone
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds import told as module
from hotswitch.endpoints.xds.incremental import IncrementalSubscription
from hotswitch.endpoints.xds.kinds import Kind
from hotswitch.endpoints.xds.names import Target
from hotswitch.endpoints.xds.publisher import EdsPublisher
from hotswitch.endpoints.xds.request import LONGEST, Request, state_of_the_world
from hotswitch.endpoints.xds.subscription import LONGEST_NAME, MOST_NAMES, TooMuch
from hotswitch.endpoints.xds.told import Told
from hotswitch.protowire import message, text
from tests.endpoints.make import SERVICE, backend, service

pytestmark = pytest.mark.k8s


def metadata(name: str, value: str) -> bytes:
    """A field of a google.protobuf.Struct."""
    return message(1, text(1, name) + message(2, text(3, value)))


def test_of_what_a_client_says_of_itself_only_what_tells_who_asks_is_kept() -> None:
    said = metadata("pod", "shop/web-0") + metadata("junk", "x" * 100_000) + metadata("zone", "z" * 100_000)
    node = text(1, "i" * 100_000) + message(3, said)
    found = state_of_the_world(message(2, node) + text(4, Kind.ENDPOINTS)).node
    assert found is not None and len(found.id) == LONGEST
    assert found.metadata == {"pod": "shop/web-0", "zone": "z" * LONGEST}


def subscription() -> IncrementalSubscription:
    return IncrementalSubscription(Kind.ENDPOINTS, EdsPublisher(lambda kinds, names: None), Caller())


@pytest.mark.parametrize(
    "request_",
    [
        Request(Kind.ENDPOINTS, names=("x" * (LONGEST_NAME + 1),)),
        Request(Kind.ENDPOINTS, held={"x" * (LONGEST_NAME + 1): "1"}),
        Request(Kind.ENDPOINTS, held={str(number): "1" for number in range(MOST_NAMES + 1)}),
    ],
    ids=["long name", "long name held", "many held"],
)
def test_names_that_are_too_long_or_too_many_are_refused(request_: Request) -> None:
    with pytest.raises(TooMuch):
        subscription().hear(request_)


@pytest.mark.parametrize("limit", ["MOST_CLASSES", "MOST_BYTES"])
def test_callers_that_claim_ever_new_places(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:  # S2.5
    monkeypatch.setattr(module, limit, 10)
    one = Told()
    record = service(ServiceMode.ALL)
    one.publish(everyone.published(record, [backend("db-0"), backend("db-1", 2)]))
    for number in range(100):
        caller = Caller(locality=Locality(zone=f"zone-{number}"))
        assert one.body(Target(SERVICE, 5432), caller)
    assert len(one._bodies) <= 10
    assert limit != "MOST_CLASSES" or len(one._ladders) <= 10
