"""One question to an app, from where the controller is: HTTP, a TCP handshake, or gRPC's own health service (S0.1).

`done(Health, detail)` is called exactly once for each, unless `cancel()` comes first. UNKNOWN: our own loop was late,
which says nothing about the app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from hotswitch.backends import Check, CheckKind, Health
from hotswitch.model import Probe, ProbeOutcome
from hotswitch.observe.health import HttpProbe
from hotswitch.protowire import text

LAG_S = 0.1
GRPC_METHOD = "/grpc.health.v1.Health/Check"
SERVING = 1
Done = Callable[[Health, str], None]


class Question(Protocol):
    def cancel(self) -> None: ...


def ask(check: Check, address: str, done: Done) -> Question:
    """Raises ValueError for a check that asks nobody (kubelet)."""
    match check.kind:
        case CheckKind.HTTP:
            return _Http(check, address, done)
        case CheckKind.TCP:
            return _Task(_tcp, check, address, done)
        case CheckKind.GRPC:
            return _Task(_grpc, check, address, done)
    raise ValueError(f"{check.kind} asks nobody")


class _Http:
    def __init__(self, check: Check, address: str, done: Done) -> None:
        def answered(probe: Probe) -> None:
            if probe.outcome is ProbeOutcome.INVALID:
                done(Health.UNKNOWN, probe.detail)
            elif probe.outcome is ProbeOutcome.OK or probe.detail.startswith("HTTP 3"):  # as the kubelet has it
                done(Health.AVAILABLE, probe.detail)
            else:
                done(Health.UNAVAILABLE, probe.detail or str(probe.outcome))

        self._probe = HttpProbe(
            None, (address, check.port), check.path, answered, timeout_s=check.timeout_s, lag_s=LAG_S
        )

    def cancel(self) -> None:
        self._probe.cancel()


class _Task:
    def __init__(self, work: Callable[[Check, str], Any], check: Check, address: str, done: Done) -> None:
        self._done = done
        self._task = asyncio.get_running_loop().create_task(self._run(work, check, address))

    async def _run(self, work: Callable[[Check, str], Any], check: Check, address: str) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + check.timeout_s
        try:
            async with asyncio.timeout(check.timeout_s):
                found, detail = await work(check, address)
        except TimeoutError:
            found, detail = Health.UNAVAILABLE, "timeout"
        except OSError as failure:
            found, detail = Health.UNAVAILABLE, failure.strerror or str(failure)
        except Exception as failure:  # without an answer it would never be asked again
            found, detail = Health.UNAVAILABLE, f"{type(failure).__name__}: {failure}"
        if found is Health.UNAVAILABLE and loop.time() - due_s > LAG_S:  # gRPC counts its time in a thread of its own
            found, detail = Health.UNKNOWN, "own loop late"
        self._done(found, detail)

    def cancel(self) -> None:
        self._task.cancel()


async def _tcp(check: Check, address: str) -> tuple[Health, str]:
    _, writer = await asyncio.open_connection(address, check.port)
    writer.transport.abort()  # no FIN that the app would have to answer, and no TIME_WAIT of ours
    return Health.AVAILABLE, "connected"


async def _grpc(check: Check, address: str) -> tuple[Health, str]:
    """`path`: the name of the service, "" for the server as a whole. Both messages have one field (health.proto)."""
    import grpc

    host = f"[{address}]" if ":" in address else address
    request = text(1, check.path)
    async with grpc.aio.insecure_channel(f"{host}:{check.port}", options=_CHANNEL) as channel:
        call = channel.unary_unary(GRPC_METHOD)
        try:
            answer: bytes = await call(request, timeout=check.timeout_s)
        except grpc.aio.AioRpcError as failure:
            return Health.UNAVAILABLE, f"gRPC {failure.code().name}"
    status = answer[1] if answer[:1] == b"\x08" and len(answer) > 1 else 0
    return (Health.AVAILABLE, "SERVING") if status == SERVING else (Health.UNAVAILABLE, f"status {status}")


_CHANNEL = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
