"""A certificate authority as small as tests need it: SPIFFE identities in PEM, with any name, lifetime and issuer."""

from __future__ import annotations

import datetime
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hotswitch.rescue.identity import Identity, read_identity

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Pair:
    chain: bytes
    key: bytes
    roots: bytes

    def identity(self) -> Identity:
        return read_identity(self.chain, self.key, self.roots, time.time())

    def client(self, *alpn: str, trusts: bytes | None = None) -> ssl.SSLContext:
        """A mesh client's TLS context with this pair as its certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=(trusts or self.roots).decode())
        context.set_alpn_protocols(list(alpn))
        with TemporaryDirectory() as folder:
            both = Path(folder, "pair.pem")
            both.write_bytes(self.chain + self.key)
            context.load_cert_chain(both)
        return context


class Authority:
    def __init__(self, name: str = "root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = self._builder(self._name, self._key.public_key(), -86400, 86400)
        self._root = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.roots = self._root.public_bytes(PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins_s: float, ends_s: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(seconds=begins_s))
            .not_valid_after(now + datetime.timedelta(seconds=ends_s))
        )

    def issue(self, *uris: str, begins_s: float = -60, ends_s: float = 3600) -> Pair:
        """A fresh key with a certificate that names `uris`; times are seconds from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([]), key.public_key(), begins_s, ends_s)
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            builder = builder.add_extension(names, critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Pair(certificate.public_bytes(PEM), private, self.roots)


def spiffe(namespace: str = "shop", account: str = "web", domain: str = "cluster.local") -> str:
    return f"spiffe://{domain}/ns/{namespace}/sa/{account}"
