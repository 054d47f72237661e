"""What a sandbox owns on this machine, and its removal: after a normal end, ^C, SIGTERM, or a crash of the owner.

Everything has the sandbox's id in its name (namespaces, cgroups, a run directory) or is written into its ledger with
pid and start time (processes). An estate whose owner is dead is a leftover: the next start removes it. A pid is only
believed together with its start time, so nothing is ever done to a stranger that got the same number.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hotswitch.kernel.command import Command, run

RUN_ROOT = Path("/run/hotswitch-sandbox")
NETNS_DIR = Path("/var/run/netns")
CGROUP_ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "memory")
REMOVAL_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process beyond doubt: pid, and start time in clock ticks since boot (/proc/PID/stat field 22)."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Raises ProcessLookupError when there is no such process."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError) as gone:
            raise ProcessLookupError(pid) from gone
        return cls(pid, int(stat.rpartition(")")[2].split()[19]))

    @property
    def alive(self) -> bool:
        """True while it has not ended; a zombie has."""
        try:
            return ProcessId.of(self.pid) == self and process_state(self.pid) not in "ZX"
        except ProcessLookupError:
            return False


def process_state(pid: int) -> str:
    """The state letter of /proc/PID/stat (R, S, D, T, t, Z). Raises ProcessLookupError."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError) as gone:
        raise ProcessLookupError(pid) from gone


class Estate:
    """The things of one sandbox. Names begin with `prefix` + id + "-"; files are under `directory`."""

    def __init__(self, ident: str, prefix: str = "hs-") -> None:
        if not ((ident.isalnum() and ident.islower()) or ident.isdigit()) or len(ident) > 8:
            raise ValueError(f"ident: {ident!r} is not 1 to 8 lower-case letters and digits")
        self.ident, self.prefix = ident, f"{prefix}{ident}-"
        self.directory = RUN_ROOT / f"{prefix}{ident}"
        self._ledger = self.directory / "processes"

    def claim(self) -> None:
        """Make the run directory and write down who owns it. Raises FileExistsError when the id is taken."""
        RUN_ROOT.mkdir(mode=0o755, exist_ok=True)
        self.directory.mkdir(mode=0o755)
        self._ledger.touch()
        owner = ProcessId.of(os.getpid())
        (self.directory / "owner.json").write_text(
            json.dumps({"pid": owner.pid, "started_ticks": owner.started_ticks, "prefix": self.prefix})
        )

    def record(self, pid: int) -> None:
        """Write a process of ours into the ledger."""
        with contextlib.suppress(ProcessLookupError):
            process = ProcessId.of(pid)
            with self._ledger.open("a") as ledger:
                ledger.write(f"{process.pid} {process.started_ticks}\n")

    def recorded(self) -> list[ProcessId]:
        try:
            lines = self._ledger.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [ProcessId(int(pid), int(ticks)) for pid, ticks in (line.split() for line in lines)]

    def make_cgroups(self, *path: str) -> tuple[Path, ...]:
        """One cgroup per controller (v1), or one for all (v2), at <sandbox>/path. () where cgroups cannot be made."""
        try:
            if (CGROUP_ROOT / "cgroup.controllers").exists():
                return (self._make_unified(path),)
            return tuple(self._make_cgroup(CGROUP_ROOT / controller, path) for controller in CONTROLLERS)
        except OSError:
            return ()

    def _make_cgroup(self, hierarchy: Path, path: Iterable[str]) -> Path:
        if not hierarchy.is_dir():
            raise FileNotFoundError(hierarchy)
        cgroup = hierarchy.joinpath(self._cgroup_name, *path)
        cgroup.mkdir(parents=True, exist_ok=True)
        return cgroup

    def _make_unified(self, path: tuple[str, ...]) -> Path:
        cgroup = CGROUP_ROOT
        for name in (self._cgroup_name, *path):
            (cgroup / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in CONTROLLERS))
            cgroup = cgroup / name
            cgroup.mkdir(exist_ok=True)
        return cgroup

    @property
    def _cgroup_name(self) -> str:
        return f"hotswitch-sandbox-{self.prefix.rstrip('-')}"

    def cgroups(self) -> list[Path]:
        """Every cgroup of ours, children before parents."""
        tops = [hierarchy / self._cgroup_name for hierarchy in (CGROUP_ROOT, *map(CGROUP_ROOT.joinpath, CONTROLLERS))]
        found = [path for top in tops if top.is_dir() for path in (top, *top.rglob("*")) if path.is_dir()]
        return sorted(found, key=lambda path: len(path.parts), reverse=True)

    def namespaces(self) -> list[str]:
        return sorted(path.name for path in NETNS_DIR.glob(f"{self.prefix}*")) if NETNS_DIR.is_dir() else []

    def processes(self) -> list[ProcessId]:
        """Ours that still live: those of the ledger and whoever is in our cgroups (children included)."""
        found = set(self.recorded())
        for cgroup in self.cgroups():
            with contextlib.suppress(OSError, ProcessLookupError):
                found |= {ProcessId.of(int(pid)) for pid in (cgroup / "cgroup.procs").read_text().split()}
        return [process for process in found if process.alive]

    def remove(self) -> None:
        """Remove all of it; safe to repeat. Raises OSError when something cannot be removed in five seconds."""
        self._end_processes()
        if names := self.namespaces():
            run(Command(("ip", "-batch", "-"), stdin="".join(f"netns del {name}\n" for name in names)), check=True)
        for cgroup in self.cgroups():
            _until(lambda cgroup=cgroup: _rmdir(cgroup), f"cgroup {cgroup} cannot be removed")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_processes(self) -> None:
        def ended() -> bool:
            left = self.processes()
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            return not left

        _until(ended, f"processes of sandbox {self.ident} do not end")


def sweep(prefix: str = "hs-") -> list[str]:
    """Remove every estate whose owner is dead, and tell their names. Sweepers take turns."""
    RUN_ROOT.mkdir(mode=0o755, exist_ok=True)
    swept = []
    with (RUN_ROOT / ".sweeping").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for directory in sorted(RUN_ROOT.glob(f"{prefix}*")):
            if _owner_is_dead(directory):
                Estate(directory.name.removeprefix(prefix), prefix).remove()
                swept.append(directory.name)
    return swept


def _owner_is_dead(directory: Path) -> bool:
    try:
        owner = json.loads((directory / "owner.json").read_text())
    except (OSError, ValueError):  # being claimed at this moment, or claimed by one who died while doing it
        with contextlib.suppress(OSError):
            return time.time() - directory.stat().st_mtime > 60
        return False
    return not ProcessId(owner["pid"], owner["started_ticks"]).alive


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _until(done: object, complaint: str) -> None:
    assert callable(done)
    deadline = time.monotonic() + REMOVAL_PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise OSError(complaint)
        time.sleep(0.005)
