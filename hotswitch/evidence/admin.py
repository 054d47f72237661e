"""What Envoy's admin interface says, if it still answers: each question bounded in time and size, all at once (S4.7).

A hung proxy accepts and never answers; a dead one refuses. Neither holds anything up: what has not come by then is
missing, and the evidence says so. A configuration too large to be searched for secrets is kept as a digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections import Counter
from dataclasses import dataclass

import msgspec

from hotswitch import redact
from hotswitch.kernel.netns import Where, inside
from hotswitch.model import ADMIN, Port

QUESTIONS = ("config_dump", "stats", "clusters", "server_info", "certs", "listeners")
JSON = frozenset({"config_dump", "server_info", "certs", "proof"})
TIMEOUT_S = 1.0
ANSWER_BYTES = 8 * 2**20
PARSED_BYTES = 4 * 2**20
TEXT_BYTES = 2**20
_SECTION = re.compile(rb'"@type":\s*"type\.googleapis\.com/([\w.]+)"')
_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` None: `missing` says why there is none."""

    question: str
    body: bytes | None = None
    missing: str = ""


async def ask_all(netns: Where, port: Port = ADMIN) -> list[Answer]:
    return list(await asyncio.gather(*(ask(netns, question, port) for question in QUESTIONS)))


async def ask(netns: Where, question: str, port: Port = ADMIN, at_most: int = ANSWER_BYTES) -> Answer:
    """GET /`question`; never raises for what can go wrong on the way."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status, body = await _get(netns, port, question, at_most)
    except TimeoutError:
        return Answer(question, missing=f"no answer within {TIMEOUT_S:g} s")
    except (OSError, ValueError, IndexError) as failure:
        return Answer(question, missing=str(failure) or type(failure).__name__)
    return Answer(question, body) if status == 200 else Answer(question, missing=f"HTTP {status}")


async def _get(netns: Where, port: Port, question: str, at_most: int) -> tuple[int, bytes]:
    """Envoy refuses HTTP/1.0, and sends what is long in chunks."""
    loop = asyncio.get_running_loop()
    with inside(netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with sock:
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(
            sock, f"GET /{question} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        data = bytearray()
        while len(data) < at_most and (chunk := await loop.sock_recv(sock, _CHUNK)):
            data += chunk
    head, found, body = bytes(data).partition(b"\r\n\r\n")
    if not found:
        raise ConnectionResetError("closed before an answer")
    chunked = b"transfer-encoding: chunked" in head.lower()
    return int(head.split(b" ", 2)[1]), _joined(body) if chunked else body


def _joined(body: bytes) -> bytes:
    """The chunks of `body`, as far as they came. Raises ValueError."""
    parts, at = [], 0
    while (end := body.find(b"\r\n", at)) > 0 and (size := int(body[at:end].partition(b";")[0], 16)):
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def fit(answer: Answer) -> bytes:
    """What of it may be kept: redacted, and not too large. `question` may be another text's name."""
    body = answer.body or b""
    if answer.question not in JSON:
        return redact.text(body[:TEXT_BYTES].decode("utf-8", "replace")).encode()
    if len(body) > PARSED_BYTES:
        return digest(body)
    try:
        return msgspec.json.format(msgspec.json.encode(redact.tree(msgspec.json.decode(body))), indent=1)
    except (msgspec.DecodeError, RecursionError):
        return digest(body)


def digest(body: bytes) -> bytes:
    """Size, hash, and how often each kind of section or resource occurs: enough to compare two of them."""
    pieces = (body[at : at + _CHUNK] for at in range(0, len(body), _CHUNK))
    kinds = Counter(name.decode() for piece in pieces for name in _SECTION.findall(piece))
    told = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "kinds": dict(kinds.most_common(200))}
    return msgspec.json.format(msgspec.json.encode(told), indent=1)
