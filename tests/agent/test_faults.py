"""Every fault that S4 speaks of, made for real beside a running agent: its verdict, in words, and what was done.

What is not the proxy's own fault, or nobody's business (an operator's drain, a quota, a sick app, a pod that ends or
has not begun), is named and left alone (I2). The rest is answered at the level that answers it, and put back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hotswitch.kernel import process
from hotswitch.model import Mtls
from hotswitch.report.journal import Entry
from hotswitch.sandbox.clients import Client, MeshedClient
from hotswitch.sandbox.faults import CORE_PATTERN, Fault, FaultUnavailable
from hotswitch.sandbox.outcome import Kind
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import at_s
from hotswitch.sandbox.registry import Service
from hotswitch.sandbox.sandbox import Sandbox
from tests.agent.keeper import PATIENCE_S, POLL_S, Keeper, gate_text, until
from tests.agent.load import ending, flows
from tests.threads import KERNEL_TELLS

pytestmark = pytest.mark.envoy

STARVED_S = 5.0
LOOK_ON_S = 1.0  # that something is left alone can only be seen for a while
SURE = ("confirmed", "corroborated")
RESCUED = {"inbound": "rescue", "outbound": "rescue"}
CAPTURED = {"inbound": "capture", "outbound": "capture"}


@dataclass
class Stage:
    """One pod and its agent; `seen` counts the journal's entries when a test begins."""

    pod: Pod
    client: Client
    keeper: Keeper
    closed: str = ""
    seen: int = 0

    async def begin(self) -> None:
        await self.pod.ready()
        await self.keeper.until_rest(self.pod)
        self.closed, self.seen = gate_text(self.pod), len(self.keeper.entries(self.pod))

    def since(self, event: str = "", code: str = "") -> list[Entry]:
        fresh = self.keeper.entries(self.pod)[self.seen :]
        return [entry for entry in fresh if event in ("", entry.event) and code in ("", entry.code)]

    async def until(self, event: str, code: str = "") -> Entry:
        def first() -> Entry | None:
            return next(iter(self.since(event, code)), None)

        found: Entry = await until(first, lambda: f"no {event} {code}; {self.keeper.told(self.pod)}")
        return found

    async def verdict(self, fault: str, *grades: str, **more: Any) -> dict[str, Any]:
        def wanted(status: dict[str, Any]) -> bool:
            named = status["fault"] == fault and status["grade"] in (grades or SURE)
            return named and all(status[name] == value for name, value in more.items())

        return await self.keeper.until_status(self.pod, wanted, f"{fault} {more}")

    async def stays(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = LOOK_ON_S) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            status = await self.keeper.status(self.pod)
            assert wanted(status), (status, self.keeper.told(self.pod))
            await asyncio.sleep(POLL_S)

    async def is_left_alone(self) -> None:
        await self.stays(lambda status: set(status["levels"].values()) <= {"capture", "hold"})
        assert self.since("open") == []
        assert gate_text(self.pod) == self.closed

    async def served(self) -> str:
        """By whom a plain client is served."""
        answer = await self.client.ask(self.pod.ip, 8080, timeout_s=PATIENCE_S)
        assert answer.status == 200
        return answer.via or "rescue" if answer.json()["peer"].startswith("127.0.0.6:") else "direct"

    async def undo(self, fault: Fault) -> None:
        await fault.undo()
        await self.keeper.until_rest(self.pod)
        assert gate_text(self.pod) == self.closed

    async def restored(self, fault: Fault) -> None:
        """Undone, and put back because of that."""
        await self.undo(fault)
        assert self.since("close")[-1].code == "HSD010"
        proof = await self.until("verified")
        assert proof.evidence == {"istio_rules_unchanged": "True", "refusal": ""}
        assert await self.served() == "sidecar"


@pytest.fixture(scope="module")
def keeper(box: Sandbox, runner: asyncio.Runner) -> Keeper:
    async def build() -> Keeper:
        pods = [
            await box.pod("web-0"),
            await box.pod("vault-0", mtls=Mtls.STRICT),
            await box.pod("last-0", termination_drain_s=1.0),
        ]
        await asyncio.gather(*(pod.ready() for pod in pods))
        keeper = Keeper(box, pods)
        keeper.pod_config(pods[1])["policy"] |= {"mtls": "STRICT", "inbound": ["rescue", "hold"]}
        await keeper.guard()
        return keeper

    return runner.run(build())


