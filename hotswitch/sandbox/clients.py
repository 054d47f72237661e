"""Clients of a sandbox: a namespace each, plain or meshed, and the load that they send.

A plain client talks to pod addresses, or to a Service as through kube-proxy. A meshed one also has an Envoy with
auto-mTLS. Both are driven by the same load program, so that their figures compare.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotswitch.kernel.command import Command, run
from hotswitch.model import ADMIN, Port
from hotswitch.sandbox.ask import Answer, ask
from hotswitch.sandbox.ca import CertificateAuthority, spiffe_id
from hotswitch.sandbox.envoy import command_line, find_envoy
from hotswitch.sandbox.estate import Estate
from hotswitch.sandbox.loadconfig import LoadConfig
from hotswitch.sandbox.meshed import MeshedSpec
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.outcome import Results
from hotswitch.sandbox.process import HOME, Process, module_argv, start
from hotswitch.sandbox.registry import Service

CLIENT_UID = 1000
POLL_S = 0.005
Totals = dict[str, int]


class LoadRun:
    """A load program at work. `totals`, as last reported: requests "sent", and those ended by kind in lower case."""

    def __init__(self, process: Process, output: Path, log: Path) -> None:
        self._process, self._output, self._log = process, output, log
        self.pid = process.pid
        self.totals: Totals = {}
        self.history: list[tuple[float, Totals]] = []  # (time.monotonic() of the load program, totals)
        self._partial = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(process.output.fileno(), False)
        self._loop.add_reader(process.output, self._read)

    def _read(self) -> None:
        data = os.read(self._process.output.fileno(), 65536)
        if data == b"":
            self.close()
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            report = json.loads(line)
            at_s = report.pop("at_ns") / 1e9
            self.totals = report
            self.history.append((at_s, report))

    def close(self) -> None:
        """Stop listening to the program."""
        if not self._process.output.closed:
            self._loop.remove_reader(self._process.output)
            self._process.output.close()

    @property
    def sent(self) -> int:
        """Requests begun, as last reported."""
        return self.totals.get("sent", 0)

    async def begun(self) -> None:
        """Wait until the program has reported its first requests. Raises RuntimeError when it ended before."""
        while self.sent == 0:
            if self._process.returncode is not None:
                raise RuntimeError(f"load ended before its first request: {self._log.read_text().strip()}")
            await asyncio.sleep(POLL_S)

    def stop(self) -> None:
        """No further requests; those under way are still awaited."""
        self._process.signal(15)

    async def results(self) -> Results:
        """Wait for the end. Raises RuntimeError with the program's own words when it failed."""
        code = await self._process.exited()
        while not self._process.output.closed:  # the last report, up to the end
            self._read()
        if code != 0:
            raise RuntimeError(f"load ended with {code}: {self._log.read_text().strip()}")
        return await asyncio.to_thread(Results.read, self._output)


class Client:
    """A plain client."""

    def __init__(self, estate: Estate, place: Attachment, name: str) -> None:
        self.name, self.place, self.netns = name, place, place.netns
        self._estate = estate
        self.directory = estate.directory / "clients" / name
        self.directory.mkdir(parents=True)
        os.chown(self.directory, CLIENT_UID, CLIENT_UID)
        self._runs: list[LoadRun] = []
        self._processes: list[Process] = []

    async def ask(self, address: str, port: Port, path: str = "/", **more: Any) -> Answer:
        """One question on a fresh connection from this client's namespace (see ask.ask)."""
        return await ask(address, port, path, netns=self.netns, **more)

    def load(
        self, to: tuple[str, Port] | list[tuple[str, Port]] | Service, *, netns: str | None = None, **more: Any
    ) -> LoadRun:
        """Start the load program towards an address, several in turn, or a Service as kube-proxy would spread it.

        `more`: fields of LoadConfig (rate, seconds, timeout_s, connections, path). `netns`: from another place.
        """
        base = self.directory / f"load-{len(self._runs) + 1}"
        aim: dict[str, Any] = self._aim(to)
        config = LoadConfig(output=str(base.with_suffix(".rows")), **aim, **more)
        config.save(base.with_suffix(".json"))
        log = base.with_suffix(".log")
        argv = module_argv("load", str(base.with_suffix(".json")))
        process = start(self._estate, argv, log=log, netns=netns or self.netns, pipe=True)
        self._processes.append(process)
        self._runs.append(LoadRun(process, Path(config.output), log))
        return self._runs[-1]

    async def grpc(self, address: str, port: Port, count: int = 1, interval_s: float = 0.0) -> list[str]:
        """gRPC calls over one h2 connection: the answers ("<pod> <peer> call <n>"), or names of failed statuses."""
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        argv = module_argv("grpc_call", target, str(count), str(interval_s))
        outcome = await asyncio.to_thread(run, Command(("env", f"PYTHONPATH={HOME}", *argv), self.netns), check=True)
        answers: list[str] = json.loads(outcome.stdout)
        return answers

    def _aim(self, to: tuple[str, Port] | list[tuple[str, Port]] | Service) -> dict[str, Any]:
        if isinstance(to, Service):
            return {"endpoints": str(to.endpoints_file)}
        return {"targets": tuple(to) if isinstance(to, list) else (to,)}

    async def close(self) -> None:
        await asyncio.gather(*(process.stop() for process in self._processes))
        for each in self._runs:
            each.close()


