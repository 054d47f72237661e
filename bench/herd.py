"""Many pods on a small machine: real namespaces, real capture rules, real cgroups, but one Envoy for all of them.

250 sidecars would take 250 Envoys; what the agent sees of one are its listeners. So one Envoy has 15001, 15006, 15021,
15090, its readiness and the app's port in every namespace (`network_namespace_filepath`), and one process answers on
every pod's workload socket. The pods are the replicas of one Deployment, so they share a SPIFFE id. A sleeping process
in each pod's cgroup stands for the container. Everything of hotswitch itself is real.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotswitch.capture.options import parse
from hotswitch.capture.render import commands
from hotswitch.kernel.command import run
from hotswitch.model import ENVOY_INBOUND, ENVOY_OUTBOUND, HEALTH, STATS
from hotswitch.sandbox.ask import ask
from hotswitch.sandbox.ca import TRUST_DOMAIN, spiffe_id
from hotswitch.sandbox.envoy import Config, address, find_envoy, http_manager
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.podspec import INIT_ARGS
from hotswitch.sandbox.process import Process, start
from hotswitch.sandbox.sandbox import Sandbox

APP_PORT = 8080
PORTS = (HEALTH, STATS, ENVOY_OUTBOUND, ENVOY_INBOUND, APP_PORT)
SPIFFE_ID = spiffe_id("default", "herd")
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of the herd."""

    place: Attachment
    number: int
    socket: Path
    cgroups: tuple[Path, ...]

    @property
    def name(self) -> str:
        return f"herd-{self.number}"

    def agent_config(self, policy: dict[str, Any]) -> dict[str, Any]:
        """This pod's entry in the agent's file, with the app's probe as a real pod would have it."""
        return {
            "name": self.name,
            "uid": f"uid-{self.number}",
            "workload": "deploy/herd",
            "netns": self.place.netns,
            "addresses": [self.place.ipv4],
            "cgroups": [str(cgroup) for cgroup in self.cgroups],
            "capture": {"args": list(INIT_ARGS)},
            "identity": {"socket": str(self.socket), "spiffe_id": SPIFFE_ID, "trust_domains": [TRUST_DOMAIN]},
            "app": {"ports": [APP_PORT], "probe": {"port": APP_PORT, "path": "/healthz"}},
            "policy": policy,
        }


class Herd:
    """`start` makes it; the sandbox removes it."""

    spiffe_id = SPIFFE_ID

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.members: list[Member] = []
        self.directory = box.estate.directory / "herd"
        self._processes: list[Process] = []

    async def start(self, count: int) -> None:
        """Raises TimeoutError, CommandFailed."""
        self.directory.mkdir()
        for number in range(count):
            self.members.append(await self.member(number))
        self._start_sds()
        self._start_envoy()
        last = self.members[-1]
        await _until_answered(last)
        await _until_exists(last.socket)

    async def member(self, number: int) -> Member:
        place = await self.box.network.attach(f"herd-{number}", ipv6=False)
        for command in commands(parse(INIT_ARGS), netns=place.netns):
            await asyncio.to_thread(run, command, check=True)
        cgroups = self.box.estate.make_cgroups(f"herd-{number}", "istio-proxy")
        self.launch(("sleep", "infinity"), "sleep.log", cgroups)
        return Member(place, number, self.directory / f"{number}.sock", cgroups)

    def launch(self, argv: Sequence[str], log: str, cgroups: tuple[Path, ...] = (), netns: str | None = None) -> None:
        made = start(self.box.estate, argv, log=self.directory / log, cgroups=cgroups, netns=netns)
        self._processes.append(made)

    def _start_sds(self) -> None:
        certificates = self.directory / "certs"
        self.box.ca.issue(self.spiffe_id).write(certificates, 0, 0)
        sockets = self.directory / "sockets.json"
        sockets.write_text(json.dumps([str(member.socket) for member in self.members]))
        self.launch((sys.executable, "-m", "bench.herd_sds", str(certificates), str(sockets)), "sds.log")

    def _start_envoy(self) -> None:
        config = self.directory / "envoy.json"
        listeners = [_listener(member, port) for member in self.members for port in PORTS]
        config.write_text(json.dumps({"static_resources": {"listeners": listeners}}))
        quiet = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        self.launch((str(find_envoy()), "-c", str(config), *quiet), "envoy.log")

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in self._processes))


def _listener(member: Member, port: int) -> Config:
    """Answers every request with 200 at once: as a well sidecar and a well app would."""
    well = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    where = address("0.0.0.0", port)
    where["socket_address"]["network_namespace_filepath"] = member.place.netns
    chains = [{"filters": [http_manager("herd", [well])]}]
    return {"name": f"{member.name}-{port}", "stat_prefix": "herd", "address": where, "filter_chains": chains}


async def _until_answered(member: Member) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                await ask("127.0.0.1", PORTS[-1], netns=member.place.netns)
                return
            except OSError:
                await asyncio.sleep(0.1)


async def _until_exists(path: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not path.exists():
            await asyncio.sleep(0.1)
