"""What became of a command: from the status on channel 3, or the API server's refusal. Pure.

Sources: k8s.io/client-go tools/remotecommand, facts measured against three client libraries that get this wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class ExecOutcome(StrEnum):
    EXITED = "exited"  # it ran, and `code` says how it ended
    REFUSED = "refused"  # we have not the right to; nothing was run
    NOT_STARTED = "not-started"  # no such pod, container or program; nothing was run
    UNKNOWN = "unknown"  # it may have run, or may still run: look, do not assume


@dataclass(frozen=True, slots=True)
class Executed:
    """`code` only when EXITED. `sentence`: for people, always."""

    outcome: ExecOutcome
    code: int | None
    stdout: bytes
    stderr: bytes
    sentence: str

    @property
    def succeeded(self) -> bool:
        return self.outcome is ExecOutcome.EXITED and self.code == 0


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    status: str
    message: str = ""
    reason: str = ""
    details: _Details | None = None


_NEVER_RAN = (
    "executable file not found",
    "no such file or directory",
    "container not found",
    "permission denied",
    "OCI runtime exec failed",
    "container is not running",
    "container is in CONTAINER_EXITED state",
    "container not running",
)
"""Words of runc, containerd and CRI-O when they could not start it. Of any other failure nothing is known."""

Verdict = tuple[ExecOutcome, int | None, str]


def of_handshake(status: int) -> ExecOutcome:
    """Nothing runs before the upgrade."""
    return ExecOutcome.REFUSED if status in (401, 403) else ExecOutcome.NOT_STARTED


def of_status(raw: bytes) -> Verdict:
    """`raw`: all that came on channel 3."""
    if not raw:
        return ExecOutcome.UNKNOWN, None, "the connection ended before it was said how the command ended"
    try:
        said = msgspec.json.decode(raw, type=_Status)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ExecOutcome.UNKNOWN, None, f"how the command ended cannot be read: {raw[:80]!r}"
    if said.status == "Success":
        return ExecOutcome.EXITED, 0, "it ended with exit code 0"
    code = _exit_code(said)
    if code is not None:
        return ExecOutcome.EXITED, code, f"it ended with exit code {code}"
    if any(words in said.message for words in _NEVER_RAN):
        return ExecOutcome.NOT_STARTED, None, f"it was not started: {said.message}"
    return ExecOutcome.UNKNOWN, None, f"{said.reason or said.status}: {said.message or 'no reason given'}"


def _exit_code(said: _Status) -> int | None:
    causes = said.details.causes if said.details else None
    words = next((cause.message for cause in causes or () if cause.reason == "ExitCode"), "")
    return int(words) if words.isdecimal() else None