class EnvoyClient(Client):
    """A client with an Envoy of its own, which has what `bootstrap` says."""

    def __init__(self, estate: Estate, place: Attachment, name: str) -> None:
        super().__init__(estate, place, name)
        self.bootstrap = self.directory / "envoy.json"
        self._envoy: Process | None = None

    async def restart(self) -> None:
        """A fresh Envoy, without any connection."""
        if self._envoy is not None:
            await self._envoy.stop()
        log = self.directory / "envoy.log"
        envoy = command_line(find_envoy(), self.bootstrap, log=log, family="v4")
        argv = ("setpriv", "--pdeathsig", "KILL", *envoy)
        self._envoy = start(self._estate, argv, log=log, netns=self.netns, cwd=self.directory)
        self._processes.append(self._envoy)
        await self._until(self._live, "the client's Envoy did not start")

    async def admin(self, path: str, method: str = "GET") -> Answer:
        return await ask("127.0.0.1", ADMIN, path, netns=self.netns, method=method)

    async def _live(self) -> bool:
        return (await self.admin("/ready")).status == 200

    async def _until(self, condition: Callable[[], Any], complaint: str, timeout_s: float = 60.0) -> None:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(OSError):
                if await condition():
                    return
            await asyncio.sleep(0.01)
        raise TimeoutError(complaint)


class MeshedClient(EnvoyClient):
    """Its Envoy speaks auto-mTLS; loads to a Service go through its listener on 127.0.0.1."""

    def __init__(self, estate: Estate, place: Attachment, name: str, ca: CertificateAuthority) -> None:
        super().__init__(estate, place, name)
        self._ca = ca
        self.spiffe_id = spiffe_id("default", name)
        self._spec = MeshedSpec(name, self.directory, self.directory / "certs")
        self._version = 0

    async def start(self, services: list[Service]) -> None:
        self._ca.issue(self.spiffe_id).write(self._spec.certificates, 0, 0)
        self.learn(services)
        await self.restart()

    def learn(self, services: list[Service]) -> None:
        """Tell the Envoy about all Services there are."""
        self._version += 1
        self._spec.write(services, self._version)

    async def until_known(self, service: Service) -> None:
        """Wait until the listener of `service` and its cluster are there."""

        async def known() -> bool:
            listeners = (await self.admin("/listeners")).body.decode()
            clusters = (await self.admin("/clusters")).body.decode()
            return f"{service.name}::127.0.0.1" in listeners and f"{service.name}::added_via_api" in clusters

        await self._until(known, f"the client's Envoy does not know service {service.name}")

    async def until_endpoints(self, service: Service, count: int) -> None:
        """Wait until the Envoy has `count` endpoints of `service`."""

        async def seen() -> bool:
            lines = (await self.admin("/clusters")).body.decode().splitlines()
            return sum(line.startswith(f"{service.name}::") and "::cx_active::" in line for line in lines) == count

        await self._until(seen, f"service {service.name} has not {count} endpoints")

    async def get(self, service: Service, path: str = "/", **more: Any) -> Answer:
        """One request through the Envoy."""
        return await self.ask("127.0.0.1", service.client_port, path, **more)

    def _aim(self, to: tuple[str, Port] | list[tuple[str, Port]] | Service) -> dict[str, Any]:
        return super()._aim(("127.0.0.1", to.client_port) if isinstance(to, Service) else to)
