"""The app of a sandbox pod, a process of its own (uid 1000): says who it is and who asked, and can be made sick.

:8080 HTTP/1.1 on every address: `/` who am I and who are you; `/echo` the request's headers too; `/healthz`;
`/call?host=..&port=..` asks another address and tells what came back (outbound traffic). :8081 speaks first, then
echoes lines. :8082 gRPC (h2c), `/hotswitch.Echo/Say`. A unix socket takes the controls: no capture is in their way.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable
from concurrent.futures.thread import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hotswitch.sandbox.ask import ask
from hotswitch.sandbox.httpd import BACKLOG, Request, Response, listen, listen_unix
from hotswitch.sandbox.process import become

if TYPE_CHECKING:
    import grpc

APP_UID = 1000
HTTP_PORT, TCP_PORT, GRPC_PORT = 8080, 8081, 8082
GRPC_METHOD = "/hotswitch.Echo/Say"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse


@dataclass(frozen=True, slots=True)
class AppConfig:
    pod: str
    control: str  # path of the unix socket
    tcp: bool = False
    grpc: bool = False
    uid: int = APP_UID
    gid: int = APP_UID

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> AppConfig:
        return cls(**json.loads(path.read_text()))


class App:
    """`sickness`: "" well, "silent" accepts and never answers, "error" answers 500."""

    def __init__(self, config: AppConfig) -> None:
        self._config = config
        self._sickness = ""
        self._servers: list[asyncio.Server] = []

    @property
    def sick(self) -> bool:
        return bool(self._sickness)

    async def serve(self) -> None:
        self._servers.append(await listen_unix(self.control, self._config.control))
        self._servers.append(await listen(self.handle, HTTP_PORT))
        if self._config.tcp:
            server = await asyncio.start_server(self._talk, ["0.0.0.0", "::"], TCP_PORT, backlog=BACKLOG)
            self._servers.append(server)

    def handle(self, request: Request) -> Response | Awaitable[Response] | None:
        if self._sickness == "silent":
            return None
        if self._sickness == "error":
            return self._response({"error": "sick"}, 500)
        if request.target == b"/":
            return self._response({"pod": self._config.pod, "peer": request.peer})
        return self._route(request)

    def _route(self, request: Request) -> Response | Awaitable[Response]:
        match request.path:
            case "/healthz":
                return Response(b"ok\n")
            case "/echo":
                return self._response({"pod": self._config.pod, "peer": request.peer, "headers": request.headers})
            case "/call":
                return self._call(request.query)
        return self._response({"error": "no such path"}, 404)

    async def _call(self, query: dict[str, str]) -> Response:
        try:
            path = unquote(query.get("path", "/"))
            answer = await ask(unquote(query["host"]), int(query["port"]), path)
        except (OSError, KeyError, ValueError) as error:
            return self._response({"error": repr(error)}, 502)
        return self._response(
            {"status": answer.status, "via": answer.via, "body": answer.body.decode("utf-8", "replace")}
        )

    def _response(self, body: object, status: int = 200) -> Response:
        return Response(json.dumps(body).encode(), status, (("content-type", "application/json"),))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._sickness != "silent":
            writer.write(f"220 {self._config.pod}\r\n".encode())
        while line := await reader.readline():
            if self._sickness != "silent":
                writer.write(line)
        writer.close()

    def control(self, request: Request) -> Response:
        """POST /sick?kind=silent|error|exit (with code=N, else 3), POST /well."""
        kind = request.query.get("kind", "")
        if request.path == "/well":
            self._sickness = ""
        elif request.path == "/sick" and kind == "exit":
            asyncio.get_running_loop().call_later(0.01, os._exit, int(request.query.get("code", "3")))
        elif request.path == "/sick" and kind in ("silent", "error"):
            self._sickness = kind
        else:
            return Response(b"unknown control\n", 400)
        return Response(b"ok\n")


def grpc_server(pod: str, app: App) -> grpc.Server:
    """A gRPC server on :8082 that answers "<pod> <peer> <what was sent>", and says whether the app is well."""
    import grpc

    def say(request: bytes, context: grpc.ServicerContext) -> bytes:
        return f"{pod} {context.peer()} ".encode() + request

    def check(request: bytes, context: grpc.ServicerContext) -> bytes:
        return NOT_SERVING if app.sick else SERVING

    handlers = []
    for name, handler in ((GRPC_METHOD, say), (HEALTH_METHOD, check)):
        service, method = name.strip("/").split("/")
        methods = {method: grpc.unary_unary_rpc_method_handler(handler)}
        handlers.append(grpc.method_handlers_generic_handler(service, methods))
    server = grpc.server(ThreadPoolExecutor(4), handlers=handlers)
    server.add_insecure_port(f"[::]:{GRPC_PORT}")
    return server


async def _run(app: App) -> None:
    await app.serve()
    gc.freeze()  # what is loaded stays; the collector need not look at it again
    await asyncio.Event().wait()


def main() -> None:
    config, parent = AppConfig.load(Path(sys.argv[1])), os.getppid()
    if config.grpc:
        import grpc._utilities  # noqa: F401  (as root: afterwards the virtual environment may be out of reach)
    become(config.uid, config.gid, parent)
    app = App(config)
    server = grpc_server(config.pod, app) if config.grpc else None  # a server that nobody holds stops itself
    if server is not None:
        server.start()
    asyncio.run(_run(app))


if __name__ == "__main__":
    main()
