"""Events on pods and policies: one for each matter, however often it comes and whatever the API server does (S4.6)."""

import asyncio
import contextlib
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from hotswitch.api.names import CONDITION
from hotswitch.cluster.client import connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import EVENTS, PODS, POLICIES
from hotswitch.model import Direction, Level, PodRef, PodUid
from hotswitch.report import conditions, events
from hotswitch.report.events import EventWriter, Regarding
from hotswitch.report.notice import Severity
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.cluster import apis
from tests.report.receiving import POD, notice, until


class Clock:
    def __init__(self):
        self.now = 1_764_230_400.0

    def __call__(self):
        return self.now


class FailingApi:
    """Answers with the failures that it was given, then as an API server without rules."""

    def __init__(self, *failures):
        self.failures, self.created, self.patched = list(failures), [], []

    async def create(self, kind, namespace, body):
        self._fail()
        self.created.append(body)
        return body

    async def patch_merge(self, kind, namespace, name, patch):
        self._fail()
        self.patched.append(patch)
        return patch

    def _fail(self):
        if self.failures and (failure := self.failures.pop(0)):
            raise failure


def failure(status, reason="x", **fields):
    return ApiFailure(status, reason, "said so", **fields)


@asynccontextmanager
async def writing(api, clock=None):
    counts = Counter()

    def count(result):
        counts[result] += 1

    writer = EventWriter(api, "hotswitch-0", count, clock or Clock())
    task = asyncio.create_task(writer.run())
    try:
        yield writer, counts
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.unit
def test_flapping_pod_is_one_event_that_counts() -> None:
    async def run():
        api, clock = FailingApi(), Clock()
        async with writing(api, clock) as (writer, _):
            for step in range(600):
                clock.now += 1
                writer.tell(notice(sentence=f"It died, {step}.", starts=clock.now))
                await asyncio.sleep(0)
                if step % 50 == 0:
                    await until(lambda: not [each for each in writer._due()])
            clock.now += 600
            writer._news.set()
            await until(lambda: api.patched and api.patched[-1]["count"] == 600)
            assert len(api.created) == 1 and len(api.patched) <= 12
            assert api.patched[-1]["message"] == "It died, 599."

    asyncio.run(run())


@pytest.mark.unit
def test_many_codes_of_one_pod_are_bounded_and_other_pods_are_not_touched() -> None:
    async def run():
        api, clock = FailingApi(), Clock()
        async with writing(api, clock) as (writer, counts):
            for number in range(500):
                writer.tell(notice(code=f"HSD{number}"))
            writer.tell(notice(pod=replace(POD, name="other", uid=PodUid("2"))))
            await until(lambda: counts["created"] == events.BURST + 1)
            assert counts["dropped"] == 500 - events.BURST
            clock.now += 2 * events.REFILL_S
            for number in range(600, 700):
                writer.tell(notice(code=f"HSD{number}"))
            await until(lambda: counts["created"] == events.BURST + 3)
            assert api.created[-1]["involvedObject"]["name"] == "web-0"

    asyncio.run(run())


@pytest.mark.unit
def test_memory_is_bounded_however_many_pods_come_and_go() -> None:
    writer = EventWriter(FailingApi(), "hotswitch-0")
    before = time.perf_counter()
    for number in range(3 * events.SERIES):
        writer.tell(notice(pod=PodRef(f"web-{number}", "shop", PodUid(str(number)))))
    assert time.perf_counter() - before < 3, "the caller does not wait"
    assert len(writer._series) <= events.SERIES and len(writer._buckets) <= events.SERIES


async def later(writer, clock, by_s, done):
    """In steps of so much, until it is done."""

    def stepped():
        clock.now += by_s
        writer._news.set()
        return done()

    await until(stepped)


@pytest.mark.unit
@pytest.mark.parametrize(
    "failures",
    [
        [failure(500)] * 9, [failure(0, "Timeout")], [failure(0, "Unreadable")], [failure(429, retry_after_s=3)] * 2,
        [failure(409, "Conflict")],
    ],
)  # fmt: skip
def test_api_server_is_away_for_a_moment(failures) -> None:
    async def run():
        clock, api = Clock(), FailingApi(*failures)
        async with writing(api, clock) as (writer, counts):
            writer.tell(notice())
            await later(writer, clock, 0.1, lambda: counts["created"] == 1)
            assert len(api.created) == 1 and not counts["failed"]

    asyncio.run(run())


