"""A stand-in for pilot-agent, a process of its own (uid 1337) inside the pod: starts Envoy and dies with it.

With TPROXY both run as uid 0 and gid 1337, and Envoy with no right but CAP_NET_ADMIN, as Istio has it.

What hotswitch has to live with is copied faithfully (facts/istio.md 5, 6): :15020 answers readiness from a cached
verdict, app probes from 127.0.0.6, and is gone when Envoy is gone; the workload socket likewise; the exit code is 0
whatever killed Envoy; if 15020 is taken it runs on without. How Envoy ended is left in the termination message.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import grpc.aio

from hotswitch.model import ADMIN, AGENT_STATUS, Port
from hotswitch.sandbox import volumes
from hotswitch.sandbox.app import HEALTH_METHOD, SERVING
from hotswitch.sandbox.ask import Answer, ask
from hotswitch.sandbox.envoy import command_line
from hotswitch.sandbox.httpd import Request, Response, listen, listen_unix
from hotswitch.sandbox.names import AGENT_DNS, MESH_ADDRESS, MESH_ONLY, NameServer
from hotswitch.sandbox.process import become, environment
from hotswitch.sandbox.sds import SecretServer, read_secrets

READY_STATS = "/stats?filter=^(cluster_manager.cds|listener_manager.lds).update_success$|^server.state$|workers_started"
COREDUMP_FILTER = "0x7f"  # core(5): file-backed pages too, so that dumping takes its time
LOOPBACK_SOURCES = ("127.", "::1:", "local")


@dataclass(frozen=True, slots=True)
class PilotConfig:
    """`probers`: path -> {"httpGet" or "tcpSocket" or "grpc": {"path", "port"}, "timeoutSeconds"}, as in
    ISTIO_KUBE_APP_PROBERS."""

    envoy: str
    bootstrap: str
    directory: str  # Envoy's working directory: cores and logs go here
    certificates: str
    sds_socket: str
    control: str
    termination_message: str
    pod_ip: str
    probers: dict[str, dict[str, Any]] = field(default_factory=dict)
    termination_drain_s: float = 5.0
    uid: int = 1337
    gid: int = 1337
    volumes: dict[str, str] = field(default_factory=dict)  # where in the container's file system -> what is there
    resolver: str = ""  # the name server behind ours on 15053; empty: no names are served

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> PilotConfig:
        return cls(**json.loads(path.read_text()))


class PilotAgent:
    def __init__(self, config: PilotConfig, envoy_fd: int) -> None:
        self._config, self._envoy_fd = config, envoy_fd
        self._secrets = SecretServer(lambda: read_secrets(Path(config.certificates)))
        self._seen_ready = False
        self._say_unready = False
        self._terminating = False
        self._held: list[object] = []  # servers live as long as we do

    async def run(self) -> None:
        """Serve until Envoy ends."""
        Path(self._config.sds_socket).unlink(missing_ok=True)
        self._held.append(await self._secrets.start(Path(self._config.sds_socket)))
        Path(self._config.sds_socket).chmod(0o666)  # as Istio does: the pod's containers have other users
        self._held.append(await listen_unix(self.control, self._config.control))
        try:
            self._held.append(await listen(self.handle, AGENT_STATUS))
        except OSError as taken:
            print(f"status port: {taken}", flush=True)
        if self._config.resolver:
            local = ("127.0.0.1", "::1") if Path("/proc/net/if_inet6").read_text() else ("127.0.0.1",)
            self._held.append(await NameServer.listen(_mesh, local, AGENT_DNS, upstream=self._config.resolver))
        self._envoy = self._start_envoy()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._begin_termination)
        gc.freeze()
        self._leave(await _exit_of(self._envoy))

    def _start_envoy(self) -> subprocess.Popen[bytes]:
        """By descriptor where uid 1337 may not walk to the program."""
        config = self._config
        program = config.envoy if os.access(config.envoy, os.X_OK) else f"/proc/self/fd/{self._envoy_fd}"
        log = Path(config.directory) / "envoy.log"
        argv = command_line(program, Path(config.bootstrap), log=log, family="v6" if ":" in config.pod_ip else "v4")
        rights = ("--bounding-set", "-all,+net_admin") if config.uid == 0 else ()
        child = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *rights, *argv),
            cwd=config.directory,
            env=environment(),
            pass_fds=(self._envoy_fd,),
        )
        (Path(config.directory) / "envoy.pid").write_text(str(child.pid))
        return child

    def _leave(self, code: int) -> None:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        Path(self._config.termination_message).write_text(f"envoy ended with {how}")
        os._exit(0)

    # ---- :15020 ----

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        local = request.peer.startswith(LOOPBACK_SOURCES)
        match request.path:
            case "/healthz/ready":
                return self._readiness()
            case "/quitquitquit" if local and request.method == b"POST":
                self._envoy.kill()
                return Response(b"ok\n")
            case "/drain" if local and request.method == b"POST":
                return self._drain()
            case path if path in self._config.probers:
                return self._probe(self._config.probers[path])
        return Response(b"", 404)

    async def _readiness(self) -> Response:
        """Once configured and live is remembered for good: a hang of Envoy does not show here."""
        if not self._seen_ready:
            self._seen_ready = await self._configured()
        ready = self._seen_ready and not self._terminating and not self._say_unready
        return Response(b"", 200 if ready else 503)

    async def _configured(self) -> bool:
        with contextlib.suppress(OSError):
            lines = (await self._admin(READY_STATS)).body.decode().splitlines()
            stats = {name: value for name, _, value in (line.partition(": ") for line in lines)}
            told = int(stats.get("listener_manager.lds.update_success", "0")) > 0
            return told and stats.get("server.state") == "0" and stats.get("listener_manager.workers_started") == "1"
        return False

    async def _probe(self, prober: dict[str, Any]) -> Response:
        """Ask the app itself, from Istio's magic source, which the rules let pass."""
        timeout_s = float(prober.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(timeout_s):
                if "grpc" in prober:
                    return Response(b"", 200 if await self._serves(prober["grpc"]["port"], timeout_s) else 500)
                return Response(b"", await self._app_says(prober))
        except OSError:  # TimeoutError is one
            return Response(b"", 500)

    async def _app_says(self, prober: dict[str, Any]) -> int:
        address, source = self._config.pod_ip, "::6" if ":" in self._config.pod_ip else "127.0.0.6"
        if "tcpSocket" in prober:
            _, writer = await asyncio.open_connection(address, prober["tcpSocket"]["port"], local_addr=(source, 0))
            writer.close()
            return 200
        wanted = prober["httpGet"]
        return (await ask(address, int(wanted["port"]), wanted.get("path", "/"), source=source)).status

    async def _serves(self, port: int, timeout_s: float) -> bool:
        """grpcio cannot be told a source address; uid 1337 to podIP goes through 15006, which lets h2c pass."""
        host = f"[{self._config.pod_ip}]" if ":" in self._config.pod_ip else self._config.pod_ip
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            try:
                return bool(await channel.unary_unary(HEALTH_METHOD)(b"", timeout=timeout_s) == SERVING)
            except grpc.aio.AioRpcError:
                return False

    async def _admin(self, path: str, method: str = "GET") -> Answer:
        return await ask("127.0.0.1", ADMIN, path, method=method)

    # ---- the end ----

    def _begin_termination(self) -> None:
        self._held.append(asyncio.ensure_future(self._terminate()))

    async def _terminate(self) -> None:
        self._terminating = True
        await self._drain()
        await asyncio.sleep(self._config.termination_drain_s)
        self._envoy.kill()

    async def _drain(self) -> Response:
        with contextlib.suppress(OSError):
            await self._admin("/drain_listeners?inboundonly&graceful", "POST")
        return Response(b"ok\n")

    # ---- controls of the sandbox, over the unix socket ----

    def control(self, request: Request) -> Response:
        """POST /unready, /ready, /rotate, /allow-cores."""
        match request.path:
            case "/unready":
                self._say_unready = True
            case "/ready":
                self._say_unready = False
            case "/rotate":
                self._secrets.rotate()
            case "/allow-cores":  # its own user may raise the limit; root without CAP_SYS_RESOURCE may not
                return self._allow_cores(self._envoy.pid)
            case _:
                return Response(b"unknown control\n", 400)
        return Response(b"ok\n")

    def _allow_cores(self, pid: int) -> Response:
        hard = resource.prlimit(pid, resource.RLIMIT_CORE)[1]
        resource.prlimit(pid, resource.RLIMIT_CORE, (hard, hard))
        Path(f"/proc/{pid}/coredump_filter").write_text(COREDUMP_FILTER)
        return Response(b"ok\n") if hard else Response(b"the hard limit of core files is 0\n", 400)


def _mesh(name: str, _port: Port) -> IPv4Address | None:
    return MESH_ADDRESS if name == MESH_ONLY else None


async def _exit_of(child: subprocess.Popen[bytes]) -> int:
    ended = asyncio.Event()
    pidfd = os.pidfd_open(child.pid)
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(pidfd)
    return child.wait()


async def _run(config: PilotConfig, envoy_fd: int) -> None:
    await PilotAgent(config, envoy_fd).run()


def main() -> None:
    config, parent = PilotConfig.load(Path(sys.argv[1])), os.getppid()
    envoy_fd = os.open(config.envoy, os.O_RDONLY)
    with contextlib.suppress(OSError, ValueError):  # so that `/allow-cores` can; the soft limit stays
        soft = resource.getrlimit(resource.RLIMIT_CORE)[0]
        resource.setrlimit(resource.RLIMIT_CORE, (soft, resource.RLIM_INFINITY))
    volumes.give(config.volumes)
    become(config.uid, config.gid, parent)
    asyncio.run(_run(config, envoy_fd))


if __name__ == "__main__":
    main()
