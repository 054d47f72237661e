"""Taking Istio's capture out of a namespace: Istio's own commands, with usual mistakes, and `capture clean` (S4.3b).

Istio's commands are played by the deletions that they execute, one iptables process each, errors ignored as there; the
start of pilot-agent itself is not counted. Residue is what is still there of Istio's, as `capture clean` with the
pod's settings finds it: rules and chains, and beside them policy rules, routes and ::6.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from bench.actors import HOTSWITCH
from bench.figures import Figure, Goal, Row, Sample, Table, find, number
from bench.pods import Ward
from bench.settings import PREFIX, READY_S, Settings
from bench.trials import Say
from hotswitch.capture import deletions, leftovers, older, routing
from hotswitch.capture.apply import apply
from hotswitch.capture.clean import clean, signs
from hotswitch.capture.iptables import restore_text
from hotswitch.capture.reading import read
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.capture.version import IstioVersion
from hotswitch.kernel.command import Command
from hotswitch.kernel.command import run as run_command
from hotswitch.sandbox.clients import Client
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.sandbox import Sandbox

NAMES = ("clean",)
OLD, SAME, OTHER, FLIPPED = "old", "same", "other", "flipped"
WHO = {
    OLD: "istio-clean-iptables of 1.24, told all it can be told",
    SAME: "--cleanup-only with the set-up's arguments",
    OTHER: "--cleanup-only with those of a usual pod",
    FLIPPED: "--cleanup-only that picks iptables-legacy",
    HOTSWITCH: "hotswitch capture clean",
}
V1_24, V1_26 = IstioVersion.of("1.24"), IstioVersion.of("1.26")
USUAL = CaptureSpec(inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15090, 15021, 15020))
BOTH = replace(USUAL, ipv6=True, dual_stack=True)
CASES = {
    "REDIRECT, IPv4": USUAL,
    "TPROXY, IPv4": replace(USUAL, mode=Interception.TPROXY),
    "REDIRECT, dual stack, DNS": replace(BOTH, redirect_dns=True, dns_servers_v4=("10.96.0.10",)),
    "TPROXY, dual stack, interfaces, invalid dropped": replace(
        BOTH, mode=Interception.TPROXY, exclude_interfaces=("eth1",), kube_virt_interfaces=("virt0",), drop_invalid=True
    ),
}
RESIDUE, ROUTING, TOOK, LOST_NEW, LOST_KEPT = (
    "rules and chains left", "policy rules, routes, addresses left", "duration", "lost, a connection each",
    "lost, 32 kept connections",
)  # fmt: skip
FAMILIES = {4: ("ip", "iptables"), 6: ("ip6", "ip6tables")}
DRAIN_S, PAUSE_S = 2.0, 1.0
_numbers = count()
Cleaner = Callable[[str, CaptureSpec], object]


def _by_deletions(netns: str, told: CaptureSpec, version: IstioVersion, kind: str = "nft") -> None:
    delete = deletions.by_arguments if version is V1_26 else deletions.fixed_list
    for family, (_, tool) in FAMILIES.items() if told.ipv6 or version is V1_24 else [(4, FAMILIES[4])]:
        for deletion in delete(told, family, version):
            for argv in deletion.argvs:
                run_command(Command((f"{tool}-{kind}", *argv), netns))
    if version is V1_26:  # it makes the routing once more, whatever it was told to do
        for command in commands(told, Backend.IPTABLES_NFT, netns):
            if command.stdin is None:
                run_command(command)


CLEANERS: Mapping[str, Cleaner] = {
    OLD: lambda netns, spec: _by_deletions(netns, spec, V1_24),
    SAME: lambda netns, spec: _by_deletions(netns, spec, V1_26),
    OTHER: lambda netns, spec: _by_deletions(netns, replace(USUAL, ipv6=spec.ipv6), V1_26),
    FLIPPED: lambda netns, spec: _by_deletions(netns, spec, V1_26, "legacy"),
    HOTSWITCH: lambda netns, _spec: clean(netns),
}


async def run(names: Collection[str], settings: Settings, say: Say) -> AsyncIterator[Row]:
    row = Row("clean", "Istio's capture taken out: what is left, how long it takes, what it costs")
    for case, spec in CASES.items():
        for who in CLEANERS:
            row.figures += await asyncio.to_thread(_left_by, who, case, spec, settings.rounds)
        say(f"{case}: cleaned by all")
    row.tables.append(_table(row.figures))
    async with Sandbox(prefix=PREFIX) as box:
        row.figures += await _under_load(box, settings, say)
    row.tables.append(_lost_table(row.figures))
    row.goals += _goals(row.figures)
    row.remarks.append(f"hotswitch waits {DRAIN_S:g} s for connections through the proxy, then it cuts the kept ones")
    yield row


# ---- residue ----


@contextmanager
def _namespace() -> Iterator[str]:
    name = f"{PREFIX}{os.getpid()}-clean-{next(_numbers)}"
    run_command(Command(("ip", "netns", "add", name)), check=True)
    try:
        run_command(Command(("ip", "link", "set", "lo", "up"), f"/run/netns/{name}"), check=True)
        yield f"/run/netns/{name}"
    finally:
        run_command(Command(("ip", "netns", "delete", name)))


def _left_by(who: str, case: str, spec: CaptureSpec, rounds: int) -> list[Figure]:
    found: dict[str, list[float]] = {RESIDUE: [], ROUTING: [], TOOK: []}
    for _ in range(rounds):
        with _namespace() as netns:
            _set_up(netns, spec, V1_24 if who == OLD else V1_26)
            began = time.perf_counter()
            CLEANERS[who](netns, spec)
            found[TOOK].append((time.perf_counter() - began) * 1000)
            for what, left in zip((RESIDUE, ROUTING), _residue(netns, spec), strict=True):
                found[what].append(left)
    units = {RESIDUE: "rules", ROUTING: "entries", TOOK: "ms"}
    return [Figure(what, case, who, units[what], Sample.of(values)) for what, values in found.items()]


def _set_up(netns: str, spec: CaptureSpec, version: IstioVersion) -> None:
    for command in commands(spec, Backend.IPTABLES_NFT, netns):
        if command.stdin is None:
            run_command(command, check=True)
    for family, (_, tool) in FAMILIES.items() if spec.ipv6 else [(4, FAMILIES[4])]:
        text = restore_text(older.rules(spec, family, deletions.shape_of(version)))
        run_command(Command((f"{tool}-nft-restore", "--noflush"), netns, text), check=True)


def _residue(netns: str, spec: CaptureSpec) -> tuple[int, int]:
    reading = read(netns)
    found = signs(reading, spec)
    judged = [leftovers.judge(saved, found) for saved in reading.saved.values()]
    inside = sum(leftovers.is_istio(line.at) for saved in reading.saved.values() for line in saved.lines)
    beside = routing.look(netns, [], spec)
    rules = inside + sum(len(each.chains) + len(each.lines) for each in judged)
    return rules, len(beside.rules) + len(beside.routes) + beside.magic_v6


def _table(figures: list[Figure]) -> Table:
    lines = []
    for case in CASES:
        for who, title in WHO.items():
            rules, beside, took = (find(figures, what, who, case) for what in (RESIDUE, ROUTING, TOOK))
            lines.append((case, title, f"**{rules}**", f"**{beside}**", str(took), str(took.n)))
    return Table(("set up", "cleaned by", RESIDUE, ROUTING, "ms", "n"), tuple(lines))


# ---- under load ----


@dataclass(frozen=True, slots=True)
class _Way:
    who: str
    title: str
    clean: Callable[[Ward], object]


WAYS = (
    _Way(SAME, WHO[SAME], lambda ward: _by_deletions(ward.netns, ward.capture, V1_26)),
    _Way(HOTSWITCH, WHO[HOTSWITCH], lambda ward: clean(ward.netns, drain_s=DRAIN_S)),
    _Way("at once", "hotswitch capture clean --drain 0s", lambda ward: clean(ward.netns)),
)
LOAD = "well proxy, 200/s each"


async def _under_load(box: Sandbox, settings: Settings, say: Say) -> list[Figure]:
    """A real proxy that is well, cleaned and captured again under load, each way on a pod of its own."""
    pods = [await box.pod(f"cleaned-{at}", families=("v4",)) for at in range(len(WAYS))]
    client = await box.client("plain")
    await asyncio.gather(*(pod.ready(READY_S) for pod in pods))
    figures = []
    for way, pod in zip(WAYS, pods, strict=True):
        lost: dict[str, list[float]] = {LOST_NEW: [], LOST_KEPT: []}
        for _ in range(settings.rounds):
            for what, failed in (await _one(way, pod, client, settings.load)).items():
                lost[what].append(failed)
        say(f"{way.title}: {lost}")
        figures += [Figure(what, LOAD, way.who, "requests", Sample.of(values)) for what, values in lost.items()]
    return figures


async def _one(way: _Way, pod: Pod, client: Client, load: float) -> dict[str, int]:
    more: dict[str, Any] = {"rate": 200 * load, "seconds": 2 * PAUSE_S + DRAIN_S, "timeout_s": 2.0}
    runs = {
        LOST_NEW: client.load((pod.ip, 8080), **more),
        LOST_KEPT: client.load((pod.ip, 8080), connections=32, **more),
    }
    await asyncio.gather(*(each.begun() for each in runs.values()))
    await asyncio.sleep(PAUSE_S)
    ward = Ward.of(pod)
    await asyncio.to_thread(way.clean, ward)
    found = {what: (await each.results()).summary().failed for what, each in runs.items()}
    await asyncio.to_thread(clean, ward.netns, ward.capture)  # what the others left
    await asyncio.to_thread(apply, ward.netns, ward.capture, Backend.IPTABLES_NFT)
    return found


def _lost_table(figures: list[Figure]) -> Table:
    lines = []
    for way in WAYS:
        new, kept = (find(figures, what, way.who, LOAD) for what in (LOST_NEW, LOST_KEPT))
        lines.append((way.title, f"**{new}**", f"**{kept}**", str(new.n)))
    return Table((f"cleaned by; {LOAD}", LOST_NEW, LOST_KEPT, "n"), tuple(lines))


def _goals(figures: list[Figure]) -> list[Goal]:
    ours = [figure for figure in figures if figure.who == HOTSWITCH]
    left = sum(figure.sample.total for figure in ours if figure.what in (RESIDUE, ROUTING))
    new = sum(figure.sample.total for figure in ours if figure.what == LOST_NEW)
    return [
        Goal("clean: nothing of Istio's left, untold", "0", f"{number(left)} in {len(CASES)} set-ups", left == 0),
        Goal("clean: no new connection lost under load", "0", number(new), new == 0),
    ]