@pytest.mark.unit
def test_api_server_is_away_for_long_and_one_event_holds_up_no_other() -> None:
    async def run():
        clock = Clock()
        async with writing(FailingApi(*[failure(500)] * 2), clock) as (writer, counts):
            for code in ("HSD001", "HSD002", "HSD003"):
                writer.tell(notice(code=code))
            await until(lambda: counts["created"] == 1)  # the two before it wait
            await later(writer, clock, 0.1, lambda: counts["created"] == 3)
        async with writing(FailingApi(*[failure(503)] * 999), clock) as (writer, counts):
            writer.tell(notice())
            await later(writer, clock, 1.0, lambda: counts["failed"] == 1)

    asyncio.run(run())


@pytest.mark.unit
def test_asked_to_come_again_later() -> None:
    async def run():
        clock, api = Clock(), FailingApi(failure(429, retry_after_s=30))
        async with writing(api, clock) as (writer, counts):
            writer.tell(notice())
            await until(lambda: not api.failures)
            began = clock.now
            await later(writer, clock, 1.0, lambda: counts["created"] == 1)
            assert clock.now - began >= 30

    asyncio.run(run())


@pytest.mark.unit
def test_the_process_ends_while_an_event_is_being_refused() -> None:
    class SlowApi(FailingApi):
        def __init__(self):
            super().__init__(failure(429, retry_after_s=60))
            self.asked, self.answers = asyncio.Event(), asyncio.Event()

        async def create(self, kind, namespace, body):
            self.asked.set()
            await self.answers.wait()
            return await super().create(kind, namespace, body)

    async def main():
        api = SlowApi()
        async with writing(api) as (writer, counts):
            writer.tell(notice("HSD001"))
            await api.asked.wait()
            last = asyncio.create_task(writer.try_all())
            await asyncio.sleep(0)
            api.answers.set()
            await last
            assert counts == {"created": 1} and [each["reason"] for each in api.created] == ["HSD001"]

    asyncio.run(main())


@pytest.mark.unit
@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_event_that_the_api_server_will_never_take_holds_up_no_other(status) -> None:
    async def run():
        async with writing(FailingApi(failure(status))) as (writer, counts):
            writer.tell(notice())
            writer.tell(notice(code="HSD002"))
            await until(lambda: counts == {"failed": 1, "created": 1})

    asyncio.run(run())


@pytest.mark.unit
def test_event_has_run_out_at_the_api_server() -> None:
    """It keeps them for an hour; the next one is a new one."""

    async def run():
        api, clock = FailingApi(None, failure(404)), Clock()
        async with writing(api, clock) as (writer, counts):
            writer.tell(notice())
            await until(lambda: counts["created"] == 1)
            clock.now += 60
            writer.tell(notice(starts=clock.now))
            clock.now += 60
            writer._news.set()
            await until(lambda: counts["created"] == 2)
            assert api.created[1]["count"] == 2

    asyncio.run(run())


@pytest.mark.unit
def test_telling_never_raises_and_needs_a_pod() -> None:
    writer = EventWriter(FailingApi(), "hotswitch-0")
    writer.tell(notice(pod=None))
    writer.say(Regarding(kind=PODS, namespace="shop", name="web-0"), "HSD001", None, warning=True)  # type: ignore[arg-type]
    assert not writer._series


API = pytest.mark.parametrize(
    "opened",
    [pytest.param(apis.embedded, marks=pytest.mark.k8s), pytest.param(apis.real, marks=pytest.mark.e2e)],
    ids=["embedded", "real"],
)


@API
def test_pod_gets_an_event_that_counts_up_and_a_policy_one_of_its_own(opened) -> None:
    async def run():
        async with opened() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await apis.make_pod(cluster, namespace, "web-0")
            pod = PodRef("web-0", namespace, PodUid(made["metadata"]["uid"]))
            policy = Regarding(kind=POLICIES, namespace=namespace, name="mesh", uid="7")
            clock = Clock()
            async with writing(cluster, clock) as (writer, counts):
                writer.tell(notice(pod=pod, severity=Severity.CRITICAL, sentence="wide \N{SNOWMAN}" * 999))
                await until(lambda: counts["created"] == 1)
                clock.now += 100
                writer.tell(notice(pod=pod, severity=Severity.CRITICAL, sentence="Newer.", starts=clock.now))
                clock.now += 100
                writer.say(policy, "HSW0001", "spec.mode: 'maybe' is not a mode.", warning=True)
                await until(lambda: counts == {"created": 2, "counted": 1})
            found = {each["reason"]: each for each in await cluster.list(EVENTS, namespace)}
            event = found["HSD001"]
            assert (event["count"], event["type"], event["message"]) == (2, "Warning", "Newer.")
            assert event["involvedObject"]["uid"] == pod.uid and event["source"] == {"component": "hotswitch"}
            assert event["firstTimestamp"] == "2025-11-27T08:00:00Z"
            assert event["lastTimestamp"] == "2025-11-27T08:01:40Z"
            assert found["HSW0001"]["involvedObject"]["kind"] == "HotSwitchPolicy"
            of_pod = await cluster.list(EVENTS, namespace, field_selector=f"involvedObject.uid={pod.uid}")
            assert [each["reason"] for each in of_pod] == ["HSD001"], "as kubectl describe asks"

    asyncio.run(run())


