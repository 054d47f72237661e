"""Ephemeral containers and commands in containers: with their own rights, and no others (facts/istio.md 4; S4.3b)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.istio_commands import commands
from hotswitch.capture.version import IstioVersion
from hotswitch.cluster.exec import ExecOutcome, Executed, exec_in
from hotswitch.cluster.kinds import PODS
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.manifest import SPIFFE_MOUNT
from hotswitch.sandbox.cluster.published import Published
from tests.sandbox.cluster.watching import Object, container, is_ready, shown

pytestmark = pytest.mark.envoy

IMAGE = "registry.test/hotswitch:1"
PROXY = "istio-proxy"


@pytest.fixture(scope="module")
def web(cluster: SandboxCluster, runner: asyncio.Runner) -> Published:
    async def make() -> Published:
        web = await cluster.pod("web-0", native=True)
        await shown(cluster.cluster, "web-0", is_ready)
        return web

    return runner.run(make())


def _helper(name: str, *command: str, image: str = IMAGE, **more: Any) -> Object:
    capabilities = {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    rights = {"runAsUser": 0, "runAsGroup": 1337, "allowPrivilegeEscalation": False, "capabilities": capabilities}
    mounts = [{"name": "workload-socket", "mountPath": SPIFFE_MOUNT, "readOnly": True}]
    words = list(command)
    return {"name": name, "image": image, "command": words, "securityContext": rights, "volumeMounts": mounts, **more}


async def _add(cluster: SandboxCluster, pod: str, *containers: Object) -> None:
    patch = {"spec": {"ephemeralContainers": list(containers)}}
    await cluster.cluster.patch_strategic(PODS, "default", pod, patch, "ephemeralcontainers")


async def _run(cluster: SandboxCluster, pod: str, where: str, *argv: str, **more: Any) -> Executed:
    return await exec_in(cluster.cluster, "default", pod, where, argv, **more)


def test_helper_has_more_rights_than_asked_for(cluster: SandboxCluster, runner: asyncio.Runner, web: Published) -> None:
    async def story() -> None:
        tell = (
            f"id -u; id -g; grep CapEff /proc/self/status; ls /run {SPIFFE_MOUNT}; echo $POD; hostname -I; sleep 1000"
        )
        pod_name = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        await _add(cluster, "web-0", _helper("helper", "sh", "-c", tell, env=[pod_name]))
        pod = await shown(cluster.cluster, "web-0", lambda pod: "running" in container(pod, "helper")["state"])
        assert is_ready(pod), "an ephemeral container does not count for readiness"
        log = ""
        async with asyncio.timeout(5):
            while web.pod.ip not in log:
                await asyncio.sleep(0.05)
                log = (await cluster.cluster.request("GET", _log_path("web-0"), {"container": "helper"})).decode()
        assert log.split()[:4] == ["0", "1337", "CapEff:", "0000000000001000"], "CAP_NET_ADMIN alone"
        assert "hotswitch-sandbox" not in log and "netns" not in log, "the machine's own /run is out of sight"
        assert "socket" in log and "certs" not in log and "web-0" in log

    runner.run(story())


def _log_path(pod: str) -> str:
    return PODS.path("default", pod, "log")


def test_helper_that_ended_is_started_again(cluster: SandboxCluster, runner: asyncio.Runner, web: Published) -> None:
    async def story() -> None:
        await _add(
            cluster,
            "web-0",
            _helper("ended", "sh", "-c", "exit 3"),
            _helper("unfound", "hotswich"),
            _helper("unpulled", "true", image="registry.test/nothing:1"),
        )

        def over(pod: Object) -> bool:
            return all(
                container(pod, name)["state"].keys() & {"terminated", "waiting"} for name in ("ended", "unpulled")
            )

        pod = await shown(cluster.cluster, "web-0", over)
        assert container(pod, "ended")["state"]["terminated"]["exitCode"] == 3
        assert container(pod, "ended")["restartCount"] == 0 and not web.ephemeral["ended"].running
        unfound = container(pod, "unfound")["state"]["terminated"]
        assert unfound["reason"] == "StartError" and "executable file not found" in unfound["message"]
        assert container(pod, "unpulled")["state"]["waiting"]["reason"] == "ErrImagePull"

    runner.run(story())


def test_exec_in_the_helper_is_elsewhere(cluster: SandboxCluster, runner: asyncio.Runner, web: Published) -> None:
    async def story() -> None:
        await _add(cluster, "web-0", _helper("keeper", "sh", "-c", "echo mine > /run/note; sleep 1000"))
        await shown(cluster.cluster, "web-0", lambda pod: "running" in container(pod, "keeper")["state"])
        async with asyncio.timeout(5):
            while (found := await _run(cluster, "web-0", "keeper", "cat", "/run/note")).code != 0:
                await asyncio.sleep(0.05)
        assert found.stdout == b"mine\n"
        assert (await _run(cluster, "web-0", "keeper", "hotswitch", "version")).code == 0
        listed = await _run(cluster, "web-0", "keeper", "nft", "list", "tables")
        assert listed.code == 0 and b"nat" in listed.stdout

    runner.run(story())


def test_exec_in_an_ordinary_proxy_changes_rules(
    cluster: SandboxCluster, runner: asyncio.Runner, web: Published
) -> None:  # S4.3b
    async def story() -> None:
        before = inspect(web.pod.netns).digest
        plan = commands(web.pod.spec.capture(), IstioVersion.of("1.29.1"))
        cleaned = await _run(cluster, "web-0", PROXY, *plan.cleanups[0].argv)
        assert cleaned.code == 0, "the command exits with 0 whatever it leaves"
        assert b"Permission denied" in cleaned.stderr
        assert inspect(web.pod.netns).digest == before, "and changed nothing"
        who = await _run(cluster, "web-0", PROXY, "sh", "-c", "id -u; grep CapEff /proc/self/status")
        assert who.stdout.split() == [b"1337", b"CapEff:", b"0000000000000000"]
        assert (await _run(cluster, "web-0", "app", "id", "-u")).stdout == b"1000\n"

    runner.run(story())


def test_exec_in_a_tproxy_proxy_changes_nothing(cluster: SandboxCluster, runner: asyncio.Runner) -> None:  # S4.3, S4.3b
    async def story() -> None:
        tproxy = await cluster.pod("tproxy-0", interception="TPROXY")
        await shown(cluster.cluster, "tproxy-0", is_ready)
        spec, netns = tproxy.pod.spec.capture(), tproxy.pod.netns
        plan = commands(spec, IstioVersion.of("1.29.1"))
        assert plan.setup is not None
        gone = await _run(cluster, "tproxy-0", PROXY, *plan.cleanups[0].argv)
        assert gone.code == 0 and not gone.stderr
        assert inspect(netns).ip.state is State.ABSENT
        back = await _run(cluster, "tproxy-0", PROXY, *plan.setup.argv)
        assert back.code == 0, back.stderr
        assert inspect(netns, spec).matches(spec) == []
        again = await _run(cluster, "tproxy-0", PROXY, *plan.setup.argv)
        assert again.code == 0, "what is equal is left alone"
        other = ("pilot-agent", "istio-iptables", "-b", "8080", "-i", "*", "--force-iptables-binary=nft")
        assert (await _run(cluster, "tproxy-0", PROXY, *other)).code == 1, "chains are there already"

    runner.run(story())


def test_command_that_is_not_there_counts_as_run(
    cluster: SandboxCluster, runner: asyncio.Runner, web: Published
) -> None:
    async def story() -> None:
        missing = await _run(cluster, "web-0", PROXY, "istio-clean-iptables-not")
        assert missing.outcome is ExecOutcome.NOT_STARTED and "executable file not found" in missing.sentence
        old = await _run(cluster, "web-0", PROXY, "pilot-agent", "istio-clean-iptables")
        assert (old.outcome, old.code) == (ExecOutcome.EXITED, 255), "1.29 has no such command any more"
        echoed = await _run(cluster, "web-0", "app", "cat", stdin=b"to and fro")
        assert (echoed.code, echoed.stdout) == (0, b"to and fro")
        assert (await _run(cluster, "web-0", "app", "sh", "-c", "kill -9 $$")).code == 137
        nobody = await _run(cluster, "web-0", "nobody", "true")
        assert nobody.outcome is ExecOutcome.NOT_STARTED

    runner.run(story())


def test_exec_in_a_container_that_is_down(cluster: SandboxCluster, runner: asyncio.Runner) -> None:
    async def story() -> None:
        down = await cluster.pod("down-0")
        await shown(cluster.cluster, "down-0", is_ready)
        fault = await down.pod.faults.crash_loop()
        await down.pod.kubelet.until(lambda: down.pod.proxy.status.waiting == "CrashLoopBackOff")
        refused = await _run(cluster, "down-0", PROXY, "true")
        assert refused.outcome is not ExecOutcome.EXITED and "container not found" in refused.sentence
        assert (await _run(cluster, "down-0", "app", "true")).code == 0
        await fault.undo()

    runner.run(story())
