"""A real Alertmanager gets alerts, keeps them, and sees them end (S4.6)."""

import asyncio
import json
import time

import pytest

from hotswitch.report.alerts.payload import About
from hotswitch.report.alerts.receiver import Kind
from hotswitch.report.notice import Severity
from tests.report import monitoring
from tests.report.receiving import Server, dispatching, notice, receiver, until

pytestmark = pytest.mark.prometheus
ABOUT = About(cluster="blue", docs_url="https://docs.example.com/codes/{code}")


def with_alertmanager(directory, test):
    """`await test(url, hook)`: Alertmanager's URL, and the server that it tells."""

    async def run():
        async with Server() as hook:
            with monitoring.alertmanager(directory / "alertmanager", hook.url) as url:
                await monitoring.ready(url)
                await test(url, hook)

    asyncio.run(run())


def to(url, **fields):
    return receiver(url, kind=Kind.ALERTMANAGER, **fields)


async def told(hook, number):
    """What Alertmanager told its own receiver: (status, code, severity) of each."""
    got = await hook.requests(number)
    return [
        (alert["status"], alert["labels"]["alertname"], alert["labels"]["severity"])
        for request in got
        for alert in json.loads(request.body)["alerts"]
    ]


def test_fault_is_received_shown_and_resolved(tmp_path) -> None:
    async def test(url, hook):
        async with dispatching(to(url), about=ABOUT) as dispatcher:
            starts = time.time()
            dispatcher.tell(notice(starts=starts, labels={"team": "shop"}, evidence={"exit": "137"}))
            shown = await monitoring.eventually(lambda: monitoring.alerts(url), bool)
            alert = shown["HSD001"]
            assert alert["labels"]["pod"] == "web-0" and alert["labels"]["team"] == "shop"
            assert alert["annotations"]["summary"] == "The proxy died."
            assert alert["generatorURL"] == "https://docs.example.com/codes/HSD001"
            assert alert["status"]["state"] == "active"
            dispatcher.tell(notice(starts=starts, ends=time.time()))
            await monitoring.eventually(lambda: monitoring.alerts(url), lambda found: not found)
            assert await told(hook, 2) == [("firing", "HSD001", "warning"), ("resolved", "HSD001", "warning")]

    with_alertmanager(tmp_path, test)


def test_repeats_keep_it_firing_and_without_a_controller_it_ends(tmp_path) -> None:
    async def test(url, hook):
        async with dispatching(to(url, repeat_s=0.4)) as dispatcher:
            dispatcher.tell(notice(starts=time.time()))
            first = (await monitoring.eventually(lambda: monitoring.alerts(url), bool))["HSD001"]["endsAt"]
            later = await monitoring.eventually(
                lambda: monitoring.alerts(url), lambda found: found and found["HSD001"]["endsAt"] > first
            )
            assert later["HSD001"]["startsAt"] and dispatcher.counts.results["team", "sent"] >= 2
            assert len(hook.got) <= 1, "repeats are no news to people"
        await monitoring.eventually(lambda: monitoring.alerts(url), lambda found: not found)

    with_alertmanager(tmp_path, test)


def test_fault_grows_graver_and_leaves_one_alert(tmp_path) -> None:
    async def test(url, hook):
        async with dispatching(to(url)) as dispatcher:
            starts = time.time()
            dispatcher.tell(notice(starts=starts))
            await hook.requests(1)
            dispatcher.tell(notice(starts=starts, severity=Severity.CRITICAL))
            await until(lambda: dispatcher.counts.results["team", "sent"] == 2)
            found = await monitoring.get(f"{url}/api/v2/alerts", active="true")
            assert [each["labels"]["severity"] for each in found] == ["critical"]

    with_alertmanager(tmp_path, test)


def test_many_at_once_all_arrive(tmp_path) -> None:
    async def test(url, hook):
        async with dispatching(to(url)) as dispatcher:
            for number in range(150):
                dispatcher.tell(notice(f"k{number}", code=f"HSD{number:03}", starts=time.time()))
            await monitoring.eventually(lambda: monitoring.alerts(url), lambda found: len(found) == 150)
            for number in range(150):
                dispatcher.tell(notice(f"k{number}", code=f"HSD{number:03}", ends=time.time()))
            await monitoring.eventually(lambda: monitoring.alerts(url), lambda found: not found)
            assert dispatcher.counts.results["team", "sent"] == 300

    with_alertmanager(tmp_path, test)


def test_alertmanager_is_started_after_the_fault(tmp_path) -> None:
    async def run():
        async with Server() as hook:
            port = monitoring.free_port()
            async with dispatching(to(f"http://127.0.0.1:{port}")) as dispatcher:
                dispatcher.tell(notice(starts=time.time()))
                await until(lambda: dispatcher.counts.results["team", "failed"] >= 2)
                with monitoring.alertmanager(tmp_path / "alertmanager", hook.url, port) as url:
                    await monitoring.eventually(lambda: shown(url), bool)

    async def shown(url):
        try:
            return await monitoring.alerts(url)
        except OSError:
            return {}

    asyncio.run(run())


def test_words_of_a_workload_are_no_reason_to_be_refused(tmp_path) -> None:
    """Empty and odd labels, no sentence, an end before the beginning: Alertmanager takes all of it."""

    async def test(url, hook):
        async with dispatching(to(url)) as dispatcher:
            odd = {"a-b": "x", "empty": "", "__name__": "y", "ok": "\N{SNOWMAN}\x00\ud800"}
            evidence = {"15021 from afar": "refused", "not inbound: rescue": "x"}
            dispatcher.tell(notice("odd", labels=odd, sentence="", starts=time.time(), evidence=evidence))
            dispatcher.tell(notice("early", starts=time.time(), ends=1.0))
            await until(lambda: sum(dispatcher.counts.results.values()) >= 2)
            assert dispatcher.counts.results == {("team", "sent"): 2}

    with_alertmanager(tmp_path, test)
