"""Is this cluster ready for hotswitch, and what could it do here? For `hotswitch check` (S4.1, S4.3). Plain facts in,
sentences out: each check passes, notes, warns or fails, and says what to do.

The limits: Istio releases whose rules are recognised (1.20 on), Kubernetes with admission policies (1.30) and ephemeral
containers (1.25), Pod Security levels that let a helper with NET_ADMIN in (none but `privileged`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hotswitch.decide.preflight.analyze import Analysis
from hotswitch.mesh import MeshPod
from hotswitch.model import Direction, Level

OLDEST_ISTIO, NEWEST_ISTIO = (1, 20), (1, 32)
OLDEST_KUBERNETES = (1, 30)
PRIVILEGED = "privileged"
_VERSION = re.compile(r"v?(\d+)\.(\d+)")

TIER_RIGHTS: Mapping[int, tuple[str, ...]] = {
    0: ("list pods", "watch pods", "list namespaces", "list services", "create events", "update leases"),
    1: ("patch pods/status",),
    2: ("list endpointslices", "patch endpointslices", "get services"),
}
"""What each tier needs besides those below it, as "verb resource"."""
ACT_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "exec": ("create pods/exec", "get pods/exec"),
    "helper": ("patch pods/ephemeralcontainers", "create pods/exec", "get pods/exec"),
}


class State(StrEnum):
    PASS = "pass"
    NOTE = "note"  # as it is; good to know
    WARN = "warn"  # something will not work
    FAIL = "fail"  # hotswitch cannot be used here


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    state: State
    sentence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What was seen of a cluster. None: it could not be seen. `istiod`: versions of the istiods, e.g. "1.30.3". `cni`:
    istio-cni's DaemonSet is there. `pod_security`: the enforced level by namespace, where one is. `rights`: "verb
    resource" to whether the controller has it. `rewrite_probes`: the injector's rewriteAppHTTPProbe."""

    kubernetes: str = ""
    istiod: tuple[str, ...] | None = None
    cni: bool | None = None
    rewrite_probes: bool | None = None
    pods: tuple[MeshPod, ...] = ()
    opted_in: int = 0
    pod_security: Mapping[str, str] = field(default_factory=dict)
    rights: Mapping[str, bool] = field(default_factory=dict)
    analysis: Analysis | None = None


def check(estate: Estate) -> tuple[Check, ...]:
    """In the order in which a person would ask."""
    return (
        _kubernetes(estate),
        _istio(estate),
        *_proxies(estate),
        *_capture(estate),
        *_probes(estate),
        _opt_in(estate),
        *_tiers(estate),
        *_actuators(estate),
        *_pod_security(estate),
        *_levels(estate),
    )


def ready(checks: Iterable[Check]) -> bool:
    return not any(found.state is State.FAIL for found in checks)


def _kubernetes(estate: Estate) -> Check:
    version = _version(estate.kubernetes)
    if version is None:
        return Check("kubernetes", State.WARN, "the API server's version is not known")
    if version < OLDEST_KUBERNETES:
        why = f"Kubernetes {estate.kubernetes} has no admission policies, which keep the controller to its own keys"
        return Check("kubernetes", State.WARN, why, "use 1.30 or newer, or leave those policies out knowingly")
    return Check("kubernetes", State.PASS, f"Kubernetes {estate.kubernetes}")


def _istio(estate: Estate) -> Check:
    if not estate.istiod:
        state = State.WARN if estate.istiod is None else State.FAIL
        return Check("istiod", state, "no istiod was found", "is the root namespace another one than istio-system?")
    shown = ", ".join(sorted(set(estate.istiod)))
    odd = [text for text in estate.istiod if not _supported(text)]
    if odd:
        why = f"istiod {', '.join(sorted(set(odd)))}: tried with 1.20 to 1.32 only"
        return Check("istiod", State.WARN, why, "begin in mode observe, and look at what `hotswitch capture` says")
    return Check("istiod", State.PASS, f"istiod {shown}")