@pytest.fixture(scope="module")
def client(box: Sandbox, runner: asyncio.Runner) -> Client:
    return runner.run(box.client("plain"))


@pytest.fixture
def stage(box: Sandbox, runner: asyncio.Runner, keeper: Keeper, client: Client) -> Iterator[Stage]:
    stage = Stage(box.pods["web-0"], client, keeper)
    runner.run(stage.begin())
    try:
        yield stage
    finally:
        runner.run(keeper.heal())


# ---- dead ----


def test_killed(stage: Stage, runner: asyncio.Runner) -> None:  # S4.2, S4.3, S4.4, S4.5
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.kill())
        opened = await stage.until("open")
        assert (opened.code, opened.evidence["fault"], opened.rules_before) == ("HSD001", "dead", "closed")
        assert opened.why.startswith("opened inbound to the rescue, outbound to the rescue, for 300 s: the proxy is d")
        assert opened.evidence["process"].startswith("envoy is being ended") or not KERNEL_TELLS
        assert (await stage.keeper.status(stage.pod))["levels"] == RESCUED
        assert await stage.served() == "rescue"
        await stage.restored(fault)
        assert len(stage.since("open")) == len(stage.since("close")) == 1, stage.keeper.told(stage.pod)

    runner.run(story())


def test_crash_loop_is_one_opening(stage: Stage, runner: asyncio.Runner) -> None:  # S4.4
    """A restart that does not last closes nothing: the kubelet's back-off is the clients' outage otherwise."""

    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.crash_loop())
        opened = await stage.until("open")
        await until(lambda: stage.pod.proxy.status.waiting == "CrashLoopBackOff", "the kubelet does not back off")
        status = await stage.verdict("dead")
        assert status["sentence"].startswith("the proxy is d")
        assert status["levels"] == RESCUED and status["expires_in_s"] > 0
        assert await stage.served() == "rescue"
        assert stage.since("open") == [opened] and stage.since("close") == []
        await stage.restored(fault)

    runner.run(story())


def test_killed_for_memory(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.exhaust_memory())
        assert (await stage.until("open")).evidence["fault"] == "dead"
        assert await stage.served() == "rescue"
        await stage.restored(fault)

    runner.run(story())


def test_core_is_dumped(stage: Stage, runner: asyncio.Runner) -> None:
    """Its sockets stay open meanwhile. Sure at once when it is seen; a short dump ends before that."""

    async def story() -> None:
        if CORE_PATTERN.read_text().startswith(("|", "/")):
            with pytest.raises(FaultUnavailable, match="core_pattern"):
                await stage.pod.faults.dump_core()
            return
        fault = await stage.keeper.cause(stage.pod.faults.dump_core())
        opened = await stage.until("open")
        assert opened.evidence["fault"] in ("core-dumping", "dead")
        assert await stage.served() == "rescue"
        await stage.restored(fault)

    runner.run(story())


