"""Every pod is asked, each on its own, for ever; what is decided counts answers in a row (S0.1, S0.2, S0.6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.backends import Check, CheckKind, Health, ServiceOptions
from hotswitch.endpoints import checks
from hotswitch.endpoints.probing import Prober, Tally
from hotswitch.endpoints.registry import Registry
from tests.endpoints.make import SERVICE, backend, service
from tests.endpoints.town import story, until

pytestmark = pytest.mark.k8s
WELL, ILL, NOTHING = Health.AVAILABLE, Health.UNAVAILABLE, Health.UNKNOWN
PATIENT = Check(CheckKind.HTTP, 8080, "/", timeout_s=20.0)


def told(check: Check, *answers: Health) -> Health:
    tally = Tally()
    for each in answers:
        tally = tally.with_answer(each, check)
    return tally.health


def test_thresholds_count_in_a_row() -> None:  # S0.2
    check = replace(PATIENT, rise=2, fall=3)
    assert told(check, WELL) is NOTHING
    assert told(check, WELL, WELL) is WELL
    assert told(check, WELL, WELL, ILL, ILL) is WELL
    assert told(check, WELL, WELL, ILL, ILL, WELL, ILL, ILL) is WELL
    assert told(check, WELL, WELL, ILL, ILL, ILL) is ILL
    assert told(check, WELL, WELL, ILL, ILL, ILL, WELL) is ILL


@given(st.lists(st.sampled_from(list(Health)), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_only_a_whole_row_changes_anything(answers: list[Health], rise: int, fall: int) -> None:
    check = replace(PATIENT, rise=rise, fall=fall)
    tally = Tally()
    for number, each in enumerate(answers):
        after = tally.with_answer(each, check)
        if after.health is not tally.health:
            row = [said for said in answers[: number + 1] if said is not NOTHING]
            assert set(row[-(rise if after.health is WELL else fall) :]) == {after.health}
        tally = after


async def answer(check: Check, address: str = "127.0.0.1") -> Health:
    done: asyncio.Future[Health] = asyncio.get_running_loop().create_future()
    question = checks.ask(check, address, lambda health, detail: done.set_result(health))
    try:
        return await asyncio.wait_for(done, 30)
    finally:
        question.cancel()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http(handler: Handler) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", handler)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("status", "health"), [(200, WELL), (204, WELL), (302, WELL), (404, ILL), (500, ILL)])
def test_http(status: int, health: Health) -> None:
    async def run() -> None:
        async def say(_: web.Request) -> web.Response:
            return web.Response(status=status)

        async with http(say) as port:
            assert await answer(replace(PATIENT, port=port)) is health

    asyncio.run(run())


@story
async def test_http_that_never_answers_and_a_port_that_is_shut() -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with http(hang) as port:
        assert await answer(replace(PATIENT, port=port, timeout_s=0.3)) in (
            ILL,
            NOTHING,
        )  # NOTHING: our own loop was late
    assert await answer(replace(PATIENT, port=port)) is ILL


@story
async def test_tcp() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    assert await answer(replace(PATIENT, kind=CheckKind.TCP, port=port)) is WELL
    server.close()
    await server.wait_closed()
    assert await answer(replace(PATIENT, kind=CheckKind.TCP, port=port)) is ILL


@story
async def test_grpc_health() -> None:
    """The health service's own words: 1 is SERVING, 2 is not; another service name is not known."""

    def check(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"\x0a\x02db":
            return b"\x08\x02"
        if request == b"\x0a\xb4\x01" + b"d" * 180:
            return b"\x08\x01"
        if request:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08\x01"

    methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server = grpc.server(
        ThreadPoolExecutor(2), [grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    asked = replace(PATIENT, kind=CheckKind.GRPC, port=port, path="")
    try:
        assert await answer(asked) is WELL
        assert await answer(replace(asked, path="db")) is ILL
        assert await answer(replace(asked, path="d" * 180)) is WELL
        assert await answer(replace(asked, path="other")) is ILL
    finally:
        server.stop(0).wait()
    assert await answer(replace(asked, timeout_s=2.0)) is ILL


@story
async def test_what_goes_wrong_in_asking_is_an_answer_and_a_late_loop_is_none() -> None:  # S0.2
    async def broken(check: Check, address: str) -> tuple[Health, str]:
        raise RuntimeError("not foreseen")

    async def late(check: Check, address: str) -> tuple[Health, str]:
        time.sleep(check.timeout_s + 2 * checks.LAG_S)  # the whole loop stands
        return ILL, "gRPC DEADLINE_EXCEEDED"

    async def asked(work: Callable[[Check, str], Awaitable[tuple[Health, str]]], timeout_s: float) -> Health:
        done: asyncio.Future[Health] = asyncio.get_running_loop().create_future()
        check = replace(PATIENT, timeout_s=timeout_s)
        question = checks._Task(work, check, "127.0.0.1", lambda said, _: done.set_result(said))
        try:
            return await asyncio.wait_for(done, 30)
        finally:
            question.cancel()

    assert await asked(broken, 20.0) is ILL
    assert await asked(late, 0.05) is NOTHING


class Asked:
    """Answers what the test says, per address; an address that hangs is never answered."""

    def __init__(self) -> None:
        self.says: dict[str, Health | None] = {}
        self.count: dict[str, int] = {}

    def __call__(self, check: Check, address: str, done: checks.Done) -> checks.Question:
        self.count[address] = self.count.get(address, 0) + 1
        said = self.says.get(address, WELL)
        if said is not None:
            asyncio.get_running_loop().call_soon(done, said, "")
        return self

    def cancel(self) -> None:
        return None


@story
async def test_one_that_hangs_holds_up_no_other() -> None:  # S0.1, S0.6
    registry, asked = Registry(), Asked()
    prober = Prober(registry, asked)
    options = ServiceOptions(check=Check(CheckKind.TCP, 1, period_s=0.02, fall=2))
    registry.put_service(service(options=options))
    first, second = backend("db-0", 1, health=NOTHING), backend("db-1", 2, health=NOTHING)
    asked.says[first.addresses[0]] = None
    for each in (first, second):
        registry.put(each)
    prober.start()

    def health(one: str) -> Health:
        return next(each.health for each in registry.backends(SERVICE) if each.pod.name == one)

    await until(lambda: health("db-1") is WELL and asked.count[second.addresses[0]] > 5)
    assert asked.count[first.addresses[0]] == 1 and health("db-0") is NOTHING
    asked.says[second.addresses[0]] = ILL
    await until(lambda: health("db-1") is ILL)
    asked.says[second.addresses[0]] = WELL
    await until(lambda: health("db-1") is WELL)
    registry.drop(SERVICE, second.id)
    await until(lambda: len(prober) == 1)
    prober.stop()
    assert len(prober) == 0
