"""Where agents are served when no address is named: on every one, as the shipped manifests leave it (S4.2)."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from hotswitch.controller.agents.server import AgentServer, Certificate
from tests.controller.agency import certificate

pytestmark = pytest.mark.k8s


def test_agents_are_served_where_no_address_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        tls = certificate(tmp_path / "tls")
        nobody: Any = None  # nobody says a word
        served = AgentServer(nobody, nobody, Certificate(chain=tls / "tls.crt", key=tls / "tls.key", clients=None))
        await served.start("", 0)
        try:
            for host in ("127.0.0.1", *(("::1",) if socket.has_dualstack_ipv6() else ())):
                _, writer = await asyncio.open_connection(host, served.port)
                writer.close()
                await writer.wait_closed()
        finally:
            await served.stop()

    asyncio.run(story())