FREEZER = Path("/sys/fs/cgroup/freezer")


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """No thread of it runs, not even to end; cgroup v2 would let a killed one go."""
    cgroup = FREEZER / f"hotswitch-test-{os.getpid()}"
    cgroup.mkdir()
    try:
        (cgroup / "cgroup.procs").write_text(str(pid))
        (cgroup / "freezer.state").write_text("FROZEN")
        yield
    finally:
        (cgroup / "freezer.state").write_text("THAWED")
        for each in (cgroup / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                (FREEZER / "cgroup.procs").write_text(each)
        while (cgroup / "cgroup.procs").read_text():
            time.sleep(POLL_S)
        cgroup.rmdir()


@pytest.mark.skipif(not (FREEZER / "cgroup.procs").exists(), reason="only cgroup v1 holds a killed process")
def test_killed_and_gets_no_cpu(box: Sandbox, stage: Stage, runner: asyncio.Runner) -> None:  # S4.2, S4.2a
    """Its sockets stand on, and nobody will ever answer there. Who waits in them is sent to the rescue."""

    async def story() -> None:
        service, meshed = await box.service("web", [stage.pod], publish="all"), await box.meshed("caller")
        where: dict[str, Any] = {"rate": 40, "connections": 8, "seconds": 120, "timeout_s": PATIENCE_S}
        plain, mesh = stage.client.load((stage.pod.ip, 8080), **where), meshed.load(service, **where)
        async with ending(plain, mesh):
            await flows(plain, 20)
            await flows(mesh, 20)
            victim = stage.pod.envoy_pid
            assert victim is not None
            with frozen(victim):
                fault = await stage.keeper.cause(stage.pod.faults.kill())
                opened, cut = await stage.until("open"), await stage.until("cut")
                assert opened.evidence["fault"] == "dead" and int(cut.evidence["flows"]) >= 8
                await flows(plain, 40)
                await flows(mesh, 40)
                assert await stage.served() == "rescue"
                assert process.read(victim).doomed and process.read(victim).name == "envoy"
        for run in (plain, mesh):
            rows = (await run.results()).rows
            assert Kind.TIMEOUT not in {row.kind for row in rows}
            assert {row.kind for row in rows if row.start_s >= at_s(cut)} == {Kind.DIRECT}
        await stage.restored(fault)

    runner.run(story())


# ---- alive, and not serving ----


def test_hangs_and_what_is_stuck_in_it_is_cut(stage: Stage, runner: asyncio.Runner) -> None:  # S4.2b, S4.4, S4.5
    """Kept connections, and requests that wait in the stopped proxy, are reset and come back through the rescue."""

    async def story() -> None:
        run = stage.client.load((stage.pod.ip, 8080), rate=40, connections=8, seconds=120, timeout_s=PATIENCE_S)
        async with ending(run):
            await flows(run, 20)
            fault = await stage.keeper.cause(stage.pod.faults.hang())
            status = await stage.verdict("hung")
            assert status["sentence"].startswith("the proxy hangs: ")
            opened, cut = await stage.until("open"), await stage.until("cut")
            assert opened.evidence["fault"] == "hung" and int(cut.evidence["flows"]) >= 8
            await flows(run, 40)
            assert await stage.served() == "rescue"
        rows = (await run.results()).rows
        kinds = {row.kind for row in rows}
        assert kinds - {Kind.BUSY} == {Kind.VIA_PROXY, Kind.RESET, Kind.DIRECT}, "cut, and none is left to time out"
        assert {row.kind for row in rows if row.start_s >= at_s(cut)} == {Kind.DIRECT}
        await stage.restored(fault)

    runner.run(story())


def test_one_worker_is_stuck(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.stick_worker())
        status = await stage.verdict("stuck-worker", levels=RESCUED)
        assert "one of the proxy's workers is stuck" in status["sentence"]
        assert (await stage.until("open")).evidence["fault"] == "stuck-worker"
        assert {await stage.served() for _ in range(10)} == {"rescue"}
        await stage.restored(fault)

    runner.run(story())


def test_unready_and_requests_pass_is_left_alone(stage: Stage, runner: asyncio.Runner) -> None:
    """S4.2b: 15021 passes pilot-agent's answer on, and that may be the sick one."""

    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.say_unready())
        status = await stage.verdict("unready", "suspected")
        assert status["sentence"] == "the proxy says it is not ready"
        told = await stage.until("hold", "HSD025")
        assert told.why == "nothing was done: the proxy says it is not ready"
        await stage.is_left_alone()
        assert await stage.served() == "sidecar"
        await stage.undo(fault)

    runner.run(story())


def test_unready_and_requests_fail(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.break_listener())
        unready = await stage.keeper.cause(stage.pod.faults.say_unready())
        status = await stage.verdict("unready", levels={"inbound": "rescue", "outbound": "hold"})
        assert status["sentence"] == "the proxy says it is not ready, and requests fail in it"
        assert await stage.served() == "rescue"
        await unready.undo()
        await stage.restored(fault)

    runner.run(story())


def test_bad_listener(stage: Stage, runner: asyncio.Runner) -> None:
    """Ready, and yet it does not find the app: only the inbound way was seen to fail."""

    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.break_listener())
        status = await stage.verdict("misrouting", levels={"inbound": "rescue", "outbound": "hold"})
        assert status["sentence"] == "requests fail in the proxy and work without it"
        opened = await stage.until("open")
        assert (opened.evidence["proxied"], opened.evidence["direct"]) == ("unready", "ok")
        assert await stage.served() == "rescue"
        await stage.restored(fault)

    runner.run(story())


def test_bad_listener_under_requests(stage: Stage, runner: asyncio.Runner) -> None:
    """Requests keep every worker at work, and all of them fail: that it works is no excuse for what it answers."""

    async def story() -> None:
        run = stage.client.load((stage.pod.ip, 8080), rate=100, connections=8, seconds=120, timeout_s=PATIENCE_S)
        async with ending(run):
            await flows(run, 50)
            fault = await stage.keeper.cause(stage.pod.faults.break_listener())
            await stage.verdict("misrouting", levels={"inbound": "rescue", "outbound": "hold"})
            await flows(run, 50)
        await stage.restored(fault)

    runner.run(story())


