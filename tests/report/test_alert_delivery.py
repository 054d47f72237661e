"""Receivers that are slow, broken or hostile, as real servers; and a controller that restarts in the middle (S4.6)."""

import asyncio
import datetime
import ipaddress
import json
import re
import ssl
import tempfile
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hotswitch.cluster.failure import ApiFailure
from hotswitch.report.alerts import guard
from hotswitch.report.alerts.backoff import Backoff, retry_after_s
from hotswitch.report.alerts.guard import Rules
from hotswitch.report.alerts.held import HeldSecrets
from hotswitch.report.alerts.receiver import Kind, SecretRef
from hotswitch.report.alerts.signature import HEADER, sign, verify
from hotswitch.report.alerts.store import FileStore, MemoryStore, file_name
from hotswitch.report.notice import Severity
from tests.report.receiving import LOOPBACK, OK, Counted, Secrets, Server, dispatching, notice, receiver, status, until

pytestmark = pytest.mark.unit
KEY, TOKEN, CA = (SecretRef("istio-system", "hooks", key) for key in ("signing", "token", "ca"))


async def endless_body(writer):
    writer.write(b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


async def endless_refusal(writer):
    writer.write(b"HTTP/1.1 400 x\r\ncontent-length: 99999999999\r\n\r\n")
    while True:
        writer.write(bytes(0x10000))
        await writer.drain()


async def huge_headers(writer):
    writer.write(b"HTTP/1.1 200 x\r\n")
    while True:
        writer.write(b"x-padding: " + b"y" * 60_000 + b"\r\n")
        await writer.drain()


async def many_headers(writer):
    writer.write(b"HTTP/1.1 200 x\r\n")
    while True:
        writer.write(b"a: b\r\n" * 1000)
        await writer.drain()


async def drop_by_drop(writer):
    for letter in b"HTTP/1.1 200 x\r\n" + b"x" * 9999:
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def hangs_up(writer):
    writer.transport.abort()


async def bomb(writer):
    """Ten gigabytes if somebody unpacked it."""
    writer.write(b"HTTP/1.1 400 x\r\ncontent-encoding: gzip\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000))
    await writer.drain()


HOSTILE = [
    None, endless_body, endless_refusal, huge_headers, many_headers, drop_by_drop, hangs_up, bomb, b"SSH-2.0-x\r\n",
    b"HTTP/1.1 200 x\r\nset-cookie: " + b"z" * 99999 + b"\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"\x00" * 9999,
    b"HTTP/1.1 200 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    status(302, "location: http://127.0.0.1:1/"),
]  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: getattr(answer, "__name__", repr(answer)[:20]))
def test_hostile_receiver_delays_neither_the_teller_nor_the_others(answer) -> None:
    async def run():
        async with Server([answer]) as hostile, Server() as good:
            bad = receiver(hostile, name="bad", timeout_s=0.3)
            async with dispatching(bad, receiver(good, name="good")) as dispatcher:
                lag = asyncio.create_task(longest_lag_s())
                took_s = [time_of(lambda n=n: dispatcher.tell(notice(f"k{n}", code=f"HSD{n:03}"))) for n in range(20)]
                assert sorted(took_s)[10] < 0.05
                await good.requests(20)
                await until(lambda: hostile.connections >= 2)
                lag.cancel()
                assert dispatcher.counts.results["bad", "sent"] == 0
                assert dispatcher.counts.results["good", "failed"] == 0
            return await lag

    assert asyncio.run(run()) < 2.0, "other work waited for this long"


def time_of(call):
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


async def longest_lag_s():
    """How late others' turns came."""
    longest = 0.0
    try:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)
    except asyncio.CancelledError:
        return longest