def _proxies(estate: Estate) -> Iterator[Check]:
    sidecars = [pod for pod in estate.pods if pod.sidecar]
    others = Counter(
        "gateway" if p.gateway else "ambient" if p.ambient else "none" for p in estate.pods if not p.sidecar
    )
    if not sidecars:
        sentence = "no pod has a sidecar" + (f"; {others['ambient']} are in the ambient mesh" * bool(others["ambient"]))
        yield Check("sidecars", State.FAIL, sentence, "hotswitch protects pods with sidecars")
        return
    native = sum(pod.native for pod in sidecars)
    yield Check("sidecars", State.PASS, f"{len(sidecars)} pods with a sidecar, {native} of them native")
    if others["ambient"]:
        yield Check("ambient", State.NOTE, f"{others['ambient']} pods are in the ambient mesh and stay as they are")
    odd = sorted({pod.proxy_version for pod in sidecars if pod.proxy_version and not _supported(pod.proxy_version)})
    if odd:
        yield Check("proxy versions", State.WARN, f"sidecars of {', '.join(odd)}: tried with 1.20 to 1.32 only")


def _capture(estate: Estate) -> Iterator[Check]:
    modes = Counter(pod.interception for pod in estate.pods if pod.sidecar)
    if modes:
        told = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))
        yield Check("interception", State.PASS, f"captured by: {told}")
    if estate.cni:
        why = "istio-cni writes the rules: pods need no NET_ADMIN, so their namespaces may be restricted"
        yield Check("istio-cni", State.NOTE, why, "see whether Pod Security lets a helper in, below")


def _probes(estate: Estate) -> Iterator[Check]:
    rewritten = sum(pod.probes_rewritten for pod in estate.pods if pod.sidecar)
    if rewritten or estate.rewrite_probes:
        why = f"{rewritten} pods' probes go to pilot-agent: while it is away hotswitch answers them by asking the app"
        yield Check("app probes", State.NOTE, why)
    elif estate.rewrite_probes is False:
        yield Check("app probes", State.PASS, "probes are not rewritten: a dead proxy does not fail them by itself")


def _opt_in(estate: Estate) -> Check:
    if estate.opted_in:
        return Check("opt-in", State.PASS, f"{estate.opted_in} pods are opted in")
    return Check("opt-in", State.NOTE, "nobody is opted in", "kubectl label namespace NAME hotswitch.io/mode=observe")


def _tiers(estate: Estate) -> Iterator[Check]:
    if not estate.rights:
        yield Check("tier", State.WARN, "the controller's rights could not be asked for")
        return
    highest = -1
    for tier, needed in sorted(TIER_RIGHTS.items()):
        missing = _missing(estate, needed)
        if missing:
            state = State.FAIL if tier == 0 else State.NOTE
            yield Check(
                f"tier {tier}", state, f"not granted: {', '.join(missing)}", f"apply the overlay of tier {tier}"
            )
            break
        highest = tier
    if highest >= 0:
        yield Check("tier", State.PASS, f"rights for tier {highest}")


def _actuators(estate: Estate) -> Iterator[Check]:
    for name, needed in ACT_RIGHTS.items() if estate.rights else ():
        missing = _missing(estate, needed)
        if missing:
            yield Check(
                name, State.NOTE, f"not granted: {', '.join(missing)}", "opt in by its component, if you want it"
            )
        else:
            yield Check(name, State.PASS, "may be used")


def _missing(estate: Estate, needed: Iterable[str]) -> list[str]:
    return [right for right in needed if not estate.rights.get(right, False)]


def _pod_security(estate: Estate) -> Iterator[Check]:
    """Where istio-init is, NET_ADMIN is let in already."""
    strict = {name for name, level in estate.pod_security.items() if level != PRIVILEGED}
    shut = sorted({pod.namespace for pod in estate.pods if pod.sidecar} & strict)
    if shut:
        why = f"Pod Security keeps a helper with NET_ADMIN out of {', '.join(shut)}"
        yield Check("pod security", State.WARN, why, "nothing but observe works there")


def _levels(estate: Estate) -> Iterator[Check]:
    """What the preflight leaves, in numbers."""
    if estate.analysis is None or not estate.analysis.pods:
        return
    every = estate.analysis.pods
    for direction in Direction:
        counts = {level: estate.analysis.usable.get((direction, level), 0) for level in (Level.RESCUE, Level.DIRECT)}
        told = ", ".join(f"{level} for {count} of {every} pods" for level, count in counts.items())
        state = State.PASS if any(counts.values()) else State.WARN
        remedy = "" if any(counts.values()) else "`kubectl hotswitch analyze` says why"
        yield Check(f"{direction} levels", state, f"the preflight leaves {told}", remedy)


def _supported(text: str) -> bool:
    version = _version(text)
    return version is not None and OLDEST_ISTIO <= version <= NEWEST_ISTIO


def _version(text: str) -> tuple[int, int] | None:
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else None
