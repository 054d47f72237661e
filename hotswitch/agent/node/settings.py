"""What a node's agent is told when it starts: variables, as a DaemonSet sets them (docs/reference/agent.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotswitch.agent.linked import Allowing
from hotswitch.api.values import duration_s
from hotswitch.config.agentfile import CA_ROOTS, CA_TOKEN, AgentFile, Seconds, parse
from hotswitch.config.told import ConfigError, parse_as

PREFIX = "HOTSWITCH_"
_DURATIONS = ("drill_every", "leave_within")


class NodeSettings(Allowing, frozen=True, kw_only=True):
    """`node`: its name in the API (spec.nodeName). `proc`, `cgroups`: the node's own, as they are mounted here.
    `directory`: ours; the rescue Envoy's user must be able to pass its parents. `ca`: istiod's host:port, to be asked
    for pods' identities ("": it is not), with the rest of config.agentfile.NodeAccountSource. `drill_every`: like 24h;
    None: pods are drilled by hand only. `leave_within`: how long SIGTERM waits for pods that are rescued
    (node.leaving), less than the grace period of the agent's own pod; None: not at all."""

    node: str
    proc: Path = Path("/proc")
    cgroups: Path = Path("/sys/fs/cgroup")
    directory: Path = Path("/run/hotswitch")
    kubeconfig: Path | None = None  # None: the pod's service account
    metrics_port: int | None = None
    envoy: Path | None = None
    ca: str = ""
    ca_roots: Path = CA_ROOTS
    ca_token: Path = CA_TOKEN
    ca_name: str = ""
    drill_every: Seconds | None = None
    leave_within: Seconds | None = None

    def agent_file(self) -> AgentFile:
        """The standalone agent's settings, without pods."""
        content: dict[str, Any] = {
            "node": self.node,
            "socket": str(self.directory / "agent.sock"),
            "journal": str(self.directory / "journal.jsonl"),
            "rescue": {"directory": str(self.directory / "rescue"), "envoy": self.envoy},
            "evidence": {"directory": str(self.directory / "evidence")},
        }
        if self.metrics_port is not None:
            content["metrics"] = {"address": "0.0.0.0", "port": self.metrics_port}
        if self.ca:
            files = {"roots": str(self.ca_roots), "token": str(self.ca_token)}
            content["node_account"] = {"address": self.ca, **files, "server_name": self.ca_name}
        if self.drill_every is not None:
            content["drill"] = {"every_s": self.drill_every}
        return parse(content, "environment")


def from_environment(environment: Mapping[str, str] = os.environ) -> NodeSettings:
    """HOTSWITCH_NODE, HOTSWITCH_PROC ... Raises ConfigError naming field and value."""
    names = NodeSettings.__struct_fields__
    given: dict[str, Any] = {name: environment[_variable(name)] for name in names if environment.get(_variable(name))}
    if "node" not in given:
        raise ConfigError(f"environment: {_variable('node')}: is missing; it is the node's name (spec.nodeName)")
    given |= {name: _duration(name, given[name]) for name in _DURATIONS if name in given}
    return parse_as(NodeSettings, given, "environment", _variable)


def _duration(name: str, text: str) -> float:
    try:
        return duration_s(text)
    except ValueError as failure:
        raise ConfigError(f"environment: {_variable(name)}: {failure} (given: {text!r})") from failure


def _variable(name: str) -> str:
    return PREFIX + name.upper()