def test_restarted_without_configuration(stage: Stage, runner: asyncio.Runner) -> None:  # S4.2c
    """istiod is away: a proxy that never gets its listeners stays bypassed until it does."""

    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.restart_without_lds())
        status = await stage.verdict("unconfigured", levels=RESCUED)
        assert "without configuration" in status["sentence"]
        await stage.stays(lambda status: status["levels"] == RESCUED)
        assert await stage.served() == "rescue"
        await stage.restored(fault)
        assert len(stage.since("open")) == 1

    runner.run(story())


# ---- not the proxy's fault, or on purpose ----


@pytest.mark.parametrize("inbound_only", [True, False])
def test_drained_by_an_operator_is_left_alone(stage: Stage, runner: asyncio.Runner, inbound_only: bool) -> None:
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.drain(inbound_only=inbound_only))
        status = await stage.verdict("drained")
        assert "drained by an operator" in status["sentence"]
        await stage.until("hold", "HSD023")
        await stage.is_left_alone()
        await stage.undo(fault)  # with a fresh Envoy, so that a death is seen as well

    runner.run(story())


def test_quota_is_left_alone(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.throttle(cpus=0.05))
        run = stage.client.load((stage.pod.ip, 8080), rate=300, seconds=120, timeout_s=PATIENCE_S)
        async with ending(run):
            await stage.verdict("throttled", "suspected", *SURE)
            await stage.is_left_alone()
        told = await stage.until("hold", "HSD022")
        assert "because its CPU quota is used up" in told.why
        await fault.undo()
        rows = (await run.results()).rows
        assert Kind.DIRECT not in {row.kind for row in rows}
        await stage.undo(fault)

    runner.run(story())


def test_starved_is_left_alone_until_it_hangs(stage: Stage, runner: asyncio.Runner) -> None:
    """S4.2b: it gets 50 ms of each second, so its queues stand for most of one, and every counter of it stands too."""

    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.starve())
        run = stage.client.load((stage.pod.ip, 8080), rate=20, seconds=120, timeout_s=PATIENCE_S)
        async with ending(run):
            await stage.verdict("throttled", "suspected", *SURE)
            await stage.stays(lambda status: set(status["levels"].values()) <= {"capture", "hold"}, STARVED_S)
            held = await stage.until("hold", "HSD022")
            assert "it waits for a CPU" in held.why  # and a quota, if one was up just before
            assert stage.since("open") == []
            hang = await stage.keeper.cause(stage.pod.faults.hang())
            assert (await stage.until("open")).evidence["fault"] == "hung"
        await fault.undo()
        await stage.restored(hang)

    runner.run(story())


@pytest.mark.parametrize("kind", ["silent", "exit"])
def test_sick_app_is_left_alone(stage: Stage, runner: asyncio.Runner, kind: str) -> None:
    async def story() -> None:
        fault = await stage.keeper.cause(stage.pod.faults.sicken_app(kind))
        status = await stage.verdict("app-sick", "suspected", *SURE)
        assert "the app" in status["sentence"]
        told = await stage.until("hold", "HSD026")
        assert told.why.startswith("nothing was done: the app ")
        await stage.is_left_alone()
        await stage.undo(fault)

    runner.run(story())


def test_app_falls_sick_while_the_gate_is_open(stage: Stage, runner: asyncio.Runner) -> None:
    """A bypass helps nobody then: capture comes back although the proxy still hangs."""

    async def story() -> None:
        hang = await stage.keeper.cause(stage.pod.faults.hang())
        await stage.verdict("hung", levels=RESCUED)
        sick = await stage.keeper.cause(stage.pod.faults.sicken_app("silent"))
        closed = await stage.until("close")
        assert closed.code == "HSD011"
        assert gate_text(stage.pod) == stage.closed
        await sick.undo()
        await stage.verdict("hung", levels=RESCUED)
        await stage.restored(hang)

    runner.run(story())


# ---- STRICT, and the certificate ----


@pytest.fixture
def vault(box: Sandbox, runner: asyncio.Runner, keeper: Keeper, client: Client) -> Iterator[Stage]:
    vault = Stage(box.pods["vault-0"], client, keeper)
    runner.run(vault.begin())
    try:
        yield vault
    finally:
        runner.run(keeper.heal())


