"""Taking hotswitch out of every pod of a node, and proving that nothing is left (I4, S4.5).

By what is there, not by what is remembered: each network namespace in which a process of some pod lives is looked into,
whoever opted in. Removing a gate restores capture at once, also for a pod whose proxy is still dead: that is what
uninstalling means. The agent itself, and with it the rescue, is ended first, by whoever started it: a listener of the
rescue that still stands is residue that this cannot take away, and says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hotswitch.capture.gate_choice import open_gate
from hotswitch.capture.gate_table import GateScope
from hotswitch.kernel import procfs
from hotswitch.kernel.command import CommandFailed
from hotswitch.kernel.netlink import NETLINK_SOCK_DIAG, NetlinkSocket
from hotswitch.kernel.process import PROC
from hotswitch.kernel.sockdiag import accept_queues
from hotswitch.model import RESCUE_INBOUND, RESCUE_OUTBOUND, STAND_IN, Port

DOORS: dict[Port, str] = {RESCUE_INBOUND: "rescue", RESCUE_OUTBOUND: "rescue", STAND_IN: "stand-in"}


@dataclass(frozen=True, slots=True)
class Looked:
    """`pods`: uids of those whose processes live in the namespace. `left`: sentences, none: nothing of ours."""

    pods: tuple[str, ...]
    left: tuple[str, ...]
    removed: str = ""


def look(proc: Path = PROC, *, remove: bool = False) -> list[Looked]:
    """Into every pod's namespace; with `remove` tables are taken away first. Raises PermissionError: namespaces may not
    be asked for (CAP_SYS_PTRACE)."""
    return [_into(pods, namespace, remove) for pods, namespace in _namespaces(proc)]


def _namespaces(proc: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    found: dict[tuple[int, int], tuple[int, set[str]]] = {}
    for process in procfs.processes(proc):
        if process.net is None:
            if (proc / str(process.pid)).exists():
                raise PermissionError(f"{proc}/{process.pid}/ns/net: may not be asked")
            continue
        found.setdefault(process.net, (process.pid, set()))[1].add(process.place.pod)
    node = _node(proc)
    for net, (pid, pods) in found.items():
        if net != node:
            yield tuple(sorted(pods)), f"{proc}/{pid}/ns/net"


def _node(proc: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        there = os.stat(proc / "1/ns/net")
        return there.st_dev, there.st_ino
    return None


def _into(pods: tuple[str, ...], namespace: str, remove: bool) -> Looked:
    try:
        gate = open_gate(namespace, GateScope())
        try:
            there = gate.is_there()
            if there and remove:
                gate.remove()
            removed = gate.name if there and remove and not gate.is_there() else ""
            left = [f"{gate.name} is there"] if there and not removed else []
        finally:
            gate.close()
        left += [f"a listener of the {what} on {port}" for port, what in _doors(namespace)]
    except FileNotFoundError:  # the pod went away meanwhile, and took everything along
        return Looked(pods, ())
    except (OSError, CommandFailed) as failure:
        return Looked(pods, (f"it could not be looked into: {failure}",))
    return Looked(pods, tuple(left), removed)


def _doors(namespace: str) -> list[tuple[Port, str]]:
    with contextlib.closing(NetlinkSocket(NETLINK_SOCK_DIAG, namespace)) as asks:
        listening = {queue.port for queue in accept_queues(asks)}
    return [(port, what) for port, what in DOORS.items() if port in listening]


def report(looked: list[Looked]) -> list[str]:
    """A sentence for each thing that was done or is left, and one for all."""
    lines = [f"pod {', '.join(each.pods)}: {each.removed} is gone" for each in looked if each.removed]
    lines += [f"pod {', '.join(each.pods)}: {left}" for each in looked for left in each.left]
    soiled = sum(bool(each.left) for each in looked)
    verdict = f"something is left in {soiled}" if soiled else "nothing is left"
    return [*lines, f"{len(looked)} namespaces of pods: {verdict}"]


def clean(looked: list[Looked]) -> bool:
    return not any(each.left for each in looked)
