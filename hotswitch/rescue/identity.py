"""A pod's identity: certificate chain, private key and roots, checked before anybody relies on them.

The key lives in memory only. `PrivateKey` hides it from repr, str, pickle and json, so that it cannot slip into a log,
a journal or a message; whoever needs the bytes has to say `reveal()`, and only the xDS server does. An identity that is
not the pod's own, does not fit its key, or has run out is refused (IdentityRefused), and the caller falls to the next
level (I2, S4.2c).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization


class IdentityRefused(ValueError):
    """This identity must not be used; the message says why, never with key material."""


class PrivateKey:
    """A PEM private key that shows itself to nobody by accident."""

    __slots__ = ("_pem",)

    def __init__(self, pem: bytes) -> None:
        self._pem = pem

    def reveal(self) -> bytes:
        return self._pem

    def __repr__(self) -> str:
        return "PrivateKey(hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not serialized")

    def __copy__(self) -> PrivateKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> PrivateKey:
        return self


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM texts, and what was read out of them. Instants are wall clock, since certificates are."""

    chain_pem: bytes
    key: PrivateKey
    roots_pem: bytes
    spiffe_id: str
    not_before_unix_s: float
    not_after_unix_s: float  # of the first certificate of the chain to end
    fetched_unix_s: float

    def __repr__(self) -> str:
        return f"Identity({self.spiffe_id}, not_after_unix_s={self.not_after_unix_s:.0f})"

    @property
    def trust_domain(self) -> str:
        return self.spiffe_id.removeprefix("spiffe://").partition("/")[0]

    @property
    def renew_at_unix_s(self) -> float:
        """Half of the life it had left when it was fetched, as Istio's agent renews (SECRET_GRACE_PERIOD_RATIO 0.5)."""
        return (self.fetched_unix_s + self.not_after_unix_s) / 2

    def expired(self, now_unix_s: float) -> bool:
        return now_unix_s >= self.not_after_unix_s


@dataclass(frozen=True, slots=True)
class Expected:
    """Whose identity it has to be; empty: anybody's."""

    trust_domain: str = ""
    namespace: str = ""
    service_account: str = ""


def read_identity(
    chain_pem: bytes, key_pem: bytes, roots_pem: bytes, now_unix_s: float, expected: Expected | None = None
) -> Identity:
    """Check everything that can be known without a peer. Raises IdentityRefused."""
    chain, roots = _certificates(chain_pem, "certificate chain"), _certificates(roots_pem, "root certificates")
    identity = Identity(
        chain_pem=chain_pem,
        key=PrivateKey(key_pem),
        roots_pem=roots_pem,
        spiffe_id=_spiffe_id(chain[0]),
        not_before_unix_s=max(_unix(certificate.not_valid_before_utc) for certificate in chain),
        not_after_unix_s=min(_unix(certificate.not_valid_after_utc) for certificate in chain),
        fetched_unix_s=now_unix_s,
    )
    _check_key(chain[0], key_pem)
    _check_time(identity, roots, now_unix_s)
    _check_name(identity, expected or Expected())
    return identity


def _unix(instant: datetime.datetime) -> float:
    return instant.timestamp()


def _certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise IdentityRefused(f"{what}: not PEM certificates") from None


def _spiffe_id(leaf: x509.Certificate) -> str:
    """X.509-SVID section 2: exactly one URI, and it is the identity."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        raise IdentityRefused("certificate: carries no name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise IdentityRefused(f"certificate: {uris!r} is not one SPIFFE id")
    return uris[0]


def _check_key(leaf: x509.Certificate, key_pem: bytes) -> None:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityRefused("private key: not a PEM key that can be read without a password") from None
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(encoding, form) != leaf.public_key().public_bytes(encoding, form):
        raise IdentityRefused("private key: does not belong to the certificate")


def _check_time(identity: Identity, roots: list[x509.Certificate], now_unix_s: float) -> None:
    if identity.expired(now_unix_s):
        raise IdentityRefused(f"certificate: ended {now_unix_s - identity.not_after_unix_s:.0f} s ago")
    if now_unix_s < identity.not_before_unix_s:
        raise IdentityRefused(f"certificate: begins in {identity.not_before_unix_s - now_unix_s:.0f} s")
    if all(_unix(root.not_valid_after_utc) <= now_unix_s for root in roots):
        raise IdentityRefused("root certificates: all have ended")


def _check_name(identity: Identity, expected: Expected) -> None:
    if expected.trust_domain and identity.trust_domain != expected.trust_domain:
        raise IdentityRefused(f"{identity.spiffe_id}: trust domain is not {expected.trust_domain!r}")
    path = identity.spiffe_id.removeprefix(f"spiffe://{identity.trust_domain}")
    parts = path.split("/")
    named = dict(zip(parts[1::2], parts[2::2], strict=False))
    for segment, wanted in (("ns", expected.namespace), ("sa", expected.service_account)):
        if wanted and named.get(segment) != wanted:
            raise IdentityRefused(f"{identity.spiffe_id}: {segment} is not {wanted!r}")
    exact = f"/ns/{expected.namespace}/sa/{expected.service_account}"
    if expected.namespace and expected.service_account and path != exact:
        raise IdentityRefused(f"{identity.spiffe_id}: path is not {exact!r}")
