"""The other side of the agent's door (agent.control): one request, one answer, over its unix socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

DEFAULT_SOCKET = Path("/run/hotswitch/agent.sock")
ANSWER_TIMEOUT_S = 10.0


class AgentError(RuntimeError):
    """The agent refused, or could not be asked; the message is a sentence for a person."""


def ask(path: Path, request: dict[str, Any], timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
    """Raises AgentError."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = _read_all(sock)
    except FileNotFoundError:
        raise AgentError(f"{path}: no agent listens there (is it running? give its socket with --socket)") from None
    except OSError as failure:
        raise AgentError(f"{path}: the agent cannot be asked: {failure}") from failure
    if not answer:
        raise AgentError(f"{path}: the agent closed the connection without an answer")
    content: dict[str, Any] = json.loads(answer)
    if "error" in content:
        raise AgentError(str(content["error"]))
    return content


def _read_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)
