"""A pod's identity from istiod, asked for by a node's agent in its own name, as ztunnel does (S4.3, review 4.2).

The key is made here and never leaves the process: istiod gets a certificate request, and the pod's SPIFFE id in the
request's metadata. It grants that to ServiceAccounts of CA_TRUSTED_NODE_ACCOUNTS alone, and only for identities of pods
on the node that the token's pod runs on. Whoever has such a token may be every workload of its node: so it is off
unless it is configured. It needs no proxy, so it gives an identity where the proxy's own has ended.

Messages: istio.io/api security/v1alpha1/ca.proto, the few fields that are needed. Source of the rules: istio
security/pkg/server/ca (server.go, node_auth.go).
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hotswitch.protowire import every, message, text, whole
from hotswitch.rescue.calls import CallFailed, Line
from hotswitch.rescue.identity import Expected, Identity, IdentityRefused, read_identity

CREATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
ASKED_FOR_S = 24 * 3600  # as workloads do (SECRET_TTL); istiod gives what it allows
TIMEOUT_S = 10.0
MOST_BYTES = 1 << 20  # of an answer: a chain and roots are some 5 kB
_NOT_ALLOWED = re.compile(r"status (7|16):")  # PERMISSION_DENIED; UNAUTHENTICATED is what istiod says


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAccount:
    """`address`: istiod's, host:port, with TLS. `roots`: PEM of its CA (ConfigMap istio-ca-root-cert). `token`: the
    agent's own, of the audience istio-ca and bound to its pod. Files are read anew each time. `server_name`: whose
    certificate istiod must show; "": the host's."""

    address: str
    roots: Path
    token: Path
    server_name: str = ""

    async def issue(
        self, expected: Expected, *, timeout_s: float = TIMEOUT_S, clock: Callable[[], float] = time.time
    ) -> Identity:
        """Raises IdentityRefused: istiod is not there, does not allow it, or gives what is not asked for."""
        spiffe_id = _spiffe_id(expected)
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            async with asyncio.timeout(timeout_s):
                chain = await self._ask(request(csr(key, spiffe_id), spiffe_id))
        except TimeoutError:
            raise IdentityRefused(f"istiod at {self.address}: no answer within {timeout_s:g} s") from None
        except CallFailed as failure:
            raise IdentityRefused(self._refused(spiffe_id, str(failure))) from None
        except (OSError, ValueError) as failure:
            raise IdentityRefused(f"istiod at {self.address}: {failure}") from None
        certificates, roots = _parted(chain)
        return read_identity(certificates, _pem(key), roots or self.roots.read_bytes(), clock(), expected)

    def _refused(self, spiffe_id: str, words: str) -> str:
        if not _NOT_ALLOWED.match(words):
            return f"istiod at {self.address}: {words}"
        return (
            f"istiod at {self.address} does not let this agent have {spiffe_id} ({words}): its ServiceAccount must be"
            " in CA_TRUSTED_NODE_ACCOUNTS, its token of the audience istio-ca, and a pod of that identity on its node"
        )

    async def _ask(self, asked: bytes) -> list[bytes]:
        """The certificates, PEM. Raises OSError, ValueError (Malformed is one)."""
        token = self.token.read_text().strip()
        host, _, port = self.address.rpartition(":")
        name = self.server_name or host.strip("[]")
        context = ssl.create_default_context(cafile=str(self.roots))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            host.strip("[]"), int(port), ssl=context, server_hostname=name, ssl_shutdown_timeout=1.0
        )
        line = Line(reader, writer, MOST_BYTES)
        listening = asyncio.get_running_loop().create_task(line.listen())
        try:
            call = line.call(CREATE, scheme="https", host=name, authorization=f"Bearer {token}")
            await call.send(asked)
            call.say_no_more()
            answers = [answer async for answer in call]
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        return [each for answer in answers for each in every(answer, 1)]


def csr(key: ec.EllipticCurvePrivateKey, spiffe_id: str) -> bytes:
    """PEM. istiod takes the key from it, and the name from the request's metadata."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def request(csr_pem: bytes, spiffe_id: str) -> bytes:
    """An IstioCertificateRequest: csr = 1, validity_duration = 3 (seconds), metadata = 4 (a Struct of one string)."""
    entry = text(1, "ImpersonatedIdentity") + message(2, text(3, spiffe_id))
    return message(1, csr_pem) + whole(3, ASKED_FOR_S) + message(4, message(1, entry))


def _spiffe_id(expected: Expected) -> str:
    if not (expected.trust_domain and expected.namespace and expected.service_account):
        raise IdentityRefused("whose identity it must be is not known (identity.spiffe_id)")
    return f"spiffe://{expected.trust_domain}/ns/{expected.namespace}/sa/{expected.service_account}"


def _parted(chain: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The certificates to show, and the roots, which come last and have issued themselves. Raises IdentityRefused."""
    shown, roots = bytearray(), bytearray()
    try:
        for certificate in (each for pem in chain for each in x509.load_pem_x509_certificates(pem)):
            part = roots if certificate.issuer == certificate.subject else shown
            part += certificate.public_bytes(serialization.Encoding.PEM)
    except ValueError:
        raise IdentityRefused("istiod's answer: not PEM certificates") from None
    return bytes(shown), bytes(roots)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
