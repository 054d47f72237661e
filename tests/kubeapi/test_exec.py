"""exec against the embedded API: streams, results, and what is left unknown (facts: a lost channel is no success)."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from hotswitch.sandbox.kubeapi.backend import CannotRun
from tests.kubeapi.client import STRATEGIC, pod

pytestmark = pytest.mark.k8s

PODS = "/api/v1/namespaces/{ns}/pods"


class Node:
    """Runs nothing real: the first word says what happens."""

    def __init__(self):
        self.ran, self.started, self.cancelled = [], [], asyncio.Event()

    async def exec(self, pod, container, argv, channels):
        self.ran.append((pod["metadata"]["name"], container, argv))
        if argv[0] == "missing":
            raise CannotRun('exec: "missing": executable file not found in $PATH')
        if argv[0] == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        said = b""
        while more := await channels.read():
            said += more
        await channels.stdout(said + b"x" * 100_000)
        await channels.stderr(b"to stderr")
        return int(argv[1]) if argv[1:] else 0

    async def start_ephemeral(self, pod, container):
        self.started.append((pod["metadata"]["name"], container["name"]))

    async def log(self, pod, container):
        return f"log of {container}\n".encode()


@pytest.fixture
def node(own, embedded, runner):
    node = Node()
    embedded.backend = node
    runner.run(own.post(PODS, pod()))
    return node


async def execute(client, *argv, stdin=None, protocol="v5.channel.k8s.io", **query):
    """By channel: all bytes that came."""
    words = [("command", word) for word in argv] + [("stdout", "1"), ("stderr", "1"), *query.items()]
    if stdin is not None:
        words.append(("stdin", "1"))
    found = {1: b"", 2: b"", 3: b""}
    url = client.url(f"{PODS}/web-0/exec")
    headers = {**client.access.headers, **client.headers}
    session = client.session
    async with session.ws_connect(
        url, params=words, headers=headers, ssl=client.access.tls, protocols=(protocol,)
    ) as socket:
        assert socket.protocol == protocol
        if stdin is not None:
            await socket.send_bytes(b"\0" + stdin)
            await socket.send_bytes(b"\xff\0")
        async for message in socket:
            found[message.data[0]] += message.data[1:]
    return found


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_streams_and_success(own, node, protocol):
    found = await execute(own, "echo", protocol=protocol)
    assert found[1] == b"x" * 100_000 and found[2] == b"to stderr"
    assert json.loads(found[3])["status"] == "Success"
    assert node.ran == [("web-0", "app", ["echo"])]


async def test_stdin_until_it_is_closed(own, node):
    assert (await execute(own, "cat", stdin=b"order"))[1].startswith(b"orderx")


async def test_exit_code_is_told(own, node):
    result = json.loads((await execute(own, "exit", "137"))[3])
    assert result["reason"] == "NonZeroExitCode"
    assert result["details"]["causes"] == [{"reason": "ExitCode", "message": "137"}]


async def test_program_that_is_not_there_is_no_exit_code(own, node):
    result = json.loads((await execute(own, "missing"))[3])
    assert result["reason"] == "InternalError" and "executable file not found" in result["message"]


async def test_lost_result_channel(own, node, embedded):
    embedded.faults.lose_exec_status()
    found = await execute(own, "echo")
    assert found[1] and found[3] == b""
    assert node.ran  # the command did run
    assert json.loads((await execute(own, "echo"))[3])["status"] == "Success"


async def test_client_that_leaves_ends_the_command(own, node):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(execute(own, "hang"), 0.3)
    await asyncio.wait_for(node.cancelled.wait(), 5)


@pytest.mark.parametrize(
    ("argv", "query", "status"), [((), {}, 400), (("a",), {"container": "nobody"}, 400), (("a",), {}, 403)]
)
async def test_refused_before_the_upgrade(own, node, embedded, argv, query, status):
    if status == 403:
        token = embedded.token("system:serviceaccount:default:robot")
        own.headers = {"Authorization": f"Bearer {token}"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await execute(own, *argv, **query)
    assert refused.value.status == status and not node.ran


async def test_websocket_needs_create_beside_get(own, node, embedded):  # facts/kubernetes.md 6f
    rule = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "e"}, "rules": [rule]}
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": "e"}
    subjects = [{"kind": "ServiceAccount", "namespace": "default", "name": "robot"}]
    binding = {**role, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": subjects}
    del binding["rules"]
    embedded.apply([role, binding])
    own.headers = {"Authorization": f"Bearer {embedded.token('system:serviceaccount:default:robot')}"}
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await execute(own, "echo")
    assert embedded.denied[-1].action.verb == "create"
    embedded.admin.patch("clusterroles", "e", {"rules": [{**rule, "verbs": ["get", "create"]}]})
    assert json.loads((await execute(own, "echo"))[3])["status"] == "Success"


async def test_node_is_told_of_an_ephemeral_container_once(own, node, embedded):
    for _ in range(2):
        patch = {"spec": {"ephemeralContainers": [{"name": "helper", "image": "i"}]}}
        await own.patch(f"{PODS}/web-0/ephemeralcontainers", patch, STRATEGIC)
        running = {"ephemeralContainerStatuses": [{"name": "helper", "state": {"running": {}}}]}
        embedded.admin.patch("pods", "web-0", {"status": running}, sub="status")
    assert node.started == [("web-0", "helper")]


async def test_log(own, node):
    assert await own.get(f"{PODS}/web-0/log", raw=True) == b"log of app\n"
    await own.get(f"{PODS}/web-0/log", container="nobody", status=400)
