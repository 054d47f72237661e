"""Where Istio's own commands could be run in a pod, if anywhere: the capability check of actuator `exec` (S4.3).

A process that is exec'ed gets its container's own rights and no others. In an ordinary istio-proxy these are none, so
iptables fails there; TPROXY pods, privileged debug images and a helper of Istio's image are what is left. Pure.
Source: Istio's injection template, docker/Dockerfile.base; facts on who can change the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from hotswitch.api.names import HELPER_CONTAINER
from hotswitch.capture.fields import SpecError
from hotswitch.capture.podspec import PROXY
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.capture.version import IstioVersion

IMAGE = "proxyv2"
DROPPED = (
    "kubectl exec into a normal istio-proxy cannot change iptables: it drops ALL capabilities, and a process that is "
    "exec'ed gets the container's own"
)
_LISTS = (
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """`prefix`: words before each command. `raw`: has it NET_RAW, which iptables-legacy needs? `bare`: a distroless
    image, where nothing but pilot-agent, iptables and nft can be run."""

    container: str
    version: IstioVersion
    prefix: tuple[str, ...] = ()
    raw: bool = False
    bare: bool = False


def find(pod: Object, spec: CaptureSpec) -> Place | str:
    """The first container where it would work, or a sentence on why none would."""
    refusals = []
    for name in (HELPER_CONTAINER, PROXY):
        found = _container(pod, name)
        if found is None:
            continue
        place = _judge(pod, name, *found, spec)
        if isinstance(place, Place):
            return place
        refusals.append(f"{name}: {place}")
    return "; ".join(refusals) or "the pod has no istio-proxy"


def _container(pod: Object, name: str) -> tuple[Object, Object] | None:
    """Its spec, and its status as far as there is one."""
    for specs, statuses in _LISTS:
        own = _named((pod.get("spec") or {}).get(specs), name)
        if own is not None:
            return own, _named((pod.get("status") or {}).get(statuses), name) or {}
    return None


def _judge(pod: Object, name: str, container: Object, status: Object, spec: CaptureSpec) -> Place | str:
    image = PurePosixPath(str(container.get("image", "")).partition("@")[0]).name
    program, _, tag = image.partition(":")
    if not program.startswith(IMAGE):
        return f"{image} has no pilot-agent"
    try:
        version = IstioVersion.of(tag)
    except SpecError:
        return f"the release of Istio cannot be told from the image's tag {tag!r}"
    if "running" not in (status.get("state") or {}):
        return f"the container is not running: {_state(status)}"
    bare = "distroless" in tag
    rights = _rights(pod, container, bare)
    if isinstance(rights, str):
        return rights
    prefix, raw = rights
    if spec.backend is Backend.IPTABLES_LEGACY and not raw:
        return "its rules are by iptables-legacy, which needs NET_RAW, and the container has not got it"
    return Place(name, version, prefix, raw, bare)


def _rights(pod: Object, container: Object, bare: bool) -> tuple[tuple[str, ...], bool] | str:
    """(words before a command, NET_RAW)"""
    own, pods = container.get("securityContext") or {}, (pod.get("spec") or {}).get("securityContext") or {}
    uid = own.get("runAsUser", pods.get("runAsUser", 0))
    added = {str(each).upper().removeprefix("CAP_") for each in (own.get("capabilities") or {}).get("add") or ()}
    privileged = bool(own.get("privileged"))
    if not (privileged or added & {"NET_ADMIN", "ALL"}):
        return DROPPED
    raw = privileged or bool(added & {"NET_RAW", "ALL"})
    if uid == 0:
        return (), raw
    if privileged and not bare and own.get("allowPrivilegeEscalation") is not False:
        return ("sudo",), raw  # the debug image lets its user become root
    return f"its processes run as uid {uid}, for which a container's capabilities do not count"


def _state(status: Object) -> str:
    state = status.get("state") or {}
    for kind in ("waiting", "terminated"):
        if kind in state:
            return f"{kind} ({(state[kind] or {}).get('reason') or 'no reason given'})"
    return "nothing is known of it"


def _named(values: object, name: str) -> Object | None:
    listed = values if isinstance(values, list | tuple) else ()
    return next((each for each in listed if isinstance(each, Mapping) and each.get("name") == name), None)
