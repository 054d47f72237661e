"""A sample stateful app: a register that one pod serves at a time, on storage that all of them share (S0.3, S0.5).

:5432 `/write?n=N` has a row appended and tells its number, `/read` tells the newest number from memory; both answer
with pod and generation. :5434, if wanted, gRPC (app.GRPC_METHOD): "POD/GENERATION". :8080 `/healthz`. The app is told
its role by its keeper and believes it for as long as it may be believed: that nobody hears from it outside of its time
is its keeper's matter. Before it shows that it has taken a role it has forgotten what it knew in the one before. What
it does itself is the part that no fence of the network can do: it shows its generation to the storage, and an older
one writes nothing any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from hotswitch.cluster.lease import clock_s
from hotswitch.sandbox.app import GRPC_METHOD
from hotswitch.sandbox.ask import ask
from hotswitch.sandbox.httpd import Request, Response, listen
from hotswitch.sandbox.process import die_with_parent

PORT, HEALTH_PORT, STORAGE_PORT, GRPC_PORT, ROLE_PORT = 5432, 8080, 5433, 5434, 8109
WAIT_S = 1.0
WAIT_SHARE = 0.2  # of what is left: what an answer says is believed from before its question, which has stood so long
SCHEMA = """
CREATE TABLE IF NOT EXISTS epochs (generation INTEGER PRIMARY KEY, pod TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, n INTEGER NOT NULL, pod TEXT NOT NULL,
  generation INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class RegisterConfig:
    """`storage`, `roles`: host:port."""

    namespace: str
    pod: str
    uid: str
    storage: str
    roles: tuple[str, ...]
    grpc: bool = False

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> RegisterConfig:
        content = json.loads(path.read_text())
        return cls(**{**content, "roles": tuple(content["roles"])})


class Fenced(RuntimeError):
    """The storage knows a later generation than ours."""


class Storage:
    """What all pods share, a process of its own: it is never stopped in the middle. Every request shows a generation;
    one that is older than the newest is refused (409)."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)

    def handle(self, request: Request) -> Response:
        query = request.query
        generation, pod = int(query["generation"]), query["pod"]
        (newest,) = self._db.execute("SELECT coalesce(max(generation), 0) FROM epochs").fetchone()
        if newest > generation:
            return _said({"error": f"generation {newest} has begun"}, 409)
        if request.path == "/take":
            self._db.execute("INSERT OR IGNORE INTO epochs VALUES (?, ?)", (generation, pod))
        (seq,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()
        if request.path == "/append":
            seq += 1
            self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (seq, int(query["n"]), pod, generation))
        return _said({"seq": seq})


class Register:
    def __init__(self, config: RegisterConfig) -> None:
        self._config = config
        self._generation, self._until_s = 0, 0.0
        self._seq = 0

    @property
    def generation(self) -> int:
        """In which we are active; 0: we are not, or do not know."""
        return self._generation if clock_s() < self._until_s else 0

    @property
    def name(self) -> str:
        return f"{self._config.pod}/{self.generation}"

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        if not self.generation:
            return _said({"error": "standby"}, 503)
        if request.path == "/write":
            return self._write(self.generation, request.query.get("n", "0"))
        return self._answer(self.generation, self._seq)

    async def _write(self, generation: int, n: str) -> Response:
        try:
            seq = await self._store(f"/append?n={n}", generation)
        except (Fenced, OSError, ValueError) as failure:
            return _said({"error": f"{type(failure).__name__}: {failure}"}, 503)
        self._know(seq)
        return self._answer(generation, seq)

    def _know(self, seq: int) -> None:
        """Answers of the storage may overtake each other."""
        self._seq = max(self._seq, seq)

    def _answer(self, generation: int, seq: int) -> Response:
        return _said({"pod": self._config.pod, "generation": generation, "seq": seq})

    async def _store(self, what: str, generation: int) -> int:
        """The number. Raises Fenced, OSError."""
        host, _, port = self._config.storage.rpartition(":")
        mark = "&" if "?" in what else "?"
        path = f"{what}{mark}pod={self._config.pod}&generation={generation}"
        answer = await ask(host, int(port), path, timeout_s=1.0)
        if answer.status == 409:
            raise Fenced(answer.json()["error"])
        return int(answer.json()["seq"])

    async def follow(self) -> None:
        """Its role, for ever."""
        mark, turn, wait_s = "", 0, WAIT_S
        while True:
            host, _, port = self._config.roles[turn % len(self._config.roles)].rpartition(":")
            own = self._config
            path = f"/v1/roles/{own.namespace}/{own.pod}?uid={own.uid}&wait={wait_s:.2f}&known={mark}"
            asked_s = clock_s()
            try:
                answer = await ask(host, int(port), path, timeout_s=WAIT_S + 1.0)
                if answer.status != 200:
                    raise ConnectionError(str(answer.status))
                said = answer.json()
                ttl_s = inf if said["ttl_s"] is None else float(said["ttl_s"])
                self._until_s, wait_s = asked_s + ttl_s, min(WAIT_S, ttl_s * WAIT_SHARE)
                await self._become(said["role"] == "active", int(said["generation"]))
                mark = said["mark"]
            except (OSError, ValueError, KeyError):
                turn, mark = turn + 1, ""
                await asyncio.sleep(0.05)

    async def _become(self, active: bool, generation: int) -> None:
        if not active:
            self._generation = 0
        elif generation != self._generation:
            self._generation = 0
            try:
                self._know(await self._store("/take", generation))
                self._generation = generation
            except (Fenced, OSError):
                raise ConnectionError("the storage does not let us begin") from None


def _said(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body).encode(), status, (("content-type", "application/json"),))


async def _serve_grpc(register: Register) -> Any:
    import grpc.aio

    async def say(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if not register.generation:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "standby")
        return register.name.encode()

    service, method = GRPC_METHOD.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(say)}
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"[::]:{GRPC_PORT}")
    await server.start()
    return server


async def _run(config: RegisterConfig) -> None:
    register = Register(config)
    servers = [
        await listen(register.handle, PORT),
        await listen(lambda request: Response(b"ok\n"), HEALTH_PORT),
        *([await _serve_grpc(register)] if config.grpc else ()),
    ]
    await register.follow()
    del servers


async def _keep(path: str) -> None:
    server = await listen(Storage(path).handle, STORAGE_PORT)
    await server.serve_forever()


def main() -> None:
    """`register CONFIG`: a pod's app; `register --storage DATABASE`: what they share."""
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:
        raise SystemExit(0)
    if sys.argv[1] == "--storage":
        asyncio.run(_keep(sys.argv[2]))
    asyncio.run(_run(RegisterConfig.load(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