@pytest.mark.k8s
@pytest.mark.parametrize("how", ["cut", "garble"])
def test_event_whose_answer_was_lost_is_not_written_twice(how) -> None:
    async def run():
        async with EmbeddedApi() as api, connect(api.kubeconfig()) as cluster, apis.namespace(cluster) as name:
            pod = PodRef("web-0", name, PodUid("1"))
            lost = getattr(api.faults, how)(after=True, verb="create", resource="events", times=1)
            async with writing(cluster, time.time) as (writer, counts):
                writer.tell(notice(pod=pod))
                await until(lambda: counts["created"] == 1)
            assert lost.struck == 1
            assert [each["count"] for each in await cluster.list(EVENTS, name)] == [1]

    asyncio.run(run())


@API
def test_condition_is_written_beside_the_kubelets(opened) -> None:
    async def run():
        async with opened() as place:
            cluster, namespace = place.cluster, place.namespace
            await apis.make_pod(cluster, namespace, "web-0")
            ready = {"type": "Ready", "status": "True"}
            await cluster.patch_strategic(PODS, namespace, "web-0", conditions.fragment(ready), "status")
            first = conditions.condition(
                {Direction.INBOUND: Level.RESCUE}, code="HSD001", sentence="It died.", at_unix_s=1_764_230_400.0
            )
            await cluster.patch_strategic(PODS, namespace, "web-0", conditions.fragment(first), "status")
            pod = await cluster.get(PODS, namespace, "web-0")
            before = conditions.find(pod)
            assert before is not None and before["status"] == "False"
            second = conditions.condition({}, code="HSD010", sentence="Well.", at_unix_s=1_764_230_460.0, before=before)
            pod = await cluster.patch_strategic(PODS, namespace, "web-0", conditions.fragment(second), "status")
            shown = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
            assert (shown[CONDITION], shown["Ready"]) == ("True", "True")
            assert conditions.find(pod)["lastTransitionTime"] == "2025-11-27T08:01:00Z"  # type: ignore[index]

    asyncio.run(run())


@pytest.mark.unit
def test_who_goes_on_from_a_killed_one_says_the_same_again() -> None:  # I8
    """It cannot know what that one had said: of a matter's beginning, and of its end, there is one Event each."""

    class Keeps(FailingApi):
        async def create(self, kind, namespace, body):
            if body["metadata"]["name"] in {each["metadata"]["name"] for each in self.created}:
                raise failure(409, "AlreadyExists")
            return await super().create(kind, namespace, body)

    async def run():
        api, began = Keeps(), notice(starts=100.0)
        ended = replace(began, ends_unix_s=200.0)
        for _ in range(2):
            async with writing(api) as (writer, counts):
                writer.tell(began)
                writer.tell(ended)
                await until(lambda: counts["created"] == 2)
        assert len(api.created) == 2 and not counts["failed"]
        async with writing(api) as (writer, counts):
            writer.tell(replace(began, starts_unix_s=100.001))
            await until(lambda: counts["created"] == 1)
        assert len(api.created) == 3

    asyncio.run(run())


@pytest.mark.unit
def test_who_leads_again_says_again_what_it_said_itself() -> None:  # I8
    """It leads no longer for a moment, and begins anew with what it reads in pods: nothing has happened twice."""

    async def run():
        api, clock, first = FailingApi(), Clock(), notice(starts=100.0)
        second = replace(first, starts_unix_s=130.0)
        async with writing(api, clock) as (writer, counts):
            for each in (first, second, first, second):
                writer.tell(each)
            await until(lambda: counts["created"] == 1)
            writer.tell(replace(first, starts_unix_s=160.0))
            writer.tell(second)
            clock.now += events.FIRST_PATCH_S
            writer._news.set()
            await until(lambda: counts["counted"] == 1)
        assert [each["count"] for each in (*api.created, *api.patched)] == [2, 3]

    asyncio.run(run())
