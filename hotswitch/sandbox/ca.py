"""A certificate authority of the sandbox's own: SPIFFE identities as istiod issues them, with any lifetime.

Identities are X.509 certificates with the SPIFFE URI as their only name (critical, since the subject is empty); also
ones that have expired already, for the fault of S4.2c. Keys are EC P-256. Nothing here is ever used outside a sandbox.
"""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "cluster.local"
DEFAULT_LIFETIME_S = 24 * 3600.0  # istiod's SECRET_TTL
BACKDATED_S = 120.0  # clocks differ; istiod backdates too


def spiffe_id(namespace: str, account: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{account}"


@dataclass(frozen=True, slots=True)
class Identity:
    """One certificate with its key (PEM), and the root that vouches for it."""

    spiffe_id: str
    chain_pem: bytes
    key_pem: bytes
    root_pem: bytes
    expires_unix_s: float

    def __repr__(self) -> str:
        return f"Identity({self.spiffe_id}, expires_unix_s={self.expires_unix_s:.0f})"  # never the key

    def write(self, directory: Path, uid: int, gid: int) -> None:
        """Write cert-chain.pem, key.pem, root-cert.pem readable by `uid` alone, each replaced in one step."""
        directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(directory, uid, gid)
        files = {"cert-chain.pem": self.chain_pem, "key.pem": self.key_pem, "root-cert.pem": self.root_pem}
        for name, content in files.items():
            fresh = directory / f".{name}"
            fresh.touch(mode=0o600)
            fresh.write_bytes(content)
            os.chown(fresh, uid, gid)
            fresh.rename(directory / name)


class CertificateAuthority:
    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, TRUST_DOMAIN)])
        now = datetime.datetime.now(datetime.UTC)
        self._root = (
            _builder(self._name, self._name, self._key.public_key())
            .not_valid_before(now - datetime.timedelta(days=365))  # identities may be issued into the past
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.root_pem = self._root.public_bytes(serialization.Encoding.PEM)

    def issue(self, spiffe: str, lifetime_s: float = DEFAULT_LIFETIME_S, *, dns: str = "") -> Identity:
        """A new key and certificate for `spiffe`; it ends `lifetime_s` from now, so a negative one has ended. `dns`: a
        server's name, beside it."""
        key = ec.generate_private_key(ec.SECP256R1())
        ends_unix_s = time.time() + lifetime_s
        chain = self.sign(key.public_key(), spiffe, ends_unix_s, dns=dns)
        return Identity(spiffe, chain, _key_pem(key), self.root_pem, ends_unix_s)

    def sign(self, key: CertificatePublicKeyTypes, spiffe: str, ends_unix_s: float, *, dns: str = "") -> bytes:
        """A certificate (PEM) for somebody else's key."""
        now = datetime.datetime.now(datetime.UTC)
        ends = datetime.datetime.fromtimestamp(ends_unix_s, datetime.UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe), *([x509.DNSName(dns)] if dns else [])]
        certificate = (
            _builder(x509.Name([]), self._name, key)
            .not_valid_before(min(now, ends) - datetime.timedelta(seconds=BACKDATED_S))
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes) -> x509.CertificateBuilder:
    serial = x509.random_serial_number()
    return x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key).serial_number(serial)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