def test_slow_name_server_delays_only_its_receiver(monkeypatch) -> None:
    """Lookups block threads: those of everybody else must not be among them."""
    release, waiting = threading.Event(), []
    real = guard._look_up

    def slow(host, port, family):
        if host == "slow.example.com":
            waiting.append(host)
            release.wait(20)
        return real("127.0.0.1", port, family)

    monkeypatch.setattr(guard, "_look_up", slow)

    async def run():
        names = frozenset({"slow.example.com", "good.example.com"})
        rules = Rules(allow_networks=LOOPBACK.allow_networks, allow_http=names)
        async with Server() as server:
            url = f"http://slow.example.com:{server.port}/"
            slow_ones = [receiver(url, name=f"slow{n}", timeout_s=0.2, rules=rules) for n in range(40)]
            good = receiver(f"http://good.example.com:{server.port}/", name="good", rules=rules)
            async with dispatching(*slow_ones, good) as dispatcher:
                dispatcher.tell(notice())
                await until(lambda: len(waiting) == 40, "each waits in a thread of its own")
                await server.requests(1)
                assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 1) == 7, "the common threads are free"
                release.set()

    try:
        asyncio.run(run())
    finally:
        release.set()


def test_receiver_is_down_for_a_while() -> None:
    async def run():
        async with Server([status(503), status(500), status(404), status(429), OK]) as server:
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice())
                got = await server.requests(5)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
                assert dispatcher.counts.results["team", "failed"] == 4
            return [request.headers["Hotswitch-Id"] for request in got]

    assert len(set(asyncio.run(run()))) == 1, "attempts at one message have one id"


def test_receiver_asks_for_patience() -> None:
    async def run():
        async with Server([status(429, "retry-after: 1"), OK]) as server:
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)
                asked = time.monotonic()
                dispatcher.tell(notice("other"))  # is no reason to come earlier
                await server.requests(2)
            return time.monotonic() - asked

    assert asyncio.run(run()) >= 0.9


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after_s("120", 0) == 120
    assert retry_after_s("Thu, 01 Jan 1970 00:02:00 GMT", 60) == 60
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT", 60) == 0
    for nonsense in (None, "", "soon", "-5", "1e9", "9" * 999, "Thu, 99 Jan 1970 99:99:99 GMT"):
        assert retry_after_s(nonsense, 0) is None
    assert Backoff(base_s=0.001).failed(1e12) <= 3600


def test_back_off_grows_to_a_bound_and_is_not_the_same_for_all() -> None:
    backoff = Backoff(base_s=1, at_most_s=60)
    waits = [backoff.failed() for _ in range(100)]
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits[:6]))
    assert all(30 <= wait <= 60 for wait in waits[6:])
    assert len(set(waits[6:])) > 50
    backoff.succeeded()
    assert backoff.failed() <= 1


def test_a_message_is_refused_for_good_and_the_next_goes_through() -> None:
    async def run():
        async with Server([status(400), OK]) as server:
            async with dispatching(receiver(server)) as dispatcher:
                dispatcher.tell(notice("never"))
                await server.requests(1)
                dispatcher.tell(notice("next"))
                got = await server.requests(2)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
                assert dispatcher.counts.results["team", "dropped"] == 1
            return [json.loads(request.body)["key"] for request in got]

    assert asyncio.run(run()) == ["never", "next"]


def test_one_alert_of_many_is_refused_by_alertmanager() -> None:
    """The others must not suffer from it: they are sent one by one."""

    async def run():
        async with Server([status(400), status(400), OK]) as server:
            async with dispatching(receiver(server, kind=Kind.ALERTMANAGER)) as dispatcher:
                for key in "abc":
                    dispatcher.tell(notice(key))
                got = await server.requests(4)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 2)
            return [len(json.loads(request.body)) for request in got]

    assert asyncio.run(run()) == [3, 1, 1, 1]


@pytest.mark.parametrize("when", ["before it was sent", "while it was on its way", "after it was sent"])
def test_controller_restarts(tmp_path, when) -> None:
    """Nothing is lost, and what was said is not said anew."""

    async def run():
        store = FileStore(tmp_path)
        answer = {"before it was sent": status(503), "while it was on its way": None, "after it was sent": OK}[when]
        async with Server([answer]) as server, dispatching(receiver(server), store=store) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)
            if answer is OK:
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
        async with Server() as server:
            async with dispatching(receiver(server), store=store) as dispatcher:
                dispatcher.tell(notice(sentence="Told again by a controller that starts."))
                if answer is OK:
                    dispatcher.tell(notice(ends=1_764_230_500.0))
                (got,) = await server.requests(1)
                await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
            return json.loads(got.body)["phase"]

    assert asyncio.run(run()) == ("resolved" if when == "after it was sent" else "fired")


