"""The agent of a sandbox node, started as the shipped DaemonSet says: rights, volumes, environment, no pid of the node.

Namespaces of mounts and pids are its own and its root is read-only; the network is the node's, from where the API can
be reached. Nobody makes pods of DaemonSets here, so it has no object in the API but what its token is bound to.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hotswitch.report.journal import Entry
from hotswitch.sandbox.cluster import images, rights
from hotswitch.sandbox.cluster.launch import PROGRAMS
from hotswitch.sandbox.kubeapi import tokens
from hotswitch.sandbox.kubeapi.identity import service_account
from hotswitch.sandbox.manifests import MANIFESTS, render
from hotswitch.sandbox.process import HOME, Process, start
from hotswitch.sandbox.protector import JournalTail, asked

if TYPE_CHECKING:
    from hotswitch.sandbox.cluster.cluster import SandboxCluster

OVERLAY = MANIFESTS / "overlays" / "agent-node"
POLL_S = 0.05
PATIENCE_S = 60.0
KUBECONFIG = "/run/cluster/kubeconfig"
Object = Mapping[str, Any]


class AgentFailed(RuntimeError):
    """It ended, or did not come to what was awaited; the message ends with its own words."""


class NodeAgent:
    """Obeys nobody, and leaves at once, unless `variables` say otherwise. `directory`: its /run/hotswitch, as the
    machine sees it. `without`: capabilities of the manifest that it does not get, to see what fails."""

    def __init__(self, cluster: SandboxCluster, variables: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._variables = {"HOTSWITCH_CONTROLLER": "", "HOTSWITCH_LEAVE_WITHIN": "", **variables}
        (daemon_set,) = [each for each in render(OVERLAY) if each["kind"] == "DaemonSet"]
        self.spec: Object = daemon_set["spec"]["template"]["spec"]
        self.namespace = str(daemon_set["metadata"]["namespace"])
        self.account = service_account(self.namespace, self.spec["serviceAccountName"])
        (self.container,) = self.spec["containers"]
        self.directory = cluster.box.estate.directory / "node-agent"
        self.log = cluster.box.estate.directory / "node-agent.log"
        self.journal = JournalTail(self.directory / "journal.jsonl")
        self.without: tuple[str, ...] = ()
        self.shares_pids = bool(self.spec.get("hostPID"))
        self.process: Process | None = None
        self._cgroups: tuple[Path, ...] = ()

    def obey(self, address: str, ca_file: Path, name: str) -> None:
        """Before the start: whom it obeys. Without this, nobody."""
        (self._own / "cluster").mkdir(parents=True, exist_ok=True)
        (self._own / "cluster" / "controller.crt").write_bytes(ca_file.read_bytes())
        self._variables |= {
            "HOTSWITCH_CONTROLLER": address,
            "HOTSWITCH_CONTROLLER_CA": "/run/cluster/controller.crt",
            "HOTSWITCH_CONTROLLER_NAME": name,
        }

    def start(self) -> Process:
        """As a container that is created. What was in its emptyDirs before stays, as when a container is restarted."""
        estate = self._cluster.box.estate
        for directory in (self.directory, self._own / "cluster", self._own / "programs", self._own / "tmp"):
            directory.mkdir(parents=True, exist_ok=True)
        self._cgroups = estate.make_cgroups("node-agent")[-1:]
        netns = self._cluster.box.network.node.netns
        self.process = start(estate, self._argv(), log=self.log, netns=netns, cgroups=self._cgroups)
        return self.process

    @property
    def token_file(self) -> Path:
        """What it shows to its controller, while it runs."""
        return self._own / "cluster" / "token"

    @property
    def _own(self) -> Path:
        return self._cluster.box.estate.directory / "node-agent-container"

    def _argv(self) -> tuple[str, ...]:
        image = images.find(self.container["image"])
        assert image is not None
        image.install(self._own / "programs")
        program = image.argv(images.command(self.container, image))
        assert program is not None
        allowed = rights.of(self.container, self.spec).less(self.without)
        spec = {
            "enter": None,
            "netns": None,
            "pid": not self.shares_pids,
            "read_only": bool(self.container["securityContext"]["readOnlyRootFilesystem"]),
            "directory": str(self._own),
            "mounts": self._mounts(),
            "env": self._environment(),
            "argv": allowed.argv(program),
        }
        return (sys.executable, "-m", "hotswitch.sandbox.cluster.stage", json.dumps(spec))

    def _mounts(self) -> list[dict[str, Any]]:
        volumes = {each["name"]: each for each in self.spec["volumes"]}
        given = {"run": self.directory, "tmp": self._own / "tmp"}
        self._introduce()
        found: list[dict[str, Any]] = [
            {"source": str(self._own / "programs"), "target": PROGRAMS},
            {"source": str(self._own / "cluster"), "target": "/run/cluster", "read_only": True},
        ]
        for mount in self.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            source = volume["hostPath"]["path"] if "hostPath" in volume else given.get(mount["name"])
            if source is not None:
                told = {"target": mount["mountPath"], "read_only": bool(mount.get("readOnly"))}
                found.append({"source": str(source), **told})
        return found

    def _introduce(self) -> None:
        """The account's kubeconfig, with the certificate in it: the API's own files are not in the container."""
        api = self._cluster.api
        content = yaml.safe_load(api.kubeconfig(self.account).read_text())
        cluster = content["clusters"][0]["cluster"]
        authority = Path(cluster.pop("certificate-authority")).read_bytes()
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
        (self._own / "cluster" / "kubeconfig").write_text(yaml.safe_dump(content))
        (self._own / "cluster" / "token").write_text(self._token())

    def _token(self) -> str:
        """For the controller, as the kubelet gets it for a volume of the pod: so there is such a pod, after all,
        as far as tokens know it."""
        api = self._cluster.api
        name = f"hotswitch-agent-{self._cluster.node.name}"
        pod = api.admin.find("pods", name, self.namespace) or api.admin.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {**self.spec, "nodeName": self._cluster.node.name},
            }
        )
        ref = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]}
        spec = {"audiences": ["hotswitch-agent"], "expirationSeconds": 3600, "boundObjectRef": ref}
        account = str(self.spec["serviceAccountName"])
        asked = tokens.request(api.store, api.tokens, self.namespace, account, {"spec": spec})
        return str(asked["status"]["token"])

    def _environment(self) -> dict[str, str]:
        own = {each["name"]: self._value(each) for each in self.container["env"]}
        base = {"PATH": f"{PROGRAMS}:{images.PATH}", "LC_ALL": "C.UTF-8", "PYTHONPATH": HOME}
        told = {"HOTSWITCH_KUBECONFIG": KUBECONFIG, "HOTSWITCH_TOKEN": "/run/cluster/token", **self._variables}
        return {name: value for name, value in {**base, **own, **told}.items() if value}

    def _value(self, variable: Object) -> str:
        return self._cluster.node.name if "valueFrom" in variable else str(variable["value"])

    # ---- what it says ----

    async def status(self) -> dict[str, dict[str, Any]]:
        """By namespace/name. Raises OSError while it does not answer."""
        answer = await asked(self.directory / "agent.sock", {"verb": "status"})
        return {pod["pod"]: pod for pod in answer["pods"]}

    async def guards(self, *pods: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it guards these (namespace/name), all well, with rescue and gate ready. Raises AgentFailed."""

        def ready(status: Mapping[str, dict[str, Any]]) -> bool:
            told = [status.get(pod, {}) for pod in pods]
            return all(each.get("rescue") == each.get("gate") == "ready" and each["fault"] == "well" for each in told)

        await self.until(ready, f"guards {', '.join(pods)}", timeout_s)

    async def until(self, holds: Any, what: str, timeout_s: float = PATIENCE_S) -> None:
        """`holds`: asked about each status. Raises AgentFailed."""
        status: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.process is not None and self.process.running:
                    with contextlib.suppress(OSError, ValueError):
                        if holds(status := await self.status()):
                            return
                    await asyncio.sleep(POLL_S)
        raise AgentFailed(f"not within {timeout_s:g} s: {what}; {status}; {self.words()}")

    def words(self) -> str:
        said = self.log.read_text()[-2000:].strip() if self.log.exists() else ""
        failed = [f"{each.event} {each.pod}: {each.failed}" for each in self.entries() if each.failed]
        return "; ".join([*failed[-5:], said]) or "it says nothing"

    def entries(self, pod: str = "") -> Sequence[Entry]:
        self.journal.catch_up()
        return [each for each in self.journal.entries if pod in ("", each.pod)]

    # ---- its life ----

    def pids(self) -> list[int]:
        """Of the container, as the machine numbers them."""
        return [int(line) for each in self._cgroups for line in (each / "cgroup.procs").read_text().split()]

    def agent_pid(self) -> int:
        """Of the agent itself, which the container's first process keeps running. Raises AgentFailed."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"--once" in words and b"setpriv" not in words[0]:
                    return pid
        raise AgentFailed(f"no agent runs: {self.words()}")

    def forget(self) -> None:
        """As when its pod is made anew: emptyDirs are empty. Not while it runs. What is told by hand stays."""
        for name in ("rescue", "netns", "pods", "evidence"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for path in (self.journal.path, self.directory / "granted"):
            path.unlink(missing_ok=True)
        self.journal = JournalTail(self.journal.path)

    async def replace(self) -> None:
        """As a DaemonSet is rolled out: SIGTERM, the pod's grace, and only then another pod, with empty directories."""
        await self.stop(float(self.spec["terminationGracePeriodSeconds"]))
        self.forget()
        self.start()

    async def stop(self, patience_s: float = 5.0) -> None:
        """As the kubelet ends a container: SIGTERM, and with its first process all others end."""
        if self.process is not None:
            await self.process.stop(patience_s)
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
