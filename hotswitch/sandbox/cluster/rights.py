"""As whom a container's processes run: user, group, and exactly the capabilities of its securityContext.

The kernel's rules do the rest: root gets the bounding set at exec, any other user gets nothing of it (there are no
ambient capabilities in Kubernetes), so iptables fails in an ordinary istio-proxy here as it does in a cluster
(facts/istio.md 4; facts/kubernetes.md 6e).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

RUNTIME_DEFAULT = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Rights:
    """`capabilities`: the bounding set, without CAP_, sorted; ("ALL",) for every one."""

    uid: int = 0
    gid: int = 0
    capabilities: tuple[str, ...] = RUNTIME_DEFAULT
    no_new_privileges: bool = False

    def less(self, without: Sequence[str]) -> Rights:
        """The same without some capabilities."""
        return replace(self, capabilities=tuple(each for each in self.capabilities if each not in without))

    def argv(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command that becomes `argv` with these rights; whoever runs it is root with all of them."""
        bounding = "+all" if self.capabilities == (ALL,) else ",".join(("-all", *map(_plus, self.capabilities)))
        ids = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        capabilities = ("--inh-caps=-all", "--ambient-caps=-all", f"--bounding-set={bounding}")
        locked = ("--no-new-privs",) if self.no_new_privileges else ()
        return ("setpriv", *ids, *capabilities, *locked, "--", *argv)


def _plus(capability: str) -> str:
    return f"+{capability.lower()}"


def of(container: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> Rights:
    """The container's own securityContext, then the pod's, then the image's user (root)."""
    own: Mapping[str, Any] = container.get("securityContext") or {}
    pods: Mapping[str, Any] = pod_spec.get("securityContext") or {}
    uid = own.get("runAsUser", pods.get("runAsUser", 0))
    return Rights(
        uid=uid,
        gid=own.get("runAsGroup", pods.get("runAsGroup", 0)),
        capabilities=(ALL,) if own.get("privileged") else _capabilities(own.get("capabilities") or {}),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
    )


def _capabilities(wanted: Mapping[str, Any]) -> tuple[str, ...]:
    added, dropped = (set(map(_bare, wanted.get(key) or ())) for key in ("add", "drop"))
    if ALL in added:
        return (ALL,)
    kept = set() if ALL in dropped else set(RUNTIME_DEFAULT) - dropped
    return tuple(sorted(kept | added))


def _bare(name: str) -> str:
    return name.upper().removeprefix("CAP_")
