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

from hotswitch.protowire import Malformed
from hotswitch.rescue.calls import Line
from hotswitch.rescue.identity import Expected, Identity, IdentityRefused, read_identity
from hotswitch.rescue.wire import Secret, discovered, discovery_request, secret

STREAM_SECRETS = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
IDENTITY, ROOTS = "default", "ROOTCA"  # Istio's resource names (security/pkg: WorkloadKeyCertResourceName, RootCert...)
TIMEOUT_S = 5.0  # pilot-agent answers from its cache; a first certificate takes istiod some 100 ms
MOST_BYTES = 1 << 20  # of an answer: a chain and a key are some 5 kB


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
        except OSError as failure:
            raise IdentityRefused(f"{socket}: {failure.strerror or failure}") from None
    if pair.chain_pem is None or pair.key_pem is None or trust.roots_pem is None:
        raise IdentityRefused(f"{socket}: answered with other kinds of secret than asked for")
    return read_identity(
        _there(pair.chain_pem, "certificate chain"),
        _there(pair.key_pem, "private key"),
        _there(trust.roots_pem, "root certificates"),
        clock(),
        expected,
    )


@contextmanager
def _reachable(socket: Path) -> Iterator[str]:
    """A path that fits sun_path (107 bytes), however deep the volume lies; not followed if it is a link. It names what
    was looked at, whatever the pod puts in its place meanwhile."""
    try:
        found = os.open(socket, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise IdentityRefused(f"{socket}: {error.strerror}") from None
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise IdentityRefused(f"{socket}: not a socket")
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)


async def _ask(path: str) -> tuple[Secret, Secret]:
    """Raises OSError, IdentityRefused."""
    reader, writer = await asyncio.open_unix_connection(path)
    line = Line(reader, writer, MOST_BYTES)
    listening = asyncio.get_running_loop().create_task(line.listen())
    try:
        pair, trust = await asyncio.gather(_secret(line, IDENTITY), _secret(line, ROOTS))
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return pair, trust


async def _secret(line: Line, name: str) -> Secret:
    call = line.call(STREAM_SECRETS)
    await call.send(discovery_request("hotswitch", SECRET_TYPE, name))
    async for answer in call:
        return _named(name, answer)
    raise IdentityRefused(f"{name}: the stream ended without an answer")


def _named(name: str, answer: bytes) -> Secret:
    try:
        secrets = [secret(resource) for resource in discovered(answer)]
    except Malformed:
        raise IdentityRefused(f"{name}: the answer cannot be decoded") from None
    for found in secrets:
        if found.name == name:
            return found
    raise IdentityRefused(f"{name}: not in the answer")


def _there(content: bytes, what: str) -> bytes:
    if not content:
        raise IdentityRefused(f"{what}: not in the answer")
    return content
