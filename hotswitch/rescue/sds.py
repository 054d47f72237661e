"""Fetching a pod's identity from its workload socket, while its proxy is well (S4.3, review 4.2).

pilot-agent (or SPIRE) serves Envoy's SDS there and goes down with the proxy, so the identity is fetched before anything
fails. One connection per fetch, closed at once: 250 pods must not cost 250 streams. One stream per secret, as Envoy
itself asks. The socket lies in a volume of the pod: what comes out of it is checked like any stranger's word.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from betterproto2 import Message
from envoy_data_plane.envoy.config.core.v3 import DataSource, Node
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse

from hotswitch.rescue.identity import Expected, Identity, IdentityRefused, read_identity

STREAM_SECRETS = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
IDENTITY, ROOTS = "default", "ROOTCA"  # Istio's resource names (security/pkg: WorkloadKeyCertResourceName, RootCert...)
TIMEOUT_S = 5.0  # pilot-agent answers from its cache; a first certificate takes istiod some 100 ms
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else two pods whose directories got the same descriptor share a connection
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_retries", 0),
)


async def fetch_identity(
    socket: Path,
    expected: Expected | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    clock: Callable[[], float] = time.time,
) -> Identity:
    """Ask the workload socket (…/workload-spiffe-uds/socket) once.

    Raises IdentityRefused when nobody answers within `timeout_s`, when the answer is not a key pair and roots in PEM,
    or when the identity does not pass `read_identity`.
    """
    with _reachable(socket) as target:
        try:
            async with asyncio.timeout(timeout_s):
                pair, trust = await _ask(target)
        except TimeoutError:
            raise IdentityRefused(f"{socket}: no answer within {timeout_s:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise IdentityRefused(f"{socket}: {error.code().name}: {error.details()}") from None
    certificate, context = pair.tls_certificate, trust.validation_context
    if certificate is None or context is None:
        raise IdentityRefused(f"{socket}: answered with other kinds of secret than asked for")
    return read_identity(
        _inline(certificate.certificate_chain, "certificate chain"),
        _inline(certificate.private_key, "private key"),
        _inline(context.trusted_ca, "root certificates"),
        clock(),
        expected,
    )


@contextmanager
def _reachable(socket: Path) -> Iterator[str]:
    """A target that fits sun_path (107 bytes), however deep the volume lies; not followed if it is a link."""
    try:
        directory = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise IdentityRefused(f"{socket}: {error.strerror}") from None
    try:
        if not stat.S_ISSOCK(_mode(socket.name, directory)):
            raise IdentityRefused(f"{socket}: not a socket")
        yield f"unix:/proc/self/fd/{directory}/{socket.name}"
    finally:
        os.close(directory)


def _mode(name: str, directory: int) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except OSError as error:
        raise IdentityRefused(f"{name}: {error.strerror}") from None


async def _ask(target: str) -> tuple[Secret, Secret]:
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        pair, trust = await asyncio.gather(_secret(channel, IDENTITY), _secret(channel, ROOTS))
    return pair, trust


async def _secret(channel: grpc.aio.Channel, name: str) -> Secret:
    stream = channel.stream_stream(
        STREAM_SECRETS, request_serializer=Message.SerializeToString, response_deserializer=DiscoveryResponse.FromString
    )()
    await stream.write(DiscoveryRequest(node=Node(id="hotswitch"), type_url=SECRET_TYPE, resource_names=[name]))
    answer = await stream.read()
    stream.cancel()
    if answer is grpc.aio.EOF or not isinstance(answer, DiscoveryResponse):
        raise IdentityRefused(f"{name}: the stream ended without an answer")
    try:
        secrets = [Secret.FromString(resource.value) for resource in answer.resources]
    except Exception:  # what a decoder raises on a stranger's bytes is not its interface
        raise IdentityRefused(f"{name}: the answer cannot be decoded") from None
    for secret in secrets:
        if secret.name == name:
            return secret
    raise IdentityRefused(f"{name}: not in the answer")


def _inline(source: DataSource | None, what: str) -> bytes:
    """pilot-agent sends the texts themselves; a file name or a key provider is of no use in another process."""
    content = None if source is None else source.inline_bytes or (source.inline_string or "").encode()
    if not content:
        raise IdentityRefused(f"{what}: not in the answer")
    return content
