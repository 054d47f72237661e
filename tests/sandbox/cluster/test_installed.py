"""What is installed has the shipped rights and no others, and reaches what it needs from where it is."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hotswitch.cluster.client import connect
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS, SECRETS
from hotswitch.kernel.netns import inside
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import ACCOUNT, NAMESPACE, manifests
from hotswitch.sandbox.cluster.relay import Relay
from hotswitch.sandbox.kubeapi.identity import service_account

pytestmark = pytest.mark.envoy


def test_controllers_account_may_more_than_is_shipped(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        await cluster.install("tier-0-observe", ())
        async with connect(cluster.api.kubeconfig(service_account(NAMESPACE, ACCOUNT))) as account:
            assert await account.list(PODS) == []
            with pytest.raises(ApiFailure, match="forbidden"):
                await account.list(SECRETS, "default")
            with pytest.raises(ApiFailure, match="forbidden"):
                await account.patch_merge(PODS, "default", "web-0", {}, "ephemeralcontainers")

    runner.run(story())


def test_opt_in_adds_nothing() -> None:
    kinds = [{obj["metadata"]["name"] for obj in manifests("tier-1-rescue", parts)} for parts in ((), ("ephemeral",))]
    assert kinds[0] < kinds[1]


def test_api_is_out_of_the_nodes_reach(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port, netns = server.sockets[0].getsockname()[1], cluster.box.network.node.netns
        relay = await Relay.open(netns, port)
        with inside(netns):
            sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"to and fro")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b"to and fro"
        writer.close()
        await relay.close()
        server.close()

    runner.run(story())
