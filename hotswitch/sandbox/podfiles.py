"""What others are told of a pod: its pilot-agent, and the agent that guards it, by a file or by its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotswitch.sandbox.app import HTTP_PORT
from hotswitch.sandbox.ca import TRUST_DOMAIN
from hotswitch.sandbox.envoy import find_envoy
from hotswitch.sandbox.pilot import PilotConfig

if TYPE_CHECKING:
    from hotswitch.sandbox.pod import Pod

SPIFFE_MOUNT = "/var/run/secrets/workload-spiffe-uds"


def for_pilot(pod: Pod) -> PilotConfig:
    directory = pod.proxy_directory
    return PilotConfig(
        envoy=str(find_envoy()),
        bootstrap=str(pod.sidecar.bootstrap),
        directory=str(directory),
        certificates=str(directory / "certs"),
        sds_socket=str(pod.sds_socket),
        control=str(directory / "control"),
        termination_message=str(directory / "termination-message"),
        pod_ip=pod.ip,
        probers=pod.probers,
        termination_drain_s=pod.spec.termination_drain_s,
        uid=pod.sidecar.uid,
        resolver=next(iter(pod.spec.resolvers), ""),
        volumes={SPIFFE_MOUNT: str(pod.workload_socket)},
    )


def for_agent(pod: Pod, policy: Mapping[str, Any]) -> dict[str, Any]:
    """As in config.agentfile.Pod."""
    spec, directory = pod.spec, pod.proxy_directory
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "workload": pod.workload,
        "netns": pod.netns,
        "addresses": list(pod.addresses),
        "cgroups": [str(cgroup) for cgroup in pod.proxy_cgroups],
        "capture": {
            "args": list(spec.init_args),
            "env": spec.init_env,
            "ipv6": "v6" in spec.families,
            "dns_servers": list(spec.resolvers),
        },
        "identity": {"socket": str(pod.sds_socket), "spiffe_id": pod.spiffe_id, "trust_domains": [TRUST_DOMAIN]},
        "app": {
            "ports": list(pod.app_ports),
            "probe": {"port": HTTP_PORT, "path": "/healthz", "timeout_s": 1.0},
            "probers": pod.probers,
        },
        "logs": [str(directory / "envoy.log"), str(pod.directory / "pilot.log")],
        "termination_message": str(directory / "termination-message"),
        "policy": dict(policy),
    }


def for_own_agent(told: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """The environment of an agent in the pod, as the injection template writes it; whom it obeys is not in it. `told`:
    what `for_agent` gives. `directory`: the agent's own."""
    app = told["app"]
    return {
        "HOTSWITCH_POD": told["name"],
        "HOTSWITCH_NAMESPACE": told["namespace"],
        "HOTSWITCH_UID": told["uid"],
        "HOTSWITCH_WORKLOAD": told["workload"],
        "HOTSWITCH_ADDRESSES": ",".join(told["addresses"]),
        "HOTSWITCH_TRUST_DOMAIN": TRUST_DOMAIN,
        "HOTSWITCH_PORTS": ",".join(map(str, app["ports"])),
        "HOTSWITCH_PROBERS": json.dumps(app["probers"]),
        "HOTSWITCH_PROBE": json.dumps(app["probe"]),
        "HOTSWITCH_IDENTITY": told["identity"]["socket"],
        "HOTSWITCH_CAPTURE": json.dumps({key: told["capture"][key] for key in ("args", "env")}),
        "HOTSWITCH_DIRECTORY": str(directory),
    }