def test_controller_is_killed_without_a_word(tmp_path) -> None:
    """No stop, no last save: what was saved soon after the notice is enough."""

    async def run():
        store = FileStore(tmp_path)
        async with Server([status(503)]) as server, dispatching(receiver(server), store=store) as dispatcher:
            dispatcher.tell(notice())
            await until(lambda: list(tmp_path.glob("*.json")))
            kept = next(tmp_path.glob("*.json")).read_bytes()
        next(tmp_path.glob("*.json")).write_bytes(kept)
        async with Server() as server, dispatching(receiver(server), store=store):
            (got,) = await server.requests(1)
            return json.loads(got.body)["key"]

    assert asyncio.run(run()) == "u1/HSD001"


class BrokenStore:
    async def load(self, name):
        raise OSError("the API server is away")

    async def save(self, name, content):
        raise AssertionError("what was not read must not be overwritten")

    async def remove(self, name):
        raise OSError


def test_store_is_away_and_alerts_go_out_all_the_same() -> None:
    async def run():
        async with Server() as server, dispatching(receiver(server), store=BrokenStore()) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)

    asyncio.run(run())


class SlowStore(MemoryStore):
    """Nothing is read before `opens`."""

    def __init__(self, saved=None) -> None:
        super().__init__()
        self.saved = dict(saved or {})
        self.asked, self.opens = asyncio.Event(), asyncio.Event()

    async def load(self, name):
        self.asked.set()
        await self.opens.wait()
        return await super().load(name)


def test_what_was_said_before_is_read_late() -> None:
    """A leader begins with its own words before the API server has answered: nobody hears the same twice."""

    async def run():
        before, matter = MemoryStore(), notice()
        async with Server() as server, dispatching(receiver(server), store=before) as dispatcher:
            dispatcher.tell(matter)
            await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
        store = SlowStore(before.saved)
        async with Server() as server, dispatching(receiver(server), store=store, read_within_s=60) as dispatcher:
            dispatcher.tell(matter)
            await store.asked.wait()
            store.opens.set()
            dispatcher.tell(notice("u2/HSD001"))
            await server.requests(1)
            await until(lambda: dispatcher.counts.results["team", "sent"] >= 1)
            return [json.loads(request.body)["key"] for request in server.got]

    assert asyncio.run(run()) == ["u2/HSD001"]


def test_store_never_answers_and_alerts_go_out_all_the_same() -> None:
    async def run():
        store = SlowStore()
        async with Server() as server, dispatching(receiver(server), store=store, read_within_s=0.01) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)
            store.opens.set()

    asyncio.run(run())


def test_save_that_was_given_up_comes_late(tmp_path) -> None:
    """Its thread gets the file after a newer one: the newer content stays."""
    store = FileStore(tmp_path)
    store._carry_out("team", b"new", 2)
    store._carry_out("team", b"old", 1)
    assert asyncio.run(store.load("team")) == b"new"


def test_store_holds_garbage(tmp_path) -> None:
    async def run():
        (tmp_path / f"{file_name('team')}.json").write_bytes(b'{"matters": [{"notice": 7}]')
        async with Server() as server, dispatching(receiver(server), store=FileStore(tmp_path)) as dispatcher:
            dispatcher.tell(notice())
            await server.requests(1)

    asyncio.run(run())


