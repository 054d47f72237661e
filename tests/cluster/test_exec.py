"""What became of a command in a container is known, or it is said that it is not (S4.3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hotswitch.cluster.client import connect
from hotswitch.cluster.exec import ExecOutcome, Executed, exec_in
from hotswitch.sandbox.kubeapi.backend import CannotRun, Channels
from hotswitch.sandbox.kubeapi.failure import Obj
from tests.cluster.apis import Api, embedded, make_pod
from tests.cluster.scripted import kubeconfig, served, status

pytestmark = pytest.mark.k8s
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
SUCCESS = {"metadata": {}, "status": "Success"}
Script = Callable[[web.WebSocketResponse], Awaitable[None]]


def exit_code(code: int) -> dict[str, Any]:
    return {
        "status": "Failure", "reason": "NonZeroExitCode", "message": f"command terminated with exit code {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }  # fmt: skip


def failure(message: str) -> dict[str, Any]:
    return {"status": "Failure", "reason": "InternalError", "message": message, "code": 500}


def frame(channel: int, data: bytes | dict[str, Any]) -> bytes:
    return bytes([channel]) + (data if isinstance(data, bytes) else json.dumps(data).encode())


class Kubelet:
    """Plays one command."""

    def __init__(self, script: Script, protocols: tuple[str, ...] = (V5, V4)) -> None:
        self._script, self._protocols = script, protocols
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        socket = web.WebSocketResponse(protocols=self._protocols)
        await socket.prepare(request)
        for channel in (1, 2, 3):
            await socket.send_bytes(bytes([channel]))  # as a real one begins
        await self._script(socket)
        return socket


@asynccontextmanager
async def answered(
    directory: Path, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any
) -> AsyncIterator[Executed]:
    async with served(handler) as address, connect(kubeconfig(directory, address)) as cluster:
        yield await exec_in(cluster, "n", "p", "c", ["do", "it now"], **options)


def executed(
    directory: Path, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **options: Any
) -> Executed:
    async def run() -> Executed:
        async with answered(directory, handler, **options) as found:
            return found

    return asyncio.run(run())


def says(*frames: bytes, then: str = "close") -> Script:
    async def script(socket: web.WebSocketResponse) -> None:
        for each in frames:
            await socket.send_bytes(each)
        if then == "hang":
            await asyncio.Event().wait()
        elif then == "cut":
            transport = socket._req.transport if socket._req else None
            assert transport is not None
            transport.abort()
        else:
            await socket.close()

    return script


@pytest.mark.parametrize("code", [0, 7, 137])
def test_it_ended(tmp_path: Path, code: int) -> None:
    last = SUCCESS if code == 0 else exit_code(code)
    kubelet = Kubelet(says(frame(1, b"out "), frame(2, b"err"), frame(1, b"put"), frame(3, last)))
    found = executed(tmp_path, kubelet.handle)
    assert (found.outcome, found.code, found.stdout, found.stderr) == (ExecOutcome.EXITED, code, b"out put", b"err")
    assert found.succeeded == (code == 0)
    assert kubelet.asked[0].query.getall("command") == ["do", "it now"]
    assert kubelet.asked[0].query["container"] == "c"


def test_the_connection_stays_after_the_end(tmp_path: Path) -> None:
    """Somewhere on the way a close was lost; how the command ended is known all the same."""
    frames = frame(3, exit_code(4)), frame(1, b"late")
    found = executed(tmp_path, Kubelet(says(*frames, then="hang")).handle, timeout_s=10.0)
    assert (found.outcome, found.code, found.stdout) == (ExecOutcome.EXITED, 4, b"late")


@pytest.mark.parametrize("then", ["close", "cut"])
def test_the_connection_ends_before_the_command_does(tmp_path: Path, then: str) -> None:
    """Never a success, whatever it printed."""
    found = executed(tmp_path, Kubelet(says(frame(1, b"all done, exit code 0\n"), then=then)).handle)
    assert (found.outcome, found.code, found.succeeded) == (ExecOutcome.UNKNOWN, None, False)
    assert found.stdout == b"all done, exit code 0\n"


def test_a_command_that_does_not_end(tmp_path: Path) -> None:
    found = executed(tmp_path, Kubelet(says(frame(1, b"so far"), then="hang")).handle, timeout_s=0.5)
    assert (found.outcome, found.stdout) == (ExecOutcome.UNKNOWN, b"so far")
    assert "did not end within 0.5 s" in found.sentence


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (failure('exec: "iptables": executable file not found in $PATH: unknown'), ExecOutcome.NOT_STARTED),
        (failure("container not found (c)"), ExecOutcome.NOT_STARTED),
        (failure("error reading from the shim: EOF"), ExecOutcome.UNKNOWN),
        ({"status": "Failure"}, ExecOutcome.UNKNOWN),
        ({"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "?"}]}}, ExecOutcome.UNKNOWN),
        (b"not json", ExecOutcome.UNKNOWN),
        (b"[]", ExecOutcome.UNKNOWN),
    ],
)  # fmt: skip
def test_other_ends(tmp_path: Path, last: bytes | dict[str, Any], outcome: ExecOutcome) -> None:
    found = executed(tmp_path, Kubelet(says(frame(3, last))).handle)
    assert (found.outcome, found.code, found.succeeded) == (outcome, None, False)
    assert found.sentence


def test_how_it_ended_comes_in_two_frames(tmp_path: Path) -> None:
    whole = json.dumps(exit_code(3)).encode()
    found = executed(tmp_path, Kubelet(says(frame(3, whole[:20]), frame(3, whole[20:]))).handle)
    assert (found.outcome, found.code) == (ExecOutcome.EXITED, 3)


def test_more_output_than_is_kept(tmp_path: Path) -> None:
    pieces = [frame(1, b"x" * 1000) for _ in range(20)]
    found = executed(tmp_path, Kubelet(says(*pieces, frame(3, SUCCESS))).handle, limit=1500)
    assert found.succeeded and found.stdout == b"x" * 1500
    assert "only 1500 bytes" in found.sentence


def test_standard_input_is_sent_whole_and_closed(tmp_path: Path) -> None:
    got = bytearray()

    async def cat(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.data[0] == 255:
                break
            assert message.type is aiohttp.WSMsgType.BINARY and message.data[0] == 0
            got.extend(message.data[1:])
        await says(frame(1, bytes(got[:5])), frame(3, SUCCESS))(socket)

    kubelet = Kubelet(cat)
    found = executed(tmp_path, kubelet.handle, stdin=b"order" * 20_000)
    assert found.succeeded and found.stdout == b"order" and bytes(got) == b"order" * 20_000
    assert kubelet.asked[0].headers["Sec-WebSocket-Protocol"] == V5, "older ones cannot close it"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(401, ExecOutcome.REFUSED), (403, ExecOutcome.REFUSED), (404, ExecOutcome.NOT_STARTED),
     (400, ExecOutcome.NOT_STARTED), (500, ExecOutcome.NOT_STARTED)],
)  # fmt: skip
def test_the_api_server_refuses(tmp_path: Path, code: int, outcome: ExecOutcome) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response(status(code, "Because", "the test says no"), status=code)

    found = executed(tmp_path, refuse)
    assert (found.outcome, found.code) == (outcome, None)
    assert found.sentence == f"{code} Because: the test says no"


def test_nobody_listens(tmp_path: Path) -> None:
    async def run() -> Executed:
        async with connect(kubeconfig(tmp_path, "http://127.0.0.1:1")) as cluster:
            return await exec_in(cluster, "n", "p", "c", ["true"])

    assert asyncio.run(run()).outcome is ExecOutcome.NOT_STARTED


def test_the_way_is_cut_during_the_handshake(tmp_path: Path) -> None:
    """The command may have been started."""

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    assert executed(tmp_path, cut).outcome is ExecOutcome.UNKNOWN


class Echo:
    """A node whose only program says what it was told, and ends with 3."""

    async def exec(self, pod: Obj, container: str, argv: list[str], channels: Channels) -> int:
        if argv[0] != "echo":
            raise CannotRun(f'exec: "{argv[0]}": executable file not found in $PATH: unknown')
        while piece := await channels.read():
            await channels.stdout(piece)
        await channels.stderr(f"{pod['metadata']['name']}/{container}: {argv[1:]}".encode())
        return 3

    async def start_ephemeral(self, pod: Obj, container: Obj) -> None:
        return None

    async def log(self, pod: Obj, container: str) -> bytes:
        return b""


def test_through_an_api_server(tmp_path: Path) -> None:
    async def run() -> None:
        async with embedded() as place:
            assert place.embedded is not None
            place.embedded.backend = Echo()
            await make_pod(place.cluster, place.namespace, "p", node="a-node")
            where = (place.cluster, place.namespace, "p", "app")
            found = await exec_in(*where, ["echo", "a b", "&", "ü"], b"x" * 100_000)
            assert (found.outcome, found.code, found.stdout) == (ExecOutcome.EXITED, 3, b"x" * 100_000)
            assert found.stderr == "p/app: ['a b', '&', 'ü']".encode()
            assert (await exec_in(*where, ["iptables"])).outcome is ExecOutcome.NOT_STARTED
            place.embedded.faults.lose_exec_status()
            lost = await exec_in(*where, ["echo"], b"all well")
            assert (lost.outcome, lost.code) == (ExecOutcome.UNKNOWN, None)
            async with connect(place.embedded.kubeconfig("nobody")) as cluster:
                refused = await exec_in(cluster, *where[1:], ["echo"])
            assert refused.outcome is ExecOutcome.REFUSED and "pods/exec" in refused.sentence

    asyncio.run(run())


def test_a_pod_that_no_node_runs(api: Api) -> None:
    """The API server's own words are shown."""

    async def run() -> None:
        async with api() as place:
            await make_pod(place.cluster, place.namespace, "p")
            found = await exec_in(place.cluster, place.namespace, "p", "app", ["true"])
            assert found.code is None and "host assigned" in found.sentence
            gone = await exec_in(place.cluster, place.namespace, "q", "app", ["true"])
            assert gone.outcome is ExecOutcome.NOT_STARTED and '"q" not found' in gone.sentence

    asyncio.run(run())