def test_certificate_expires_and_the_rescue_holds_a_valid_one(
    box: Sandbox, vault: Stage, runner: asyncio.Runner
) -> None:
    """S4.2c. Outbound as well: what the proxy presents there has expired, too."""

    async def story() -> None:
        service = await box.service("vault", [vault.pod], publish="all")
        fault = await vault.keeper.cause(vault.pod.faults.expire_certificate())
        status = await vault.verdict("certificate-expired", levels=RESCUED)
        assert status["sentence"] == "the certificate that the proxy presents has expired"
        newcomer = await box.meshed("newcomer")
        assert await _mesh(newcomer, service) == "200 "
        with pytest.raises(ConnectionError):
            await vault.client.ask(vault.pod.ip, 8080)
        await fault.undo()
        await vault.until("close", "HSD010")
        await newcomer.restart()
        assert await _mesh(newcomer, service) == "200 sidecar"

    runner.run(story())


async def _mesh(client: MeshedClient, service: Service) -> str:
    answer = await client.get(service, timeout_s=PATIENCE_S)
    return f"{answer.status} {answer.via}"


def test_certificate_has_expired_and_nobody_holds_another(box: Sandbox, vault: Stage, runner: asyncio.Runner) -> None:
    """An agent that comes too late cannot make one: it holds, and says why."""

    async def story() -> None:
        late = Keeper(box, [vault.pod], "late")
        late.pod_config(vault.pod)["policy"] |= {"mtls": "STRICT", "inbound": ["rescue", "hold"]}
        fault = await vault.keeper.cause(vault.pod.faults.expire_certificate())
        await late.begin()
        status = await late.until_status(vault.pod, lambda status: status["fault"] == "certificate-expired", "expired")
        held = await late.until_entry(vault.pod, "hold", code="HSD021")
        assert "expired" in status["sentence"] and "certificate" in held.why
        assert late.entries(vault.pod, "open") == []
        await late.end()
        await fault.undo()

    runner.run(story())


# ---- pods that are not ours to help ----


@contextlib.asynccontextmanager
async def _edited(keeper: Keeper, pod: Pod, **fields: Any) -> AsyncIterator[None]:
    """The agent's file with other fields for the pod, taken over by SIGHUP; the old one at the end."""
    old = dict(keeper.pod_config(pod))
    keeper.pod_config(pod).update(fields)
    await keeper.reload()
    try:
        yield
    finally:
        config = keeper.pod_config(pod)
        config.clear()
        config.update(old)
        await keeper.reload()


def test_pod_said_to_terminate_is_left_alone(stage: Stage, runner: asyncio.Runner) -> None:
    async def story() -> None:
        async with _edited(stage.keeper, stage.pod, terminating=True):
            fault = await stage.keeper.cause(stage.pod.faults.kill())
            await stage.until("hold", "HSD024")
            assert (await stage.keeper.status(stage.pod))["fault"] == "terminating"
            await stage.is_left_alone()
            await fault.undo()
        await stage.undo(fault)

    runner.run(story())


def test_terminating_pod_is_left_alone(box: Sandbox, keeper: Keeper, client: Client, runner: asyncio.Runner) -> None:
    """Nobody has told the agent: SIGTERM to both containers, the proxy drains for a while and ends."""

    async def story() -> None:
        last = Stage(box.pods["last-0"], client, keeper)
        await last.begin()
        await last.pod.kubelet.terminate(grace_s=20.0)
        assert last.pod.envoy_pid is None
        await last.is_left_alone()
        assert last.since("hold"), "and that is said"

    runner.run(story())


def test_pod_that_was_never_ready_is_left_alone(box: Sandbox, client: Client, runner: asyncio.Runner) -> None:
    async def story() -> None:
        pod = await box.pod("young-0")
        await until(lambda: pod.envoy_pid is not None, "no Envoy")
        await until(lambda: _says_unready(pod), "15021 does not say 503")
        keeper = Keeper(box, [pod], "young")
        await keeper.begin()
        young = Stage(pod, client, keeper, closed=gate_text(pod))
        await young.verdict("starting")
        fault = await pod.faults.crash_loop()  # the next pilot-agent would be ready
        await young.is_left_alone()
        assert (await keeper.status(pod))["fault"] == "starting"
        await fault.undo()
        await keeper.until_rest(pod)
        await keeper.end()

    async def _says_unready(pod: Pod) -> bool:
        with contextlib.suppress(OSError):
            await pod.tell_pilot("/unready")
            return (await client.ask(pod.ip, 15021, "/healthz/ready")).status == 503
        return False

    runner.run(story())
