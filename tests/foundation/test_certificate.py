"""Our reader of certificates against the library that can read all of them, and against rubbish (S4.2c)."""

from __future__ import annotations

import contextlib
import datetime
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hotswitch.certificate import Certificate, Malformed, read_der, read_pem

pytestmark = pytest.mark.unit

KEY = ec.generate_private_key(ec.SECP256R1())
DNS, WEB, POD = x509.DNSName("a.b"), x509.UniformResourceIdentifier("https://a/" + "b" * 300), "spiffe://c/ns/d/sa/e"
SPIFFE = x509.UniformResourceIdentifier(POD)
NEW, OLD = datetime.datetime(2026, 2, 28, 23, 59, 59), datetime.datetime(1951, 1, 1)
FAR = datetime.datetime(2050, 1, 1)  # GeneralizedTime from then on


def made(begins: datetime.datetime, ends: datetime.datetime, *names: x509.GeneralName, bare: bool = False) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    if not bare:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not bare)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def by_library(der: bytes) -> Certificate:
    found = x509.load_der_x509_certificate(der)
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Certificate(begins, ends, None)
    return Certificate(begins, ends, tuple(names.get_values_for_type(x509.UniformResourceIdentifier)))


@pytest.mark.parametrize("names", [(), (DNS,), (SPIFFE,), (DNS, SPIFFE, WEB, SPIFFE)])
@pytest.mark.parametrize(("begins", "ends"), [(NEW, FAR), (OLD, NEW), (FAR, FAR)])
@pytest.mark.parametrize("bare", [False, True])
def test_it_reads_what_the_library_reads(
    names: tuple[x509.GeneralName, ...], begins: datetime.datetime, ends: datetime.datetime, bare: bool
) -> None:
    der = made(begins, ends, *names, bare=bare)
    assert read_der(der) == by_library(der)


def test_a_chain_is_read_in_its_order() -> None:
    ders = [made(NEW, FAR, SPIFFE), made(OLD, NEW)]
    pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in ders)
    assert read_pem(b"# words before\n" + pem.replace(b"\n", b"\r\n")) == [by_library(der) for der in ders]


@pytest.mark.parametrize("text", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"])
def test_what_is_no_pem_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        read_pem(text)


def test_a_broken_one_is_malformed_or_read_as_something_and_never_more() -> None:
    """Cut off anywhere, it is malformed; with any bit turned over, nothing else than Malformed is raised."""
    whole, chance = made(NEW, FAR, DNS, SPIFFE), random.Random(7)
    for size in range(len(whole)):
        with pytest.raises(Malformed):
            read_der(whole[:size])
    for _ in range(4000):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(Malformed):
            read_der(bytes(broken))
    with pytest.raises(Malformed):
        read_der(whole + b"\0")
