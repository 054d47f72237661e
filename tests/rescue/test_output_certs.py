"""Identities from pilot-agent's files: only whole ones, only the pod's own, and no way out of its volume (A11)."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest
from cryptography import x509

from hotswitch.model import Mtls
from hotswitch.rescue.identity import Expected, Identity, IdentityRefused
from hotswitch.rescue.output_certs import CHAIN, KEY, MOST_BYTES, ROOTS, is_replaced, read_output_certs
from tests.rescue.authority import Authority, Pair, spiffe
from tests.rescue.world import World, world

OURS = Expected("cluster.local", "shop", "web")


def write(directory: Path, pair: Pair) -> None:
    """As pilot-agent does it: each file by itself, in one step, readable for all."""
    for name, content in ((KEY, pair.key), (CHAIN, pair.chain), (ROOTS, pair.roots)):
        fresh = directory / f".{name}"
        fresh.write_bytes(content)
        fresh.chmod(0o644)
        fresh.rename(directory / name)


def refusal(directory: Path, expected: Expected = OURS) -> str:
    with pytest.raises(IdentityRefused) as refused:
        read_output_certs(directory, expected)
    return str(refused.value)


@pytest.mark.unit
def test_what_is_written_is_read_and_read_anew(tmp_path: Path) -> None:
    authority = Authority()
    first, second = authority.issue(spiffe()), authority.issue(spiffe(), ends_s=7200)
    write(tmp_path, first)
    identity = read_output_certs(tmp_path, OURS)
    assert (identity.spiffe_id, identity.key.reveal(), identity.roots_pem) == (spiffe(), first.key, authority.roots)
    assert not is_replaced(tmp_path, identity)
    write(tmp_path, second)
    assert is_replaced(tmp_path, identity)
    assert read_output_certs(tmp_path, OURS).key.reveal() == second.key
    (tmp_path / CHAIN).unlink()
    assert not is_replaced(tmp_path, identity), "what cannot be read is nothing better"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("uri", "lifetime", "why"),
    [
        (spiffe(domain="other.org"), {}, "trust domain is not 'cluster.local'"),
        (spiffe("bank"), {}, "ns is not 'shop'"),
        (spiffe(account="root"), {}, "sa is not 'web'"),
        (spiffe() + "/more/words", {}, "path is not '/ns/shop/sa/web'"),
        (spiffe(), {"begins_s": -90, "ends_s": -30}, "ended 3"),
        (spiffe(), {"begins_s": 60}, "begins in"),
    ],
)
def test_another_pods_or_an_ended_one_is_refused(
    tmp_path: Path, uri: str, lifetime: dict[str, float], why: str
) -> None:
    write(tmp_path, Authority().issue(uri, **lifetime))
    assert why in refusal(tmp_path)


@pytest.mark.unit
def test_whose_it_must_be_has_to_be_known(tmp_path: Path) -> None:
    write(tmp_path, Authority().issue(spiffe()))
    assert "not known" in refusal(tmp_path, Expected("cluster.local"))


@pytest.mark.unit
def test_read_between_two_files(tmp_path: Path) -> None:
    authority = Authority()
    torn = dataclasses.replace(authority.issue(spiffe()), key=authority.issue(spiffe()).key)
    write(tmp_path, torn)
    why = refusal(tmp_path)
    assert "does not belong to the certificate" in why
    assert torn.key.decode().splitlines()[1] not in why


@pytest.mark.unit
@pytest.mark.parametrize("name", [CHAIN, KEY, ROOTS])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, name: str) -> None:
    """A link could lead to our own files, a pipe would never end."""
    volume, other = tmp_path / "volume", tmp_path / "other"
    for directory in (volume, other):
        directory.mkdir()
        write(directory, Authority().issue(spiffe()))
    (volume / name).unlink()
    assert refusal(volume) == f"{name}: No such file or directory"
    (volume / name).symlink_to(other / name)
    assert refusal(volume).startswith(f"{name}: ")
    (volume / name).unlink()
    os.mkfifo(volume / name)
    assert refusal(volume) == f"{name}: not a plain file"
    (volume / name).unlink()
    (volume / name).write_bytes(b"x" * (MOST_BYTES + 1))
    assert refusal(volume) == f"{name}: larger than {MOST_BYTES} bytes"


async def shown(w: World) -> int:
    """The serial number of the certificate by which the rescue answers a meshed client."""
    _, writer = await w.connect(tls=w.client())
    return x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True)).serial_number


def serial(identity: Identity) -> int:
    return x509.load_pem_x509_certificate(identity.chain_pem).serial_number


@pytest.mark.envoy
def test_rescue_serves_by_the_files_and_by_what_they_become(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(mtls=Mtls.STRICT) as w:
            for _ in range(2):
                write(tmp_path, w.authority.issue(spiffe()))
                identity = read_output_certs(tmp_path, OURS)
                await w.rescue.update_identity(w.pod.key, identity)
                assert await shown(w) == serial(identity)
                assert (await w.ask(tls=w.client())).served and not (await w.ask()).served

    asyncio.run(scenario())
