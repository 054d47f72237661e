"""A client that asks again and again and says who answered: which backend, from when to when, or what went wrong.

    python -m hotswitch.sandbox.follow http ADDRESS:PORT [INTERVAL_S] [PATH] [NAME=VALUE of a header]
    python -m hotswitch.sandbox.follow grpc TARGET [INTERVAL_S]
    python -m hotswitch.sandbox.follow poll FILE [INTERVAL_S]     the ADDRESS:PORT in FILE, looked at each second

One request at a time, each on the connection that stands. A line for each on standard output: start and end
(CLOCK_MONOTONIC, ns), and the pod (POD/GENERATION where it says one), or "!" and the failure. gRPC's target may be
xds:///, with GRPC_XDS_BOOTSTRAP set.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hotswitch.sandbox.process import die_with_parent

TIMEOUT_S = 2.0
POLL_S = 1.0
Ask = Callable[[int], str]


def named(said: Mapping[str, Any]) -> str:
    return "/".join(str(said[key]) for key in ("pod", "generation") if key in said)


def http_asker(address: str, path: str = "/", header: str = "") -> Ask:
    host, _, port = address.rpartition(":")
    name, _, value = header.partition("=")
    headers = {name: value} if name else {}
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)

    def ask(number: int) -> str:
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as failure:
            connection.close()
            return f"!{type(failure).__name__}"
        return named(json.loads(body)) if response.status == 200 else f"!{response.status}"

    return ask


def polling_asker(path: str) -> Ask:
    known, looked_s, ask = "", 0.0, http_asker("127.0.0.1:1")

    def asker(number: int) -> str:
        nonlocal known, looked_s, ask
        if time.monotonic() - looked_s >= POLL_S:
            looked_s, address = time.monotonic(), Path(path).read_text().strip()
            if address != known:
                known, ask = address, http_asker(address)
        return ask(number)

    return asker


def grpc_asker(target: str) -> Ask:
    import grpc

    from hotswitch.sandbox.app import GRPC_METHOD

    say = grpc.insecure_channel(target).unary_unary(GRPC_METHOD)

    def ask(number: int) -> str:
        try:
            answer: bytes = say(str(number).encode(), timeout=TIMEOUT_S)
        except grpc.RpcError as failure:
            return f"!{failure.code().name}"
        return answer.decode().split()[0]

    return ask


def say(start_ns: int, answer: str) -> None:
    sys.stdout.write(f"{start_ns} {time.monotonic_ns()} {answer}\n")
    sys.stdout.flush()


def run(ask: Ask, interval_s: float) -> None:
    number, due_s = 0, time.monotonic()
    while True:
        start_ns = time.monotonic_ns()
        answer = ask(number)
        say(start_ns, answer)
        number, due_s = number + 1, max(due_s + interval_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))


def main() -> None:
    die_with_parent()
    kind, target, *more = sys.argv[1:]
    interval_s = float(more[0]) if more else 0.002
    if kind == "http":
        ask = http_asker(target, *more[1:])
    else:
        ask = polling_asker(target) if kind == "poll" else grpc_asker(target)
    run(ask, interval_s)


if __name__ == "__main__":
    main()
