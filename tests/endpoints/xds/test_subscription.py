"""The protocol, without a network: what a client wants, has, refuses, and is told next."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.incremental import IncrementalSubscription
from hotswitch.endpoints.xds.kinds import WILDCARD, Kind
from hotswitch.endpoints.xds.request import Request
from hotswitch.endpoints.xds.resource import Resource
from hotswitch.endpoints.xds.subscription import ANSWER_BYTES, MOST_NAMES, WINDOW, Subscription, TooMuch
from hotswitch.endpoints.xds.whole import WholeSubscription
from hotswitch.protowire import every, first, string

pytestmark = pytest.mark.unit
NAMES = ("a", "b", "c", "d")


class Shelf:
    """A source: name -> content."""

    def __init__(self, **content: str) -> None:
        self.content = dict(content)
        self.expected: set[str] = set()

    def resource(self, kind: Kind, name: str, caller: Caller) -> Resource | None:
        said = self.content.get(name)
        return None if said is None else Resource.of(kind, name, f"{name}={said}".encode())

    def names(self, kind: Kind, caller: Caller) -> Collection[str]:
        return list(self.content)

    def gone(self, kind: Kind, name: str) -> Resource | None:
        return Resource.of(kind, name, f"{name}=".encode()) if kind is Kind.ENDPOINTS else None

    def pending(self, kind: Kind, name: str) -> bool:
        return name in self.expected and name not in self.content


class Client:
    """Speaks both protocols; `has` is what it took."""

    def __init__(
        self, shelf: Shelf, kind: Kind, incremental: bool, refuses: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.incremental, self.kind, self.refuses = incremental, kind, refuses
        make: type[Subscription] = IncrementalSubscription if incremental else WholeSubscription
        self.subscription = make(kind, shelf, Caller())
        self.names: set[str] = set()
        self.has: dict[str, str] = {}
        self.waiting: list[bytes] = []
        self.nonce = ""
        self.messages = 0

    def want(self, *names: str, held: dict[str, str] | None = None) -> None:
        new = tuple(sorted(set(names) - self.names))
        dropped = tuple(sorted(self.names - set(names)))
        self.names = set(names)
        for name in dropped:
            self.has.pop(name, None)
        if self.incremental:
            self._say(Request(self.kind, names=new, dropped=dropped, held=held or {}))
        else:
            self._say(Request(self.kind, self.nonce, names=tuple(sorted(names))))

    def _say(self, request: Request) -> None:
        self.subscription.hear(request)

    def receive(self) -> int:
        """Take what is to be sent now; it is not answered yet."""
        count = 0
        while (data := self.subscription.answer()) is not None:
            self.waiting.append(data)
            count += 1
        self.messages += count
        return count

    def answer_first(self) -> None:
        data = self.waiting.pop(0)
        nonce, texts, removed = self._read(data)
        bad = [name for name, text in texts.items() if self.refuses(text)]
        if not bad:
            self._take(texts, removed)
        names = tuple(sorted(self.names)) if not self.incremental else ()
        self.nonce = nonce
        self._say(Request(self.kind, nonce, names=names, error=f"bad: {bad}" if bad else None))

    def _take(self, texts: dict[str, str], removed: Sequence[str]) -> None:
        if self.kind.is_whole and not self.incremental:
            self.has = {}
        everything = not self.names or WILDCARD in self.names
        self.has |= {name: text for name, text in texts.items() if name in self.names or everything}
        for name in removed:
            self.has.pop(name, None)

    def _read(self, data: bytes) -> tuple[str, dict[str, str], list[str]]:
        packed = [first(each, 2) if self.incremental else each for each in every(data, 2)]
        texts = dict(string(first(each, 2)).split("=", 1) for each in packed)
        return string(first(data, 5)), texts, [string(each) for each in every(data, 6)]

    def settle(self) -> None:
        while self.receive() or self.waiting:
            while self.waiting:
                self.answer_first()


@pytest.fixture(params=[False, True], ids=["whole", "incremental"])
def incremental(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def change(shelf: Shelf, client: Client, **content: str | None) -> None:
    for name, text in content.items():
        if text is None:
            shelf.content.pop(name, None)
        else:
            shelf.content[name] = text
    client.subscription.changed(content.keys())


def test_only_what_is_asked_for_is_told(incremental: bool) -> None:
    shelf = Shelf(a="1", b="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want("a")
    client.settle()
    assert client.has == {"a": "1"}
    change(shelf, client, b="2")
    assert client.receive() == 0


def test_name_that_comes_later_is_told_when_it_comes(incremental: bool) -> None:
    shelf = Shelf()
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want("a")
    client.settle()
    assert client.has == {}
    change(shelf, client, a="1")
    client.settle()
    assert client.has == {"a": "1"}


def test_incremental_client_hears_that_there_is_no_such_name() -> None:
    client = Client(Shelf(), Kind.ENDPOINTS, incremental=True)
    client.want("a")
    client.receive()
    assert client._read(client.waiting[0])[2] == ["a"]


def test_service_that_is_gone_has_no_endpoints(incremental: bool) -> None:
    shelf = Shelf(a="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want("a")
    client.settle()
    change(shelf, client, a=None)
    client.settle()
    assert client.has == {"a": ""}


def test_slow_reader_gets_only_the_newest_state(incremental: bool) -> None:
    shelf = Shelf(a="0")
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want("a")
    client.receive()
    for number in range(1, 1000):
        change(shelf, client, a=str(number))
        client.receive()
    assert len(client.waiting) == WINDOW
    client.settle()
    assert client.has == {"a": "999"} and client.messages <= WINDOW + 1


def test_refused_answer_is_not_sent_again(incremental: bool) -> None:
    shelf = Shelf(a="bad")
    client = Client(shelf, Kind.ENDPOINTS, incremental, refuses=lambda text: text == "bad")
    client.want("a")
    client.settle()
    assert client.messages == 1 and client.subscription.refused == {"a"}
    client.subscription.changed(["a"])
    client.settle()
    assert client.messages == 1
    change(shelf, client, a="good")
    client.settle()
    assert client.has == {"a": "good"} and client.subscription.refused == set()


def test_bad_resource_holds_up_no_other(incremental: bool) -> None:
    shelf = Shelf(a="1", b="bad", c="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental, refuses=lambda text: text == "bad")
    client.want("a", "b", "c")
    client.settle()
    assert client.has == {"a": "1", "c": "1"} and client.subscription.refused == {"b"}
    assert client.messages == 4  # all together, then each by itself, once


def test_refusal_keeps_the_last_good(incremental: bool) -> None:
    shelf = Shelf(a="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental, refuses=lambda text: text == "bad")
    client.want("a")
    client.settle()
    change(shelf, client, a="bad")
    client.settle()
    assert client.has == {"a": "1"}


def test_name_given_up_is_told_no_more(incremental: bool) -> None:
    shelf = Shelf(a="1", b="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want("a", "b")
    client.settle()
    client.want("b")
    client.settle()
    change(shelf, client, a="2")
    assert client.receive() == 0
    client.want("a", "b")
    client.settle()
    assert client.has == {"a": "2", "b": "1"}


def test_cluster_made_anew_gets_its_endpoints_again() -> None:
    """Envoy asks with the names and the nonce that it has said before; without an answer the cluster stays cold."""
    client = Client(Shelf(a="1"), Kind.ENDPOINTS, incremental=False)
    client.want("a")
    client.settle()
    client.want("a")
    assert client.receive() == 1


def test_incremental_name_asked_for_again_is_told_again() -> None:
    shelf = Shelf(a="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental=True)
    client.want("a")
    client.settle()
    client.subscription.hear(Request(Kind.ENDPOINTS, names=("a",)))
    assert client.receive() == 1


def test_client_that_comes_back_is_told_only_what_is_new() -> None:
    shelf = Shelf(a="1", b="1")
    first_stream = Client(shelf, Kind.ENDPOINTS, incremental=True)
    first_stream.want("a", "b")
    first_stream.settle()
    versions = {name: Resource.of(Kind.ENDPOINTS, name, f"{name}=1".encode()).version for name in "ab"}
    shelf.content["b"] = "2"
    back = Client(shelf, Kind.ENDPOINTS, incremental=True)
    back.want("a", "b", held=versions)
    assert back.receive() == 1
    assert back._read(back.waiting[0])[1] == {"b": "2"}


def test_client_that_comes_back_hears_what_is_gone() -> None:
    back = Client(Shelf(), Kind.ENDPOINTS, incremental=True)
    back.want("a", held={"a": "old"})
    back.settle()
    assert back.has == {"a": ""}


def test_nothing_is_said_of_what_is_not_known_yet(incremental: bool) -> None:
    """I1: a controller that begins to lead takes from no client what it has."""
    shelf = Shelf()
    shelf.expected = {"a", "b"}
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    version = Resource.of(Kind.ENDPOINTS, "a", b"a=1").version
    client.want("a", "b", held={"a": version})
    assert client.receive() == 0
    change(shelf, client, a="1", b="1")
    client.settle()
    assert client.has == ({"b": "1"} if incremental else {"a": "1", "b": "1"})  # it has the other one already


@pytest.mark.parametrize("names", [(), (WILDCARD,)])
def test_whoever_asks_for_all_clusters_gets_all_and_hears_of_new_ones(
    incremental: bool, names: tuple[str, ...]
) -> None:
    shelf = Shelf(a="1")
    client = Client(shelf, Kind.CLUSTER, incremental)
    client.want(*names)
    client.settle()
    assert client.has == {"a": "1"}
    change(shelf, client, b="1")
    client.settle()
    assert client.has == {"a": "1", "b": "1"}
    change(shelf, client, a=None)
    client.settle()
    assert client.has == {"b": "1"}


def test_client_is_answered_when_there_is_no_cluster_at_all(incremental: bool) -> None:
    client = Client(Shelf(), Kind.CLUSTER, incremental)
    client.want()
    assert client.receive() == 1


def test_asking_for_no_endpoints_is_not_asking_for_all(incremental: bool) -> None:
    client = Client(Shelf(a="1"), Kind.ENDPOINTS, incremental)
    client.want()
    assert client.receive() == 0


def test_much_is_told_in_several_answers(incremental: bool) -> None:
    shelf = Shelf(**{f"n{number}": "x" * (ANSWER_BYTES // 2) for number in range(7)})
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want(*shelf.content)
    client.settle()
    assert client.has.keys() == shelf.content.keys() and client.messages == 4


def test_client_that_asks_for_too_much_is_told_so(incremental: bool) -> None:
    client = Client(Shelf(), Kind.ENDPOINTS, incremental)
    with pytest.raises(TooMuch, match="names"):
        client.want(*(str(number) for number in range(MOST_NAMES + 1)))


def test_stale_answer_changes_no_names() -> None:
    shelf = Shelf(a="1", b="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental=False)
    client.want("a")
    client.receive()
    change(shelf, client, a="2")
    client.receive()
    client.subscription.hear(Request(Kind.ENDPOINTS, "1", names=()))  # said before the second answer came
    change(shelf, client, a="3")
    client.settle()
    assert client.has == {"a": "3"}


def test_given_up_and_wanted_again_while_an_answer_is_under_way() -> None:
    """The client takes what was under way, and must hear that it is gone since (found by the random walk below)."""
    shelf = Shelf()
    client = Client(shelf, Kind.ENDPOINTS, incremental=False)
    client.want("a", "b")
    change(shelf, client, b="1")
    client.receive()
    client.want("a")
    change(shelf, client, b=None)
    client.want("b")
    client.settle()
    assert not client.has.get("b")


def test_wanted_again_while_the_window_is_full_and_gone_before_it_is_not(incremental: bool) -> None:
    """By the time that something can be said again, the answers with it are answered (found by the random walk)."""
    shelf = Shelf(b="1", c="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental)
    client.want("b", "c")
    client.receive()
    for number in range(WINDOW - 1):
        change(shelf, client, b=str(number + 2))
        client.receive()
    client.want("b")
    change(shelf, client, c=None)
    client.want("b", "c")
    client.settle()
    assert not client.has.get("c")


def test_wanted_again_before_the_newest_answer_was_read_and_gone() -> None:
    shelf = Shelf(b="1", c="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental=False)
    client.want("b")
    client.receive()
    client.want("b", "c")
    client.receive()
    client.want("b")
    client.answer_first()
    client.want("b", "c")  # not heard: the second answer, with c, was sent before
    change(shelf, client, c=None)
    client.settle()
    assert not client.has.get("c")


def test_given_up_and_wanted_again_unheard_is_told_again() -> None:
    """Both words were said before the client knew of a newer answer; only the last one is heard."""
    shelf = Shelf(b="1", c="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental=False)
    client.want("b", "c")
    client.settle()
    change(shelf, client, b="2")
    client.receive()
    client.want("b")
    client.want("b", "c")
    client.settle()
    assert client.has == {"b": "2", "c": "1"}


def test_given_up_and_wanted_again_unheard_and_gone() -> None:
    """The client took what was under way, for by then it wanted it again (found by the random walk)."""
    shelf = Shelf(a="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental=False)
    client.want("a")
    client.settle()
    change(shelf, client, c="1")
    client.want("a", "c")
    client.receive()
    client.want("a")
    change(shelf, client, c=None)
    client.want("c")
    client.answer_first()
    client.settle()
    assert not client.has.get("c")


def test_what_is_given_up_before_its_refusal_is_read_is_not_refused(incremental: bool) -> None:
    client = Client(Shelf(a="bad"), Kind.ENDPOINTS, incremental, refuses=lambda text: text == "bad")
    client.want("a")
    client.receive()
    client.want("b")
    client.settle()
    assert client.subscription.refused == set()


def test_what_is_gone_before_its_refusal_is_read_is_not_refused(incremental: bool) -> None:
    shelf = Shelf(a="bad")
    client = Client(shelf, Kind.CLUSTER, incremental, refuses=lambda text: text == "bad")
    client.want()
    client.receive()
    change(shelf, client, a=None)
    client.settle()
    assert client.has == {} and client.subscription.refused == set()


def test_gone_beside_one_that_is_refused_is_told_all_the_same() -> None:
    shelf = Shelf(a="1", d="1")
    client = Client(shelf, Kind.ENDPOINTS, incremental=False, refuses=lambda text: text == "bad")
    client.want("a", "d")
    client.settle()
    change(shelf, client, a="bad", d=None)
    client.settle()
    assert client.has == {"a": "1", "d": ""}


def test_cluster_refused_beside_one_that_is_given_up_is_told_again() -> None:
    """An answer with all of them was refused for one; without it the others can be taken (found by the random walk)."""
    client = Client(Shelf(a="1", b="bad"), Kind.CLUSTER, incremental=False, refuses=lambda text: text == "bad")
    client.want("a", "b")
    client.settle()
    assert client.has == {} and client.subscription.refused == {"a", "b"}
    client.want("a")
    client.settle()
    assert client.has == {"a": "1"} and client.subscription.refused == set()


def test_what_was_refused_and_is_gone_is_refused_no_more(incremental: bool) -> None:
    shelf = Shelf(a="1", b="bad")
    client = Client(shelf, Kind.CLUSTER, incremental, refuses=lambda text: text == "bad")
    client.want()
    client.settle()
    assert "b" in client.subscription.refused
    change(shelf, client, b=None)
    client.settle()
    assert client.has == {"a": "1"} and client.subscription.refused == set()


class Agreement(RuleBasedStateMachine):
    """Whatever is changed, asked for, given up and answered in whatever order: at last the client has what there is."""

    incremental, kind = False, Kind.ENDPOINTS

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf()
        self.client = Client(self.shelf, self.kind, self.incremental, refuses=lambda text: text == "bad")
        self.client.want("a")

    @rule(name=st.sampled_from(NAMES), text=st.sampled_from(("1", "2", "bad", None)))
    def change(self, name: str, text: str | None) -> None:
        change(self.shelf, self.client, **{name: text})

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def want(self, names: set[str]) -> None:
        self.client.want(*names)

    @rule()
    def receive(self) -> None:
        self.client.receive()

    @rule()
    def answer(self) -> None:
        if self.client.waiting:
            self.client.answer_first()

    @invariant()
    def never_more_than_the_window(self) -> None:
        assert len(self.client.waiting) <= WINDOW

    def teardown(self) -> None:
        for name in NAMES:
            if self.shelf.content.get(name) == "bad":
                change(self.shelf, self.client, **{name: "good"})
        self.client.settle()
        there = {name: text for name, text in self.shelf.content.items() if name in self.client.names}
        said = {name: text for name, text in self.client.has.items() if text}
        assert said == there
        assert self.client.subscription.refused == set()


class IncrementalAgreement(Agreement):
    incremental = True


class ClusterAgreement(Agreement):
    kind = Kind.CLUSTER


class IncrementalClusterAgreement(Agreement):
    incremental, kind = True, Kind.CLUSTER


TestAgreement = Agreement.TestCase
TestIncrementalAgreement = IncrementalAgreement.TestCase
TestClusterAgreement = ClusterAgreement.TestCase
TestIncrementalClusterAgreement = IncrementalClusterAgreement.TestCase
SETTINGS = settings(max_examples=int(os.environ.get("HOTSWITCH_EXAMPLES", "40")), stateful_step_count=30, deadline=None)
TestAgreement.settings = TestIncrementalAgreement.settings = SETTINGS
TestClusterAgreement.settings = TestIncrementalClusterAgreement.settings = SETTINGS
