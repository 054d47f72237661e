"""The helper inside a pod, with no more rights than its container has: sees, acts on orders, leaves gates alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotswitch.api.names import HELPER_CAPABILITIES
from hotswitch.api.orders import LEASE_S
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.inpod import Answer, InPod, children
from tests.agent.keeper import gate_text, rules, until

pytestmark = pytest.mark.envoy

RESCUE = {"inbound": "rescue", "outbound": "rescue"}
DIRECT = {"inbound": "direct", "outbound": "direct"}


@dataclass(frozen=True)
class Place:
    box: Sandbox
    helper: InPod
    client: Client
    closed: str
    rules: str

    @property
    def pod(self) -> Pod:
        return self.helper.pod

    async def served(self) -> str:
        answer = await self.client.ask(self.pod.ip, 8080, timeout_s=30.0)
        assert answer.status == 200
        return answer.via or ("rescue" if answer.json()["peer"].startswith("127.0.0.6:") else "direct")

    async def at_rest(self) -> None:
        """Captured, and nothing of ours is left (I4)."""
        await self.pod.ready()
        assert (await self.helper.order())["outcome"] == "done"
        await self.helper.ready()
        assert gate_text(self.pod) == self.closed
        assert rules(self.pod).fingerprint == self.rules


@pytest.fixture(scope="module")
def town(box: Sandbox, runner: asyncio.Runner) -> Place:
    async def build() -> Place:
        pod = await box.pod("web-0")
        await pod.ready()
        helper = InPod(box, pod)
        await helper.begin()
        await helper.ready()
        return Place(box, helper, await box.client("plain"), gate_text(pod), rules(pod).fingerprint)

    return runner.run(build())


@pytest.fixture
def place(town: Place, runner: asyncio.Runner) -> Iterator[Place]:
    runner.run(town.at_rest())
    yield town


def levels(answer: Answer) -> set[str]:
    return set(answer["truth"]["levels"].values())


def test_sidecar_dies_and_an_order_brings_traffic_back(place: Place, runner: asyncio.Runner) -> None:  # S4.3, S4.5
    helper = place.helper

    async def story() -> None:
        fault = await helper.pod.faults.crash_loop()
        dead = await helper.until_truth(lambda truth: truth["diagnosis"]["fault"] == "dead", "dead")
        assert set(dead["levels"].values()) == {"capture"}, "a helper opens nothing by itself"
        answer = await helper.order(openings=RESCUE)
        assert (answer["outcome"], levels(answer)) == ("done", {"rescue"}), answer
        assert await place.served() == "rescue"
        await fault.undo()
        await helper.pod.ready()
        passing = await helper.until_truth(lambda truth: (truth.get("path_passes") or 0) >= 3, "passes end to end")
        assert set(passing["levels"].values()) == {"rescue"}, "a helper closes nothing by itself"
        answer = await helper.order()
        assert (answer["outcome"], levels(answer)) == ("done", {"capture"}), answer
        assert gate_text(helper.pod) == place.closed
        assert await place.served() == "sidecar"

    runner.run(story())


def test_sidecar_hangs_and_an_order_ends_the_flows_stuck_in_it(place: Place, runner: asyncio.Runner) -> None:
    helper = place.helper

    async def story() -> None:
        fault = await helper.pod.faults.hang()
        try:
            await helper.until_truth(lambda truth: truth["diagnosis"]["fault"] == "hung", "hung")
            before = len(helper.entries("cut"))
            answer = await helper.order(openings=DIRECT, cut=True)
            assert (answer["outcome"], levels(answer)) == ("done", {"direct"}), answer
            assert await place.served() == "direct"
            await until(lambda: len(helper.entries("cut")) > before, helper.told)
        finally:
            await fault.undo()

    runner.run(story())


def test_late_repeated_and_foreign_orders_change_nothing(place: Place, runner: asyncio.Runner) -> None:  # I6
    helper = place.helper

    async def story() -> None:
        opened = await helper.order(openings=RESCUE)
        newest = opened["truth"]["generation"]
        written = gate_text(helper.pod)
        again = await helper.order(newest, openings=RESCUE)
        assert (again["outcome"], levels(again), gate_text(helper.pod)) == ("done", {"rescue"}, written)
        for order in (
            {"generation": newest - 1},
            {"generation": newest, "openings": DIRECT},
            {"generation": newest + 1, "uid": "another-pod"},
            {"generation": newest + 1, "openings": DIRECT, "expiry_s": 0.0},
        ):
            answer = await helper.order(**order)
            assert answer["outcome"] == "refused", order
            assert answer["sentence"], order
            assert (levels(answer), gate_text(helper.pod)) == ({"rescue"}, written), order
        closed = await helper.order(newest + 1)
        assert levels(closed) == {"capture"}
        late = await helper.order(newest, openings=RESCUE)
        assert (late["outcome"], levels(late)) == ("refused", {"capture"}), "late, after the gate was closed"

    runner.run(story())


def test_orders_at_random_are_fenced_by_uid_and_generation(place: Place, runner: asyncio.Runner) -> None:  # I6
    """Whatever comes, in whatever order: the kernel shows the newest order that was carried out, and no other."""
    chance = random.Random(place.pod.uid)
    gates: list[dict[str, str]] = [
        {},
        RESCUE,
        DIRECT,
        {"inbound": "rescue"},
        {"inbound": "direct", "outbound": "rescue"},
    ]

    async def story() -> None:
        first = await place.helper.order()
        newest, gate = first["truth"]["generation"], dict[str, str]()
        for _ in range(40):
            generation, wanted = max(1, newest + chance.choice((-5, -1, 0, 0, 1, 1, 2))), chance.choice(gates)
            uid = chance.choice((place.pod.uid,) * 5 + ("another-pod",))
            answer = await place.helper.tell(generation, wanted, uid=uid)
            accepted = uid == place.pod.uid and generation > newest
            repeated = uid == place.pod.uid and generation == newest and wanted == gate
            assert answer["outcome"] == ("done" if accepted or repeated else "refused"), (generation, newest, answer)
            if accepted:
                newest, gate = generation, wanted
            shown = {way: level for way, level in answer["truth"]["levels"].items() if level != "capture"}
            assert (answer["truth"]["generation"], shown) == (newest, gate)

    runner.run(story())


GARBAGE = (
    b"", b"{", b"[]", b"null", b'{"verb": "order"}', b'{"verb": "order", "order": null}', b'{"verb": "orders"}',
    b'{"verb": "order", "order": {"uid": 5, "generation": "x"}}', b'{"verb": "truth", "extra": 1}', b"\xff\xfe",
    b'{"verb": "order", "order": {"uid": "u", "generation": 1, "openings": {"sideways": {"level": "direct"}}}}',
    b'{"verb": "order", "order": {"uid": "u", "generation": 1, "openings": {"inbound": {"level": "wide"}}}}',
    b'{"verb": "order", "order": {"uid": "u", "generation": 1e99}}', b"x" * (2 << 20),
)  # fmt: skip


def test_garbage_at_the_door_is_refused_and_changes_nothing(place: Place, runner: asyncio.Runner) -> None:
    async def said(words: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(place.helper.directory / "agent.sock")
        try:
            writer.write(words + b"\n")
            await writer.drain()
            return await asyncio.wait_for(reader.read(), 10.0)
        except ConnectionError:
            return b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def story() -> None:
        for words in GARBAGE:
            answer = await said(words)
            assert not answer or "error" in json.loads(answer), words[:80]
        assert gate_text(place.pod) == place.closed
        assert set((await place.helper.truth())["levels"].values()) == {"capture"}

    runner.run(story())


def test_memory_runs_out_and_the_app_is_not_the_first_to_go(place: Place) -> None:
    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    envoys = [pid for pid in children(place.helper.worker_pid) if "envoy" in Path(f"/proc/{pid}/comm").read_text()]
    assert [score(pid) for pid in (place.helper.worker_pid, *envoys)] == [1000, 1000]
    assert score(place.helper.keeper_pid) < 1000


def test_people_are_sent_to_the_controller(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        answer = await place.helper.exec("bypass", "web-0", "--for", "1m", "--reason", "a test")
        assert "a controller decides" in answer["error"]

    runner.run(story())


def test_helper_dies_with_an_open_gate_and_its_successor_goes_on(place: Place, runner: asyncio.Runner) -> None:  # I6
    helper = place.helper

    async def story() -> None:
        opened = await helper.order(openings=RESCUE)
        worker = helper.worker_pid
        os.kill(worker, signal.SIGKILL)
        await until(lambda: helper.worker_pid not in (0, worker), helper.told)
        assert await place.served() == "rescue", "the rescue outlives the helper"
        truth = await helper.until_truth(lambda truth: True, "answers again")
        assert set(truth["levels"].values()) == {"rescue"}
        assert truth["generation"] == opened["truth"]["generation"]
        await asyncio.sleep(LEASE_S)  # what stands is renewed, by whoever lives
        assert await place.served() == "rescue"
        late = await helper.order(truth["generation"] - 1)
        assert late["outcome"] == "refused", "the fence is remembered"

    runner.run(story())


def test_order_ends_and_nobody_renews_it(place: Place, runner: asyncio.Runner) -> None:  # I1
    helper = place.helper

    async def story() -> None:
        await helper.order(openings=RESCUE, expiry_s=2.0)
        assert await place.served() == "rescue"
        await until(lambda: gate_text(helper.pod) == place.closed, "closed at its expiry", LEASE_S)

    runner.run(story())


def test_policy_changes_and_the_rescue_keeps_the_new_one(place: Place, runner: asyncio.Runner) -> None:  # I2
    helper = place.helper

    async def story() -> None:
        await helper.order(openings=RESCUE, mtls="STRICT")
        with pytest.raises(OSError):  # plaintext is taken no longer
            await place.client.ask(helper.pod.ip, 8080, timeout_s=5.0)
        await helper.order(openings=RESCUE, mtls="PERMISSIVE")
        assert await place.served() == "rescue"
        layer7 = [{"spec": {"rules": [{"to": [{"operation": {"paths": ["/x"]}}]}]}}]
        refused = await helper.order(openings=RESCUE, mtls="PERMISSIVE", authorization=layer7)
        assert refused["outcome"] == "refused"
        back = await helper.order(openings=RESCUE, mtls="PERMISSIVE")
        assert (back["outcome"], await place.served()) == ("done", "rescue")

    runner.run(story())


@dataclass(frozen=True)
class Single:
    """A pod and a helper for one test, which does not leave them as they were."""

    helper: InPod
    client: Client


async def single(place: Place, name: str, **changes: object) -> Single:
    pod = await place.box.pod(name)
    await pod.ready()
    helper = InPod(place.box, pod)
    helper.pod_settings |= changes
    await helper.begin()
    return Single(helper, place.client)


def test_no_identity_no_rescue(place: Place, runner: asyncio.Runner) -> None:  # I2
    async def story() -> None:
        one = await single(place, "anon-0", identity={"socket": "/run/no-such/socket", "trust_domains": ["x"]})
        answer = await one.helper.order(openings=RESCUE)
        assert (answer["outcome"], levels(answer)) == ("refused", {"capture"})
        assert "no-such" in answer["truth"]["rescue_refusal"]
        answer = await one.helper.order(openings=DIRECT)
        assert (answer["outcome"], levels(answer)) == ("done", {"direct"})
        await one.helper.end(signal.SIGKILL)
        assert (await one.client.ask(one.helper.pod.ip, 8080)).status == 200, "`direct` needs nobody"

    runner.run(story())


def test_container_is_killed_and_the_kernel_closes_the_gate(place: Place, runner: asyncio.Runner) -> None:  # I1
    async def story() -> None:
        one = await single(place, "gone-0")
        await one.helper.ready()
        closed = gate_text(one.helper.pod)
        await one.helper.order(openings=RESCUE, expiry_s=600.0)
        assert gate_text(one.helper.pod) != closed
        await one.helper.end(signal.SIGKILL)
        await until(lambda: gate_text(one.helper.pod) == closed, "closed long before the order's end", LEASE_S + 2)
        assert (await one.client.ask(one.helper.pod.ip, 8080)).via == "sidecar"

    runner.run(story())


def test_pod_is_deleted_while_the_rescue_serves_it(place: Place, runner: asyncio.Runner) -> None:
    async def story() -> None:
        one = await single(place, "leave-0")
        await one.helper.ready()
        await one.helper.order(openings=RESCUE, expiry_s=600.0)
        opened = gate_text(one.helper.pod)
        leaving = asyncio.create_task(one.helper.end(signal.SIGTERM))
        for _ in range(5):
            assert (await one.client.ask(one.helper.pod.ip, 8080)).status == 200
        assert not leaving.done(), "the app drains through the rescue"
        await one.helper.pod.stop()
        assert await asyncio.wait_for(leaving, 20.0) == 0
        assert gate_text(one.helper.pod) == opened, "left as it is, until its expiry"

    runner.run(story())


CAPTURES: dict[str, dict[str, str]] = {
    "tproxy-0": {"interception": "TPROXY"},
    "native-0": {"backend": "nftables"},
    "legacy-9": {"backend": "iptables-legacy"},
    "names-0": {"dns": "servers"},
}


def test_however_istio_captures(place: Place, runner: asyncio.Runner) -> None:  # S4.3
    async def rescued(name: str) -> None:
        pod = await place.box.pod(name, **CAPTURES[name])
        await pod.ready()
        helper, before = InPod(place.box, pod), rules(pod).fingerprint
        await helper.begin()
        await helper.ready()
        await pod.faults.kill()
        opened = await helper.order(openings=RESCUE)
        assert (opened["outcome"], levels(opened)) == ("done", {"rescue"}), (name, opened)
        answer = await place.client.ask(pod.ip, 8080, timeout_s=30.0)
        assert answer.json()["peer"].startswith("127.0.0.6:"), name
        closed = await helper.order()
        assert (closed["outcome"], closed["truth"].get("istio_complete", True)) == ("done", True), (name, closed)
        assert rules(pod).fingerprint == before, name
        await helper.end(signal.SIGKILL)

    async def story() -> None:
        await asyncio.gather(*map(rescued, CAPTURES))

    runner.run(story())


MISSING = {"NET_ADMIN": "", "SETUID": "rescue", "SETGID": "rescue", "CHOWN": "rescue"}


def test_each_capability_is_needed(place: Place, runner: asyncio.Runner) -> None:
    """docs/reference/helper.md says what fails without it; NET_RAW counts where rules are by iptables-legacy."""

    async def without(capability: str) -> str:
        pod = await place.box.pod(f"no-{capability.lower().replace('_', '')}-0")
        await pod.ready()
        helper = InPod(place.box, pod, [each for each in HELPER_CAPABILITIES if each != capability])
        await helper.launch()
        last = await helper.until_answered()
        await helper.end(signal.SIGKILL)
        return "" if "error" in last else "rescue" if last.get("rescue_refusal") else "nothing"

    async def story() -> None:
        found = await asyncio.gather(*(without(each) for each in MISSING))
        assert dict(zip(MISSING, found, strict=True)) == MISSING

    runner.run(story())


@pytest.mark.parametrize("raw", [True, False])
def test_rules_by_iptables_legacy_need_net_raw(place: Place, runner: asyncio.Runner, raw: bool) -> None:
    async def story() -> None:
        pod = await place.box.pod(f"legacy-{int(raw)}", backend="iptables-legacy")
        await pod.ready()
        helper = InPod(place.box, pod, [each for each in HELPER_CAPABILITIES if raw or each != "NET_RAW"])
        await helper.launch()
        last = await helper.until_answered()
        assert ("levels" in last and not last.get("refusal")) is raw, last
        await helper.end(signal.SIGKILL)

    runner.run(story())


def test_reference_lists_the_capabilities() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "helper.md").read_text()
    assert tuple(re.findall(r"^\| `([A-Z_]+)` \|", text, re.M)) == HELPER_CAPABILITIES
