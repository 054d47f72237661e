"""A pod: a network namespace with Istio's capture rules, an app, and a sidecar (pilot-agent stand-in and Envoy).

Containers are kept by the kubelet stand-in; each has cgroups of its own. The rules are those that hotswitch.capture
renders for what istio-init would have been told (S4.3a), applied before anything starts, as an init container does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotswitch.capture.render import commands
from hotswitch.kernel.command import run
from hotswitch.model import ADMIN, AGENT_STATUS, HEALTH, Port
from hotswitch.sandbox import podfiles
from hotswitch.sandbox.app import APP_UID, GRPC_PORT, HTTP_PORT, TCP_PORT, AppConfig
from hotswitch.sandbox.ask import Answer, ask, ask_unix
from hotswitch.sandbox.ca import CertificateAuthority, spiffe_id
from hotswitch.sandbox.estate import Estate, ProcessId
from hotswitch.sandbox.faults import Faults
from hotswitch.sandbox.kubelet import Check, Container, ContainerSpec, Kubelet, KubeletProbe, Restart
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.podspec import PodSpec
from hotswitch.sandbox.process import Process, module_argv, start
from hotswitch.sandbox.registry import TLS_MODE_LABEL
from hotswitch.sandbox.sidecar import PROXY_GID, SidecarSpec

APP, PROXY = "app", "istio-proxy"
READINESS_PATH, LIVENESS_PATH = "/app-health/app/readyz", "/app-health/app/livez"


class ControlRefused(RuntimeError):
    """App or pilot could not do what it was told; the message is its own."""


class Pod:
    """Made by Sandbox.pod. Addresses, uid and netns never change; containers come and go."""

    def __init__(
        self,
        estate: Estate,
        place: Attachment,
        name: str,
        spec: PodSpec,
        ca: CertificateAuthority,
        node_netns: str,
        uid: str = "",
    ) -> None:
        self.name, self.spec, self.place, self.netns = name, spec, place, place.netns
        self.uid = uid or str(uuid.uuid4())
        self.workload = spec.workload or f"deploy/{name.rpartition('-')[0] or name}"
        self.spiffe_id = spiffe_id(spec.namespace, spec.account or self.workload.rpartition("/")[2])
        self.labels = {TLS_MODE_LABEL: "istio"} if spec.sidecar else {}
        self.directory = estate.directory / "pods" / name
        self.kubelet = Kubelet(spec.timings)
        self.estate, self._ca, self._node_netns = estate, ca, node_netns
        self._proxy_dir, self._app_dir = self.directory / "proxy", self.directory / "app"
        tcp_ports = (TCP_PORT,) if spec.tcp else ()
        self.sidecar = SidecarSpec(
            name, spec.namespace, self._proxy_dir, self.sds_socket, spec.families, spec.mtls, tcp_ports, spec.tproxy
        )
        self.proxy_cgroups: tuple[Path, ...] = ()
        self.faults = Faults(self)

    # ---- what it is ----

    @property
    def namespace(self) -> str:
        return self.spec.namespace

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.place.addresses(self.spec.families)

    @property
    def ip(self) -> str:
        return self.addresses[0]

    @property
    def app_ports(self) -> tuple[Port, ...]:
        return (HTTP_PORT, *((TCP_PORT,) if self.spec.tcp else ()), *((GRPC_PORT,) if self.spec.grpc else ()))

    @property
    def probers(self) -> dict[str, dict[str, Any]]:
        """The app's probes that go to pilot-agent."""
        return dict.fromkeys((READINESS_PATH, LIVENESS_PATH), self.spec.prober)

    @property
    def workload_socket(self) -> Path:
        """The volume of that name: a directory with pilot-agent's socket and nothing else."""
        return self._proxy_dir / "uds"

    @property
    def sds_socket(self) -> Path:
        return self.workload_socket / "socket"

    @property
    def terminating(self) -> bool:
        return self.kubelet.terminating

    @property
    def is_ready(self) -> bool:
        return self.kubelet.ready and not self.terminating

    @property
    def proxy(self) -> Container:
        return self.kubelet.containers[PROXY]

    @property
    def app(self) -> Container:
        return self.kubelet.containers[APP]

    @property
    def envoy_pid(self) -> int | None:
        """The sidecar's Envoy, if it lives."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            return pid if ProcessId.of(pid).alive else None
        return None

    @property
    def envoy_is_well_or_starting(self) -> bool:
        """False from Envoy's death until the kubelet has started the next container."""
        running = self.proxy.process is not None and self.proxy.process.running
        return running and (self.envoy_pid is not None or not self._pid_file.exists())

    @property
    def _pid_file(self) -> Path:
        return self._proxy_dir / "envoy.pid"

    @property
    def proxy_directory(self) -> Path:
        """Envoy's working directory: its log, and its core if it dumps one."""
        return self._proxy_dir

    # ---- life ----

    async def start(self) -> None:
        for directory, uid, gid in (
            (self._proxy_dir, self.sidecar.uid, PROXY_GID),
            (self.workload_socket, self.sidecar.uid, PROXY_GID),
            (self._app_dir, APP_UID, APP_UID),
        ):
            directory.mkdir(parents=True)
            os.chown(directory, uid, gid)
        AppConfig(pod=self.name, control=str(self._app_dir / "control"), tcp=self.spec.tcp, grpc=self.spec.grpc).save(
            self._app_dir / "config.json"
        )
        if self.spec.sidecar:
            await asyncio.to_thread(self._capture)
            self.identify(self.spec.lifetime_s)
            self.sidecar.write()
            if not self.spec.configured:
                self.sidecar.withhold()
            podfiles.for_pilot(self).save(self._proxy_dir / "pilot.json")
            self.proxy_cgroups = self.make_cgroups(PROXY)
            self.kubelet.add(self._proxy_container())
        if self.spec.app:
            self.kubelet.add(self._app_container())

    def _capture(self) -> None:
        """istio-init."""
        for command in commands(self.spec.capture(), netns=self.netns):
            run(command, check=True)

    def _proxy_container(self) -> ContainerSpec:
        health = self._check(HEALTH, "/healthz/ready")
        return ContainerSpec(
            PROXY,
            self._start_pilot,
            startup=KubeletProbe(health, period_s=1.0),
            readiness=KubeletProbe(
                health, self.spec.readiness_period_s, self.spec.readiness_timeout_s, self.spec.readiness_failures
            ),
            message=self._termination_message,
            restart=Restart.ALWAYS if self.spec.native else self.spec.restart,
            sidecar=self.spec.native,
        )

    def _app_container(self) -> ContainerSpec:
        """Its probes are rewritten to 15020, as the injector does it; without a sidecar they go to the app."""
        port = AGENT_STATUS if self.spec.sidecar else HTTP_PORT
        ready, live = (READINESS_PATH, LIVENESS_PATH) if self.spec.sidecar else ("/healthz", "/healthz")
        readiness = KubeletProbe(self._check(port, ready), self.spec.app_period_s, 1.0, self.spec.app_failures)
        liveness = KubeletProbe(self._check(port, live), self.spec.app_period_s, 1.0, self.spec.app_failures)
        startup = KubeletProbe(self._check(port, ready), period_s=0.25, timeout_s=1.0)
        live_probe = liveness if self.spec.liveness else None
        return ContainerSpec(APP, self._start_app, startup, readiness, live_probe, restart=self.spec.restart)

    def _check(self, port: Port, path: str) -> Check:
        """The kubelet asks from the node, not from inside the pod."""

        async def check(timeout_s: float) -> bool:
            answer = await ask(self.ip, port, path, netns=self._node_netns, timeout_s=timeout_s)
            return 200 <= answer.status < 400

        return check

    def _start_pilot(self) -> Process:
        for left in (self._pid_file, self._proxy_dir / "termination-message"):
            left.unlink(missing_ok=True)
        argv = module_argv("pilot", str(self._proxy_dir / "pilot.json"))
        log = self.directory / "pilot.log"
        return start(self.estate, argv, log=log, netns=self.netns, cgroups=self.proxy_cgroups, cwd=self._proxy_dir)

    def _start_app(self) -> Process:
        argv = module_argv("app", str(self._app_dir / "config.json"))
        cgroups = self.make_cgroups(APP)
        return start(self.estate, argv, log=self.directory / "app.log", netns=self.netns, cgroups=cgroups)

    def make_cgroups(self, container: str) -> tuple[Path, ...]:
        """Where the kubelet and the runtime would have them, by the cgroupfs driver. One for all lives of a container:
        what squeezes it goes on."""
        ident = hashlib.sha256(f"{self.uid}/{container}".encode()).hexdigest()
        return self.estate.make_cgroups("kubepods", "burstable", f"pod{self.uid}", ident)

    def _termination_message(self) -> str:
        with contextlib.suppress(OSError):
            return (self._proxy_dir / "termination-message").read_text()
        return ""

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Wait until the pod is Ready. Raises TimeoutError."""
        await self.kubelet.until(lambda: self.kubelet.ready, timeout_s)

    async def stop(self) -> None:
        await self.kubelet.stop()

    def label(self, name: str, value: str) -> None:
        """Set a pod label. Like istiod, the registry hears of it only while the pod is Ready (facts/istio.md 7.2)."""
        self.labels[name] = value
        if self.is_ready:
            self.kubelet.announce()

    # ---- talking to it ----

    def identify(self, lifetime_s: float) -> None:
        """Put an identity with this lifetime where pilot-agent reads it (`rotate` makes it do so)."""
        self._ca.issue(self.spiffe_id, lifetime_s).write(self._proxy_dir / "certs", self.sidecar.uid, PROXY_GID)

    async def ask(self, address: str, port: Port, path: str = "/", **more: Any) -> Answer:
        """One question from inside the pod as the app's user, so captured on its way out (uid=... to be another)."""
        return await ask(address, port, path, **{"netns": self.netns, "uid": APP_UID, **more})

    async def admin(self, path: str, method: str = "GET") -> Answer:
        """Envoy's admin interface on 127.0.0.1:15000."""
        return await ask("127.0.0.1", ADMIN, path, netns=self.netns, method=method)

    async def tell_pilot(self, what: str) -> None:
        """A control of pilot.PilotAgent.control. Raises ControlRefused, OSError when it does not run."""
        await _tell(self._proxy_dir / "control", what)

    async def tell_app(self, what: str) -> None:
        """A control of app.App.control. Raises like tell_pilot."""
        await _tell(self._app_dir / "control", what)

    def agent_config(self, policy: Mapping[str, Any]) -> dict[str, Any]:
        """This pod's entry in the agent's file (config.agentfile.Pod)."""
        return podfiles.for_agent(self, policy)


async def _tell(control: Path, what: str) -> None:
    answer = await ask_unix(str(control), what)
    if answer.status != 200:
        raise ControlRefused(f"{what}: {answer.body.decode().strip()}")
