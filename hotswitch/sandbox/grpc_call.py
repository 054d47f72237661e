"""gRPC calls from inside a namespace: `python -m hotswitch.sandbox.grpc_call ADDRESS:PORT COUNT [INTERVAL_S]`.

One channel, so one h2 connection for as long as it holds. Prints a JSON list: for each call the answer's text, or the
name of the status it failed with.
"""

from __future__ import annotations

import json
import sys
import time

import grpc

from hotswitch.sandbox.app import GRPC_METHOD

CALL_TIMEOUT_S = 3.0


def call(target: str, count: int, interval_s: float = 0.0) -> list[str]:
    with grpc.insecure_channel(target) as channel:
        say = channel.unary_unary(GRPC_METHOD)
        return [_one(say, number, interval_s) for number in range(count)]


def _one(say: grpc.UnaryUnaryMultiCallable, number: int, interval_s: float) -> str:
    time.sleep(interval_s)
    try:
        answer: bytes = say(f"call {number}".encode(), timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return answer.decode()


def main() -> None:
    target, count = sys.argv[1], int(sys.argv[2])
    interval_s = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    print(json.dumps(call(target, count, interval_s)))


if __name__ == "__main__":
    main()
