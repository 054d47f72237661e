"""From a pod's manifest and where it was found to what a guard is told of it (S4.1, S4.2, S4.3a).

The same reading of a manifest as for a helper; what it may do is not in here but in its grant (agent.authority).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hotswitch.act import helper_container
from hotswitch.act.order import Target
from hotswitch.agent.helper import name_servers_in
from hotswitch.agent.node.finder import Proxy, Wanted
from hotswitch.api import names
from hotswitch.capture.fields import SpecError
from hotswitch.capture.podspec import spec_from_pod
from hotswitch.cluster import pods
from hotswitch.config.agentfile import Pod, parse
from hotswitch.config.told import ConfigError
from hotswitch.kernel import procfs
from hotswitch.kernel.inroot import open_in_root, read_in_root
from hotswitch.model import PodRef, PodUid, Policy
from hotswitch.observe.podlife import PROXY, reference

RESOLV_CONF = Path("/etc/resolv.conf")
Manifest = Mapping[str, Any]


class Undescribed(ValueError):
    """The pod cannot be guarded as it is; the message is a sentence."""


def known(manifest: Manifest) -> pods.Pod:
    """Raises Undescribed."""
    try:
        return msgspec.convert(manifest, pods.Pod)
    except msgspec.ValidationError as failure:
        raise Undescribed(f"its object cannot be read: {failure}") from failure


def wanted(pod: pods.Pod, manifest: Manifest) -> Wanted:
    """Raises Undescribed: how Istio captures in it is not known."""
    try:
        spec = spec_from_pod(manifest)
    except SpecError as failure:
        raise Undescribed(str(failure)) from failure
    status = pod.container_status(PROXY)
    container = "" if status is None else status.container_id.rpartition("/")[2]
    return Wanted(PodUid(pod.uid), pod.addresses, spec.proxy_uids[0], container)


def described(pod: pods.Pod, manifest: Manifest, netns: Path, proxy: Proxy, proc: Path) -> Pod:
    """Raises Undescribed."""
    ref = reference(pod)
    try:
        told = helper_container.settings(Target(pod=ref, manifest=manifest, policy=Policy()))
        entry = dict(told["pod"])
        if told["dns"]:
            entry["capture"] = {**entry["capture"], "dns_servers": _name_servers(proxy, proc)}
        if "identity" in entry:
            entry["identity"] = {**entry["identity"], "output_certs": _output_certs(manifest)}
        entry |= {"netns": str(netns), "cgroups": [str(each) for each in proxy.cgroups]}
        entry["policy"] = {**entry["policy"], "mode": "observe", "inbound": ["hold"]}
        entry["drill"] = pod.annotations.get(names.DRILL, "on") == "on"
        return parse({"pods": [entry]}, f"pod {ref}").pods[0]
    except (SpecError, ConfigError) as failure:
        raise Undescribed(str(failure)) from failure


def _name_servers(proxy: Proxy, proc: Path) -> list[str]:
    """As the pod's containers have them."""
    for pid in proxy.pids:
        with contextlib.suppress(OSError):
            return name_servers_in(read_in_root(proc / str(pid) / "root", RESOLV_CONF))
    return []


def _output_certs(manifest: Manifest) -> str | None:
    """Where the proxy's container writes its identity to. Helpers are not told: they may mount the socket alone."""
    told = helper_container.proxy_environment(manifest).get("OUTPUT_CERTS") or ""
    return told if told.startswith("/") else None  # else it is below pilot-agent's own directory, which images choose


@contextmanager
def reached(path: Path, ref: PodRef, proxy: Proxy, proc: Path) -> Iterator[Path]:
    """By which a socket or a file inside the proxy's container can be opened; no link on the way to it leads out of the
    container. Raises OSError."""
    failure: OSError = FileNotFoundError(f"{path}: no process of the proxy's container is known")
    for pid in proxy.pids:
        place = procfs.place(pid, proc)
        if place is None or (place.pod, place.container) != (ref.uid, proxy.container):
            continue  # the number is another process's by now
        try:
            directory = open_in_root(proc / str(pid) / "root", path.parent)
        except OSError as refused:
            failure = refused
            continue
        try:
            yield Path(f"/proc/self/fd/{directory}") / path.name
            return
        finally:
            os.close(directory)
    raise failure
