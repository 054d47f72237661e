"""One process behind every workload socket of the herd: `python -m bench.herd_sds CERTIFICATES SOCKETS.json`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import grpc
import grpc.aio

from hotswitch.sandbox.sds import SERVICE, SecretServer, read_secrets


async def main(certificates: Path, sockets: Path) -> None:
    secrets = SecretServer(lambda: read_secrets(certificates))
    server = grpc.aio.server()
    methods = {"StreamSecrets": grpc.stream_stream_rpc_method_handler(secrets.stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    for path in json.loads(sockets.read_text()):
        server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
