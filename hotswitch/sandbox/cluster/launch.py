"""Starting a process as a container of a pod would have it: namespaces, volumes, environment, rights (stage, rights).

Network and mount namespaces are real; the pid namespace is the machine's, as with shareProcessNamespace, so a process
sees others, and can do to them only what its rights allow.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotswitch.sandbox.cluster import images, rights
from hotswitch.sandbox.pod import Pod
from hotswitch.sandbox.process import HOME

Object = Mapping[str, Any]
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_SOCKETS = "workload-socket"
PROGRAMS = "/run/.programs"  # where the image's stood-in programs are


@dataclass(frozen=True, slots=True)
class Place:
    """A container of a published pod: where its processes run. `manifest`: the pod object."""

    pod: Pod
    manifest: Object
    container: Object

    @property
    def name(self) -> str:
        return str(self.container["name"])

    @property
    def directory(self) -> Path:
        """The container's own files; what an emptyDir is made of is the pod's."""
        return self.pod.directory / "containers" / self.name

    def argv(self, argv: Sequence[str], enter: int | None = None, *, inside: bool = False) -> tuple[str, ...]:
        """The command that runs `argv` there. `enter`: pid of a process with the container's mount namespace; None:
        make one. `inside`: the command itself goes into the pod's network namespace."""
        self.directory.mkdir(parents=True, exist_ok=True)
        allowed = rights.of(self.container, self.manifest["spec"])
        spec = {
            "enter": enter,
            "netns": self.pod.netns if inside else None,
            "directory": str(self.directory),
            "mounts": [] if enter else self.mounts(),
            "env": self.environment(),
            "argv": allowed.argv(tuple(argv)),
        }
        return (sys.executable, "-m", "hotswitch.sandbox.cluster.stage", json.dumps(spec))

    # ---- files ----

    def mounts(self) -> list[dict[str, Any]]:
        """Every volume that the machine can give; others (tokens, ConfigMaps) are left out."""
        volumes = {volume["name"]: volume for volume in self.manifest["spec"].get("volumes") or ()}
        found: list[dict[str, Any]] = [
            {"source": self._resolv_conf(), "target": "/etc/resolv.conf"},
            {"source": self._programs(), "target": PROGRAMS},
        ]
        for mount in self.container.get("volumeMounts") or ():
            source = self._source(volumes.get(mount["name"]) or {})
            if source is not None:
                target, read_only = mount["mountPath"], bool(mount.get("readOnly"))
                found.append({"source": str(source), "target": target, "read_only": read_only})
        return [each for each in found if self._possible(str(each["target"]))]

    def _source(self, volume: Object) -> Path | None:
        if volume.get("name") == _SOCKETS:
            return self.pod.workload_socket
        if "emptyDir" not in volume:
            return None
        directory = self.pod.directory / "volumes" / str(volume["name"])
        if not directory.exists():
            directory.mkdir(parents=True)
            directory.chmod(0o777)  # an emptyDir is everybody's
        return directory

    def _possible(self, target: str) -> bool:
        return target.startswith(("/run/", "/var/run/")) or Path(target).exists()

    def _programs(self) -> str:
        directory = self.directory / "programs"
        image = images.find(self.container["image"])
        if image is not None and not directory.exists():
            image.install(directory)
        directory.mkdir(exist_ok=True)
        return str(directory)

    def _resolv_conf(self) -> str:
        file = self.pod.directory / "resolv.conf"
        if not file.exists():
            file.write_text("".join(f"nameserver {server}\n" for server in self.pod.spec.resolvers))
        return str(file)

    # ---- environment ----

    def environment(self) -> dict[str, str]:
        own = {each["name"]: self._value(each) for each in self.container.get("env") or ()}
        base = {"PATH": f"{PROGRAMS}:{images.PATH}", "HOSTNAME": self.pod.name, "LC_ALL": "C.UTF-8", "PYTHONPATH": HOME}
        return base | {name: value for name, value in own.items() if value is not None}

    def _value(self, variable: Object) -> str | None:
        if "valueFrom" not in variable:
            return str(variable.get("value") or "")
        path = (variable["valueFrom"].get("fieldRef") or {}).get("fieldPath")
        return None if path is None else self._field(path)

    def _field(self, path: str) -> str:
        if keyed := _KEYED.fullmatch(path):
            return str((self.manifest["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
        if path in ("status.podIP", "status.podIPs"):
            return self.pod.ip if path.endswith("P") else ",".join(self.pod.addresses)
        value: Any = self.manifest
        for part in path.split("."):
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        return str(value)


def container_of(manifest: Object, name: str) -> Object | None:
    """Ordinary, init and ephemeral ones."""
    spec = manifest["spec"]
    lists = (spec.get(key) or () for key in ("containers", "initContainers", "ephemeralContainers"))
    return next((each for every in lists for each in every if each["name"] == name), None)
