"""The workload socket: a secret discovery server over a unix socket, as pilot-agent offers it (`default`, `ROOTCA`).

The three messages are encoded here by hand. The library for them takes half a second of CPU to import, and a sidecar
restarts in the middle of measurements on machines with two cores; the layout is checked against it in the tests.
Field numbers: envoy/service/discovery/v3/discovery.proto, envoy/extensions/transport_sockets/tls/v3/secret.proto.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc._utilities  # grpc loads it when first used: too late for a process that became another user
import grpc.aio

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
IDENTITY, ROOTS = "default", "ROOTCA"

_LENGTH_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What matters of a DiscoveryRequest."""

    names: tuple[str, ...]
    nonce: str
    error: bool  # the last answer was refused


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protobuf message: (number, payload or varint). Raises ValueError on other wire types."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            value, at = _read_varint(message, at)
            yield key >> 3, value
        elif key & 7 == _LENGTH_DELIMITED:
            size, at = _read_varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {key & 7}: not used by discovery messages")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def part(number: int, payload: bytes | str) -> bytes:
    data = payload.encode() if isinstance(payload, str) else payload
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data


def parse_request(message: bytes) -> Question:
    names: list[str] = []
    nonce, error = "", False
    for number, value in fields(message):
        if number == 3 and isinstance(value, bytes):
            names.append(value.decode())
        elif number == 5 and isinstance(value, bytes):
            nonce = value.decode()
        elif number == 6:
            error = True
    return Question(tuple(names), nonce, error)


def encode_response(version: str, secrets: Mapping[str, bytes], nonce: str) -> bytes:
    """A DiscoveryResponse with the encoded Secret messages `secrets`."""
    resources = b"".join(part(2, part(1, SECRET_TYPE) + part(2, secret)) for secret in secrets.values())
    return part(1, version) + resources + part(4, SECRET_TYPE) + part(5, nonce)


def encode_identity(chain_pem: bytes, key_pem: bytes) -> bytes:
    certificate = part(1, part(2, chain_pem)) + part(2, part(2, key_pem))
    return part(1, IDENTITY) + part(2, certificate)


def encode_roots(root_pem: bytes) -> bytes:
    return part(1, ROOTS) + part(4, part(1, part(2, root_pem)))


def read_secrets(directory: Path) -> dict[str, bytes]:
    """The two secrets from cert-chain.pem, key.pem and root-cert.pem. Raises OSError when one is missing."""
    chain, key = (directory / "cert-chain.pem").read_bytes(), (directory / "key.pem").read_bytes()
    roots = (directory / "root-cert.pem").read_bytes()
    return {IDENTITY: encode_identity(chain, key), ROOTS: encode_roots(roots)}


class SecretServer:
    """Serves what `load` returns; `rotate` reads again and pushes to every open stream."""

    def __init__(self, load: Callable[[], dict[str, bytes]]) -> None:
        self._load = load
        self._secrets = load()
        self._version = 1
        self._changed = asyncio.Event()

    def rotate(self) -> None:
        self._secrets = self._load()
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def start(self, socket_path: Path) -> grpc.aio.Server:
        server = grpc.aio.server()
        methods = {
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(self.stream),
            "FetchSecrets": grpc.unary_unary_rpc_method_handler(self.fetch),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        server.add_insecure_port(f"unix:{socket_path}")
        os.chmod(socket_path, 0o666)  # as Istio's own (pkg/uds)
        await server.start()
        return server

    def answer(self, names: tuple[str, ...], nonce: str) -> bytes:
        wanted = {name: self._secrets[name] for name in names if name in self._secrets}
        return encode_response(str(self._version), wanted, nonce)

    async def fetch(self, request: bytes, context: Any) -> bytes:
        return self.answer(parse_request(request).names, "1")

    async def stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """State of the world: answer when the names change or a rotation happens; acks and refusals need no answer."""
        names: tuple[str, ...] = ()
        sent = 0
        asked = asyncio.ensure_future(anext(requests, None))
        turned = asyncio.ensure_future(self._changed.wait())
        try:
            while True:
                await asyncio.wait({asked, turned}, return_when=asyncio.FIRST_COMPLETED)
                due = turned.done()
                if due:
                    turned = asyncio.ensure_future(self._changed.wait())
                if asked.done():
                    message = asked.result()
                    if message is None:
                        return
                    question = parse_request(message)
                    due, names = due or question.names != names, question.names
                    asked = asyncio.ensure_future(anext(requests, None))
                if due and names:
                    sent += 1
                    yield self.answer(names, str(sent))
        finally:
            asked.cancel()
            turned.cancel()
