"""Identities: only one that is the pod's own, whole and in time is taken, and its key shows itself nowhere (A11)."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import time

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hotswitch.rescue.identity import Expected, Identity, IdentityRefused, PrivateKey, read_identity
from tests.rescue.authority import Authority, Pair, spiffe

pytestmark = pytest.mark.unit


def read(pair: Pair, expected: Expected | None = None, now_unix_s: float | None = None) -> Identity:
    return read_identity(pair.chain, pair.key, pair.roots, now_unix_s or time.time(), expected)


def test_what_is_read() -> None:
    now_unix_s = time.time()
    identity = read(Authority().issue(spiffe("shop", "web"), begins_s=-60, ends_s=7200))
    assert (identity.spiffe_id, identity.trust_domain) == ("spiffe://cluster.local/ns/shop/sa/web", "cluster.local")
    assert identity.not_after_unix_s == pytest.approx(now_unix_s + 7200, abs=2)
    assert identity.not_before_unix_s == pytest.approx(now_unix_s - 60, abs=2)
    assert identity.renew_at_unix_s == pytest.approx(now_unix_s + 3600, abs=2)
    assert not identity.expired(now_unix_s) and identity.expired(now_unix_s + 7202)


def test_chain_ends_with_the_first_of_its_certificates() -> None:
    authority = Authority()
    leaf, intermediate = authority.issue(spiffe(), ends_s=7200), authority.issue(spiffe(), ends_s=600)
    both = dataclasses.replace(leaf, chain=leaf.chain + intermediate.chain)
    assert read(both).not_after_unix_s == pytest.approx(time.time() + 600, abs=2)


def test_key_of_another_certificate_is_refused() -> None:
    authority = Authority()
    pair = dataclasses.replace(authority.issue(spiffe()), key=authority.issue(spiffe()).key)
    with pytest.raises(IdentityRefused, match="does not belong to the certificate"):
        read(pair)


def test_locked_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(IdentityRefused, match="without a password"):
        read(dataclasses.replace(Authority().issue(spiffe()), key=key))


@pytest.mark.parametrize(
    ("lifetime", "why"),
    [({"begins_s": -90, "ends_s": -30}, r"ended 3\d s ago"), ({"begins_s": 60}, r"begins in \d\d s")],
)
def test_certificate_out_of_its_time_is_refused(lifetime: dict[str, float], why: str) -> None:  # S4.2c
    with pytest.raises(IdentityRefused, match=why):
        read(Authority().issue(spiffe(), **lifetime))


def test_roots_that_have_all_ended_are_refused() -> None:
    authority = Authority()
    ended = authority.issue("spiffe://root", begins_s=-90, ends_s=-30)
    with pytest.raises(IdentityRefused, match="all have ended"):
        read(dataclasses.replace(authority.issue(spiffe()), roots=ended.chain))
    read(dataclasses.replace(authority.issue(spiffe()), roots=ended.chain + authority.roots))  # one of two: a rotation


@pytest.mark.parametrize("uris", [(), ("https://pod",), (spiffe(), spiffe("b"))])
def test_certificate_without_one_spiffe_id_is_refused(uris: tuple[str, ...]) -> None:
    with pytest.raises(IdentityRefused, match=r"certificate: "):
        read(Authority().issue(*uris))


@pytest.mark.parametrize(
    ("expected", "why"),
    [
        (Expected("cluster.local", "shop", "web"), ""),
        (Expected(namespace="shop"), ""),
        (Expected("other.org"), "trust domain is not 'other.org'"),
        (Expected("cluster.loca"), "trust domain is not"),
        (Expected("cluster.local", "bank"), "ns is not 'bank'"),
        (Expected("cluster.local", "shop", "root"), "sa is not 'root'"),
    ],
)
def test_somebody_elses_identity_is_refused(expected: Expected, why: str) -> None:
    pair = Authority().issue(spiffe("shop", "web"))
    if why:
        with pytest.raises(IdentityRefused, match=why):
            read(pair, expected)
    else:
        read(pair, expected)


@pytest.mark.parametrize("broken", ["chain", "key", "roots"])
def test_rubbish_is_refused(broken: str) -> None:
    with pytest.raises(IdentityRefused):
        read(dataclasses.replace(Authority().issue(spiffe()), **{broken: b"-----BEGIN nonsense-----"}))


def test_key_shows_itself_nowhere() -> None:  # A11
    pair = Authority().issue(spiffe())
    identity, secret = read(pair), pair.key.decode()
    body = secret.splitlines()[1]
    for shown in (
        repr(identity),
        str(identity),
        repr(identity.key),
        f"{identity.key}",
        repr([identity, {1: identity}]),
    ):
        assert body not in shown
    assert body not in repr(dataclasses.asdict(identity)) and body not in repr(copy.deepcopy(identity))
    assert identity.key.reveal() == pair.key


@pytest.mark.parametrize("dump", [pickle.dumps, json.dumps, msgspec.json.encode, msgspec.msgpack.encode, copy.copy])
def test_key_is_not_serialized(dump: object) -> None:
    key = PrivateKey(b"secret")
    if dump is copy.copy:
        assert copy.copy(key) is key
        return
    with pytest.raises(TypeError):
        dump(key)  # type: ignore[operator]


def test_refusals_do_not_show_the_key() -> None:
    authority = Authority()
    pair = dataclasses.replace(authority.issue(spiffe()), key=authority.issue(spiffe()).key)
    with pytest.raises(IdentityRefused) as refused:
        read(pair)
    assert pair.key.decode().splitlines()[1] not in f"{refused.value}{refused.value!r}{refused.value.__cause__!r}"
