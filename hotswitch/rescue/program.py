"""How the rescue Envoy is started: which program, arguments and files; as a value first, then run (posix_spawn).

Not asyncio's subprocess, which kills its child with the loop: this child has to outlive the agent. Directory layout:

    envoy.lock       held by Envoy as long as it lives; its text is the pid (launch.py)
    bootstrap.json   readable by Envoy; no secret in it         started-as   digest of program, arguments and bootstrap
    xds.sock         the agent's, for RESCUE_UID alone          admin/       Envoy's own, the only place it may write
    envoy.log        standard output and error; in .log.1 what was before
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from hotswitch.model import RESCUE_UID
from hotswitch.precheck.tools import is_program
from hotswitch.rescue.bootstrap import CONCURRENCY, DRAIN_S, bootstrap

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_KEPT_BYTES = 4 << 20
LAST_WORDS_BYTES = 2048


@dataclass(frozen=True, slots=True)
class RescueProgram:
    """`directory` is made if it is missing; its parents must let RESCUE_UID pass.

    Raises ValueError for an `envoy` that is no program file.
    """

    directory: Path
    envoy: Path
    concurrency: int = CONCURRENCY  # worker threads
    drain_s: int = DRAIN_S

    def __post_init__(self) -> None:
        if not is_program(self.envoy):
            raise ValueError(f"envoy: {self.envoy} is not a program file that can be started")

    @property
    def xds_socket(self) -> Path:
        return self.directory / "xds.sock"

    @property
    def admin_socket(self) -> Path:
        return self.directory / "admin" / "admin.sock"

    @property
    def lock(self) -> Path:
        return self.directory / "envoy.lock"

    @property
    def log(self) -> Path:
        return self.directory / "envoy.log"

    @property
    def config(self) -> Path:
        return self.directory / "bootstrap.json"

    @property
    def argv(self) -> tuple[str, ...]:
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(self.lock), str(RESCUE_UID), str(self.envoy))
        limits = ("--concurrency", str(self.concurrency), "--drain-time-s", str(self.drain_s), "--disable-hot-restart")
        quiet = ("--log-level", "warning", "--component-log-level", "config:error")  # else a line per missed reconnect
        return (*launcher, "--config-path", str(self.config), *limits, *quiet)

    def prepare(self) -> None:
        """Make the directory: root's, and passable for RESCUE_UID alone. Raises PermissionError (a parent bars it)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for parent in self.directory.resolve().parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise PermissionError(f"directory: {self.directory}: uid {RESCUE_UID} cannot pass {parent}")
        os.chown(self.directory, 0, RESCUE_UID)
        self.directory.chmod(0o750)
        admin = self.admin_socket.parent
        admin.mkdir(exist_ok=True)
        if stat.S_IMODE(admin.stat().st_mode) != 0o700:  # before it is given away: afterwards it takes CAP_FOWNER
            admin.chmod(0o700)
        os.chown(admin, RESCUE_UID, RESCUE_UID)

    def spawn(self) -> int:
        """Start it in a session of its own; the pid is Envoy's from the beginning. Raises OSError."""
        self.config.write_text(self._bootstrap())
        os.chown(self.config, 0, RESCUE_UID)
        self.config.chmod(0o640)
        self._started_as.write_text(self._digest())
        if self.log.exists() and self.log.stat().st_size > LOG_KEPT_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ]
            return os.posix_spawn(self.argv[0], self.argv, {"PATH": os.defpath}, file_actions=actions, setsid=True)
        finally:
            os.close(output)

    def is_as_started(self) -> bool:
        """Whether what runs was started from this very program, arguments and bootstrap."""
        try:
            return self._started_as.read_text() == self._digest()
        except FileNotFoundError:
            return False

    def runs(self) -> bool:
        """Whether somebody holds the lock: an Envoy, or its launcher, lives."""
        try:
            lock = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def holder(self) -> tuple[int, int] | None:
        """Pid and pidfd of the lock's holder; None when there is none, or it has not written its pid yet.

        The pid is believed only if the lock is still held once the pidfd is there: so it is nobody else's.
        """
        if not self.runs():
            return None
        try:
            pid = int(self.lock.read_text())
            pidfd = os.pidfd_open(pid)
        except (ValueError, ProcessLookupError):
            return None
        if self.runs():
            return pid, pidfd
        os.close(pidfd)
        return None

    def last_words(self) -> str:
        """The end of the log: Envoy says there why it ends, and never a key."""
        try:
            with self.log.open("rb") as text:
                text.seek(max(0, self.log.stat().st_size - LAST_WORDS_BYTES))
                return text.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def _started_as(self) -> Path:
        return self.directory / "started-as"

    def _bootstrap(self) -> str:
        return bootstrap(self.xds_socket, self.admin_socket)

    def _digest(self) -> str:
        program = self.envoy.stat()
        parts = (self.envoy.resolve(), program.st_size, program.st_mtime_ns, self.argv, self._bootstrap())
        return hashlib.sha256(repr(parts).encode()).hexdigest()