def test_state_is_for_its_owner_alone(tmp_path) -> None:
    async def run():
        store = FileStore(tmp_path / "alerts")
        await store.save("shop/team", b"{}")
        await store.save("shop-team", b"[]")
        assert await store.load("shop/team") == b"{}" and await store.load("none") is None
        await store.remove("shop/team")
        await store.remove("shop/team")

    asyncio.run(run())
    (left,) = (tmp_path / "alerts").iterdir()
    assert (left.stat().st_mode & 0o777, left.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_receiver_leaves_the_policy_and_comes_back() -> None:
    async def run():
        async with Server() as server:
            one = receiver(server)
            async with dispatching(one) as dispatcher:
                dispatcher.tell(notice())
                await server.requests(1)
                await dispatcher.configure([])
                dispatcher.tell(notice("nobody hears this"))
                await dispatcher.configure([one])
                dispatcher.tell(notice("new"))
                got = await server.requests(2)
            return [json.loads(request.body)["key"] for request in got]

    assert asyncio.run(run()) == ["u1/HSD001", "new"]


def test_policies_change_faster_than_workers_end() -> None:
    """Whoever came last wins, and nothing is left running."""

    async def run():
        async with Server() as server, dispatching(receiver(server, name="first")) as dispatcher:
            await dispatcher.configure([receiver(server, name=name) for name in "abc"])
            many = [[], *([receiver(server, name=f"r{n}")] if n % 2 else [] for n in range(10))]
            await asyncio.gather(*(dispatcher.configure(each) for each in many))
            dispatcher.tell(notice())
            await until(lambda: dispatcher.counts.results["r9", "sent"] == 1)
            await asyncio.gather(dispatcher.stop(), dispatcher.configure([receiver(server)]))
            dispatcher.tell(notice("too late"))
            assert len(asyncio.all_tasks()) <= 2 + server.connections
            return [each for each in dispatcher.counts.results if each[1] == "sent"], dispatcher.standing()

    sent, standing = asyncio.run(run())
    assert sent == [("r9", "sent")] and standing == {}


@pytest.mark.parametrize("deposed", [True, False])
def test_deposed_leader_leaves_the_state_to_the_next(deposed) -> None:
    async def run():
        store = MemoryStore()
        async with Server() as server, dispatching(receiver(server), store=store, save_every_s=3600) as dispatcher:
            dispatcher.tell(notice())
            await until(lambda: dispatcher.counts.results["team", "sent"] == 1)
            store.saved["team"] = b"the next leader's"
            await dispatcher.stop(save=not deposed)
            return store.saved["team"]

    assert (asyncio.run(run()) == b"the next leader's") is deposed


def test_receivers_are_not_known_yet() -> None:
    async def run():
        async with Server() as server, dispatching() as dispatcher:
            dispatcher._configured = False
            dispatcher.tell(notice())
            await dispatcher.configure([receiver(server)])
            await server.requests(1)

    asyncio.run(run())


def test_notice_goes_to_those_it_names_and_its_end_to_those_who_were_told() -> None:
    async def run():
        async with Server() as root, Server() as team, Server() as pager:
            async with dispatching(
                receiver(root, name="root"),
                receiver(team, name="shop/team", default=False),
                receiver(pager, name="pager", at_least=Severity.CRITICAL),
            ) as dispatcher:
                dispatcher.tell(notice("named", receivers=("shop/team",)))
                await team.requests(1)
                dispatcher.tell(notice("named", ends=1_764_230_500.0, severity=Severity.INFO))  # its policy is gone
                await team.requests(2)
                dispatcher.tell(notice("unnamed"))
                dispatcher.tell(notice("unknown", receivers=("shop/gone",)))
                dispatcher.tell(notice("page", severity=Severity.CRITICAL))
                await root.requests(3)
                (paged,) = await pager.requests(1)
                await until(lambda: dispatcher.counts.results["pager", "sent"] == 1)
                names = [json.loads(each.body)["key"] for each in root.got]
            return json.loads(paged.body)["key"], sorted(names), len(team.got)

    assert asyncio.run(run()) == ("page", ["page", "unknown", "unnamed"], 2)


def test_telling_never_raises() -> None:
    async def run():
        async with Server() as server, dispatching(receiver(server)) as dispatcher:
            dispatcher.tell(None)
            dispatcher.tell(notice(labels={"x": object()}, evidence={1: 2}))
            await server.requests(1)

    asyncio.run(run())


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


GONE = [KeyError("no such key"), ApiFailure(404, "NotFound", ""), ApiFailure(403, "Forbidden", "")]


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


def test_queue_is_shown_and_forgotten() -> None:
    async def run():
        async with Server([status(503)]) as server, dispatching(receiver(server)) as dispatcher:
            for key in "abc":
                dispatcher.tell(notice(key))
            assert isinstance(dispatcher.counts, Counted) and dispatcher.counts.queued["team"] == 3
            await dispatcher.configure([])
            return dispatcher.counts.queued

    assert asyncio.run(run()) == {}
