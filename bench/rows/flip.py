"""One switch of the gate: by netlink in this process, in the running agent, by nft, and by the source's 17 commands.

Measured is the call until it returns, and beside it the kernel's own share (bench.floor), below which nobody gets. Both
once more as a running agent finds them: after a rest, with the processor's caches full of other things. Where iptables
deletes a rule the effect comes before the end of the command (it then waits for the kernel's grace period), so the
requests lost in the other rows are the fairer comparison.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection

from bench.actors import HOTSWITCH, SOURCE, Hotswitch
from bench.figures import Figure, Goal, Row, Sample, Table, number
from bench.floor import Floor, as_in_an_agent
from bench.orders import Orders
from bench.pods import Ward
from bench.settings import PREFIX, READY_S, Settings
from bench.source_way import clean, put_back
from bench.trials import Say
from hotswitch.capture.gate import Gate
from hotswitch.capture.gate_table import scope_of
from hotswitch.capture.gate_text import write_script
from hotswitch.kernel.command import Command
from hotswitch.kernel.command import run as run_command
from hotswitch.model import Act, Direction, Generation, Level, Opening
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.protector import VERIFIED
from hotswitch.sandbox.sandbox import Sandbox

NAMES = ("flip",)
OPENINGS = {Direction.INBOUND: Opening(Level.RESCUE), Direction.OUTBOUND: Opening(Level.DIRECT)}
MOST_US = 50.0
OPEN_SWITCH, CLOSE_SWITCH = "open", "close"
GATE, RESTED_GATE, AGENT, NFT = "Gate.write", "Gate.write, rested", "agent", "nft"
KERNEL, RESTED_KERNEL = "kernel", "kernel, rested"
WHO = {
    KERNEL: "the kernel alone, a message built beforehand: one after another",
    RESTED_KERNEL: "the same, after a rest and a decision, as in an agent",
    GATE: "hotswitch: Gate.write, one netlink message: one after another",
    RESTED_GATE: "the same, after a rest and a decision, as in an agent",
    AGENT: "hotswitch: the running agent, by its journal",
    NFT: "the same by `nft -f -`",
    SOURCE: "17 iptables commands; iptables-restore",
}


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("flip", "one switch, both directions; the call until it returns")
    async with Sandbox(prefix=PREFIX) as box:
        pod = await box.pod("flip-0", families=("v4",))
        await pod.ready(READY_S)
        found = {AGENT: await _in_agent(box, pod, settings)}
        say("the running agent is measured")
        for who, (switches, times) in _switches(pod, settings).items():
            before = as_in_an_agent if who in (RESTED_KERNEL, RESTED_GATE) else _at_once
            found[who] = await asyncio.to_thread(_measure, switches, times, before)
            say(f"{WHO[who]} is measured")
    for who, both in found.items():
        for what, sample in both.items():
            by = HOTSWITCH if who in (GATE, AGENT) else who
            row.figures.append(Figure(what, "one switch", by, "us", sample))
    row.tables.append(_table(found))
    opened = found[AGENT][OPEN_SWITCH]
    text = f"gate flip inside a running agent: p99 at most {MOST_US:g} us"
    row.goals.append(Goal(text, "2 us", f"{opened} us, n={opened.n}", opened.p99 <= MOST_US))
    yield row


Switches = dict[str, Callable[[], object]]


def _switches(pod: Pod, settings: Settings) -> dict[str, tuple[Switches, int]]:
    ward = Ward.of(pod)
    gate = Gate(pod.netns, scope_of(ward.capture))
    gate.install()
    number_ = Generation(1)
    floor = Floor(gate, OPENINGS)
    alone: Switches = {OPEN_SWITCH: floor.open, CLOSE_SWITCH: floor.shut}

    def write(openings: dict[Direction, Opening]) -> Callable[[], object]:
        return lambda: gate.write(openings, expiry_s=60, generation=number_, reason="bench")

    def nft(openings: dict[Direction, Opening]) -> Callable[[], object]:
        script = write_script(gate.scope, openings, expiry_s=60, generation=number_, reason="bench")
        return lambda: run_command(Command(("nft", "-f", "-"), pod.netns, script), check=True)

    ours: Switches = {OPEN_SWITCH: write(OPENINGS), CLOSE_SWITCH: write({})}
    return {
        KERNEL: (alone, settings.flips),
        RESTED_KERNEL: (alone, settings.orders),
        GATE: (ours, settings.flips),
        RESTED_GATE: (ours, settings.orders),
        NFT: ({OPEN_SWITCH: nft(OPENINGS), CLOSE_SWITCH: nft({})}, settings.slow_flips),
        SOURCE: ({OPEN_SWITCH: lambda: clean(ward), CLOSE_SWITCH: lambda: put_back(ward)}, settings.slow_flips),
    }


def _at_once() -> None: ...


def _measure(switches: Switches, times: int, before: Callable[[], None]) -> dict[str, Sample]:
    found: dict[str, list[float]] = {name: [] for name in switches}
    for _ in range(times):
        for name, switch in switches.items():
            before()
            began = time.perf_counter_ns()
            switch()
            found[name].append((time.perf_counter_ns() - began) / 1000)
    return {name: Sample.of(values) for name, values in found.items()}


async def _in_agent(box: Sandbox, pod: Pod, settings: Settings) -> dict[str, Sample]:
    """Orders to an agent that guards the pod and has nothing else to do: by its journal, the time that each write
    of the gate took, from the decision to the kernel's acknowledgement. After a restore it inspects the namespace; that
    is waited for, and then its caches are as cold as before a fault."""
    agent = Hotswitch(box, [pod])
    await agent.start()
    orders = Orders(agent)
    try:
        for _ in range(settings.orders):
            await orders.bypass(pod.name, Level.RESCUE, (Direction.INBOUND,))
            seen = _inspections(agent)
            await orders.restore(pod.name)
            await _until_inspected(agent, seen)
    finally:
        await agent.stop()
    return {
        what: Sample.of(entry.durations_ms["gate_ms"] * 1000 for entry in agent.journal.entries if entry.event == act)
        for what, act in ((OPEN_SWITCH, Act.OPEN), (CLOSE_SWITCH, Act.CLOSE))
    }


def _inspections(agent: Hotswitch) -> int:
    agent.journal.catch_up()
    return sum(entry.event == VERIFIED for entry in agent.journal.entries)


async def _until_inspected(agent: Hotswitch, seen: int) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(READY_S):
        while _inspections(agent) <= seen:
            await asyncio.sleep(0.01)


def _table(found: dict[str, dict[str, Sample]]) -> Table:
    lines = []
    for who in WHO:
        for what, sample in found[who].items():
            low, high = number(sample.low), number(sample.high)
            lines.append((WHO[who], what, number(sample.median), number(sample.p99), f"{low} to {high}", str(sample.n)))
    return Table(("by", "switch", "median us", "p99 us", "us", "n"), tuple(lines))
