"""Secrets of receivers: signatures, tokens, certificates, and an API server that does not give them (S4.6)."""

import asyncio
import datetime
import ipaddress
import re
import ssl
import tempfile
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hotswitch.cluster.failure import ApiFailure
from hotswitch.report.alerts.held import HeldSecrets
from hotswitch.report.alerts.receiver import SecretRef
from hotswitch.report.alerts.signature import HEADER, sign, verify
from tests.report.receiving import OK, Secrets, Server, dispatching, notice, receiver, status, until

pytestmark = pytest.mark.unit
KEY, TOKEN, CA = (SecretRef("istio-system", "hooks", key) for key in ("signing", "token", "ca"))
GONE = [KeyError("no such key"), ApiFailure(404, "NotFound", ""), ApiFailure(403, "Forbidden", "")]


def test_body_is_signed_with_the_secrets_key_of_now() -> None:
    async def run():
        secrets = Secrets(signing=b"first\n", token=b"Bearer abc\n")
        async with Server([status(503), OK]) as server:
            one = receiver(server, signing=KEY, authorization=TOKEN)
            async with dispatching(one, secrets=secrets) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)
                secrets.values["signing"] = b"second"
                return await server.requests(2)

    for request, key in zip(asyncio.run(run()), (b"first", b"second"), strict=True):
        assert verify(key, request.body, request.headers[HEADER], time.time())
        assert request.headers["Authorization"] == "Bearer abc"


def test_signature_of_another_key_body_or_time_is_none() -> None:
    good = sign(b"key", b"body", 1000.9)
    assert good.startswith("t=1000,v1=") and verify(b"key", b"body", good, 1100)
    assert not verify(b"kez", b"body", good, 1100)
    assert not verify(b"key", b"bodz", good, 1100)
    assert not verify(b"key", b"body", good.replace("1000", "1001"), 1100)
    assert not verify(b"key", b"body", good, 1301) and not verify(b"key", b"body", good, 1)
    assert not verify(b"key", b"body", f"{good},v1=x", 1100)


def test_check_in_the_documentation_is_the_right_one() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/alerts.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    given: dict = {}
    exec(program, given)
    header = sign(b"key", b"body", time.time())
    assert given["genuine"](b"key", b"body", header)
    assert not given["genuine"](b"key", b"bodz", header) and not given["genuine"](b"kez", b"body", header)
    assert not given["genuine"](b"key", b"body", sign(b"key", b"body", time.time() - 400))


@pytest.mark.parametrize(
    "values", [{}, {"signing": b" \n", "token": b"x"}, {"signing": b"k", "token": b"a\r\nEvil: b"}]
)
def test_secret_is_missing_or_empty_or_splits_headers(values) -> None:
    """Nothing goes out unsigned, and nothing of another's making."""

    async def run():
        async with Server() as server:
            one = receiver(server, signing=KEY, authorization=TOKEN)
            async with dispatching(one, secrets=Secrets(**values)) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: dispatcher.counts.results["team", "failed"] >= 2)
            return [request.headers for request in server.got]

    assert asyncio.run(run()) == []


class AwayApi(Secrets):
    """A reader whose API server can go away."""

    failure: Exception | None = None

    async def read(self, ref):
        if self.failure is not None:
            raise self.failure
        return await super().read(ref)


@pytest.mark.parametrize("failure", [ApiFailure(0, "ConnectionLost", ""), ApiFailure(500, "x", ""), OSError(), *GONE])
def test_api_server_is_away_when_people_must_be_told(failure) -> None:
    """What was read last counts on; a Secret that was taken away does not."""

    async def run():
        secrets = AwayApi(signing=b"first")
        async with Server() as server, dispatching(receiver(server, signing=KEY), secrets=secrets) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)
            secrets.failure = failure
            dispatcher.tell(notice("while it is away"))
            await until(lambda: sum(dispatcher.counts.results.values()) >= 2)
            return [str(result) for (_, result) in dispatcher.counts.results]

    assert asyncio.run(run()) == (["sent", "failed"] if failure in GONE else ["sent"])


def test_secret_of_long_ago_counts_no_more() -> None:
    async def run():
        now, secrets = [0.0], AwayApi(signing=b"first")
        held = HeldSecrets(secrets, lambda: now[0])
        await held.read(KEY)
        secrets.failure = OSError()
        assert await held.read(KEY) == b"first"
        now[0] = 3601.0
        for _ in range(2):
            with pytest.raises(OSError):
                await held.read(KEY)

    asyncio.run(run())


@pytest.mark.parametrize(("name", "trusted", "sent"), [("127.0.0.1", True, 1), ("127.0.0.1", False, 0), ("x", True, 0)])
def test_receivers_certificate_is_verified(name, trusted, sent) -> None:
    async def run():
        pem, context = certificate(name)
        async with Server(tls=context) as server:
            one = receiver(f"https://127.0.0.1:{server.port}/", ca=CA if trusted else None, timeout_s=2)
            async with dispatching(one, secrets=Secrets(ca=pem)) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: sum(dispatcher.counts.results.values()) >= 1)
            return len(server.got)

    assert asyncio.run(run()) == sent


def certificate(name):
    """A self-signed one for this address or name, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    alternative = x509.DNSName(name) if name.isalpha() else x509.IPAddress(ipaddress.ip_address(name))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem + secret)
        file.flush()
        context.load_cert_chain(file.name)
    return pem, context
