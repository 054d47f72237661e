"""What a pod's agent is told when it starts: variables and one file of the downward API (docs/reference/agent.md).

It has no right in the API, and so cannot read its own pod. How Istio captures in it is told by HOTSWITCH_CAPTURE, else
worked out of the pod's annotations as istio-cni does it. A wrong guess opens nothing: the gate is refused unless the
namespace's rules are exactly those of the settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import field, structs

from hotswitch.agent.helper import HERE, RESOLV_CONF, name_servers
from hotswitch.agent.linked import Allowing
from hotswitch.capture import options
from hotswitch.capture.fields import SpecError, boolean
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.config.agentfile import AgentFile, parse
from hotswitch.config.told import ConfigError, Strict, parse_as

PREFIX = "HOTSWITCH_"
_JSON = ("probers", "probe", "capture")
SOCKET = Path("/var/run/secrets/workload-spiffe-uds/socket")


class CaptureWords(Strict, frozen=True, kw_only=True):
    """The arguments and variables of istio-init."""

    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


class PodSettings(Allowing, frozen=True, kw_only=True):
    """`pod`, `namespace`, `uid`, `addresses`: the downward API's. `addresses` and `ports`: comma-separated; `ports`:
    the app's. `annotations`: a file of the downward API (metadata.annotations). `probers`: as in
    ISTIO_KUBE_APP_PROBERS."""

    pod: str
    namespace: str
    uid: str
    addresses: str
    node: str = ""
    workload: str = ""
    account: str = ""
    trust_domain: str = "cluster.local"
    ports: str = ""
    probers: dict[str, Any] | None = None
    probe: dict[str, Any] | None = None
    capture: CaptureWords | None = None
    annotations: Path = Path("/run/podinfo/annotations")
    identity: Path = SOCKET
    output_certs: Path | None = None
    directory: Path = Path("/run/hotswitch")
    envoy: Path | None = None

    def agent_file(self) -> AgentFile:
        """The standalone agent's settings, with this one pod. Raises ConfigError."""
        content: dict[str, Any] = {
            "node": self.node or "pod",
            "socket": str(self.directory / "agent.sock"),
            "journal": str(self.directory / "journal.jsonl"),
            "rescue": {"directory": str(self.directory / "rescue"), "envoy": self.envoy},
            "evidence": {"directory": str(self.directory / "evidence"), "faults": 8, "mebibytes": 32},
            "pods": [self._entry()],
        }
        return parse(content, "environment")

    def _entry(self) -> dict[str, Any]:
        who = f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.account}" if self.account else None
        identity = {"socket": self.identity, "output_certs": self.output_certs}
        return {
            "name": self.pod,
            "namespace": self.namespace,
            "uid": self.uid,
            "workload": self.workload,
            "netns": HERE,
            "addresses": _listed(self.addresses),
            "capture": self._capture(),
            "identity": {**identity, "spiffe_id": who, "trust_domains": [self.trust_domain]},
            "app": self._app(),
            "policy": {"inbound": ["hold"]},
        }

    def _app(self) -> dict[str, Any]:
        told: dict[str, Any] = {"ports": _listed(self.ports), "probers": self.probers or {}}
        return {**told, "probe": self.probe} if self.probe else told

    def _capture(self) -> dict[str, Any]:
        if self.capture is not None:
            told: dict[str, Any] = structs.asdict(self.capture)
        else:
            try:
                spec = spec_from_pod(self._likeness())
            except SpecError as failure:
                raise ConfigError(f"{self.annotations}: {failure}") from failure
            told = {"args": list(options.to_argv(spec)[1:]), "env": dict(options.to_env(spec))}
        dual = boolean(told["env"].get("ISTIO_DUAL_STACK") or "") or False
        looked_at = _listed(self.addresses)[: None if dual else 1]  # as istio-init does
        has_v6 = any(":" in address for address in looked_at)
        return {**told, "ipv6": has_v6, "dns_servers": name_servers(RESOLV_CONF)}

    def _likeness(self) -> dict[str, Any]:
        """A pod as far as its annotations show it: the sidecar's variables and ids are the injector's usual ones."""
        return {
            "metadata": {"name": self.pod, "namespace": self.namespace, "annotations": _annotations(self.annotations)},
            "spec": {
                "initContainers": [{"name": "istio-validation"}],
                "containers": [{"name": "istio-proxy", "args": ["proxy", "sidecar"]}],
            },
        }


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _annotations(file: Path) -> dict[str, str]:
    """KEY="VALUE" a line, the value quoted as in Go. None where there is no such file."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as failure:
        raise ConfigError(f"{file}: {failure.strerror}") from failure
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition("=")
        try:
            found[key] = json.loads(value)
        except ValueError as failure:
            raise ConfigError(f"{file}: {key}: not a quoted text") from failure
    return found


def from_environment(environment: Mapping[str, str] = os.environ) -> PodSettings:
    """HOTSWITCH_POD, HOTSWITCH_UID ... Raises ConfigError naming field and value."""
    named = ((name, _variable(name)) for name in PodSettings.__struct_fields__)
    given: dict[str, Any] = {name: environment[key] for name, key in named if environment.get(key)}
    given |= {name: _unpacked(name, given[name]) for name in _JSON if name in given}
    return parse_as(PodSettings, given, "environment", _variable)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _unpacked(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as failure:
        raise ConfigError(f"environment: {_variable(name)}: not JSON: {failure} (given: {text[:80]!r})") from failure
