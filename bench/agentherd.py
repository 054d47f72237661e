"""A controller with many agents, each part in a process of its own: `python -m bench.agentherd PART NODES FOLDER ...`.

`api`: an API server with NODES nodes of EACH meshed pods and a pod of an agent each, and a token for each of these;
prints a kubeconfig. `controller`: the whole controller, over TLS; prints its port once it leads. `agents PORT RESULT`:
NODES links, as agents have them; simulated is what their guards say. Prints "granted" once every agent has grants of
all its pods, and places. A line "RATE SECONDS" makes so many pods a second fall ill and open, each for OPEN_S; the
answer is how many. At the end of standard input the ages are written to RESULT, in milliseconds: from what a guard says
to the allotment that answers it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.injected import pod
from bench.podwatch import end_of_input
from hotswitch.agent.authority import PodState
from hotswitch.agent.dialer import LinkSettings
from hotswitch.agent.link import ControllerAuthority
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import (
    Capabilities,
    Diagnosis,
    Direction,
    Fault,
    Generation,
    Grade,
    Level,
    Opinion,
    PodRef,
    PodUid,
    Standing,
)

EACH = 10
OPEN_S = 2.0
AGENTS, ACCOUNT = "hotswitch-agents", "hotswitch-agent"
WELL = PodState(
    standing=Standing(ever_ready=True),
    diagnosis=Diagnosis(Fault.WELL, Grade.NONE, "well"),
    capabilities=Capabilities(rescue=True),
)
POLICY: dict[str, Any] = {
    "apiVersion": "hotswitch.io/v1alpha1",
    "kind": "HotSwitchPolicy",
    "metadata": {"name": "mesh", "namespace": "istio-system"},
    "spec": {"mode": "auto", "optIn": "all", "actuators": ["agent"], "budgets": {"workload": 5}},
}


def meshed(number: int, nodes: int) -> dict[str, Any]:
    """EACH of them on a node, and those of a workload on different nodes."""
    made = pod(number)
    made["spec"]["nodeName"] = f"node-{number % nodes}"
    return made


# ---- the API server ----


async def api(nodes: int, folder: Path) -> None:
    from hotswitch.api.crd import crd
    from hotswitch.sandbox.kubeapi import tokens
    from hotswitch.sandbox.kubeapi.server import EmbeddedApi

    async with EmbeddedApi(directory=folder) as served:
        pods = [meshed(number, nodes) for number in range(nodes * EACH)]
        places = {each["metadata"]["namespace"] for each in pods} | {"hotswitch-system", "istio-system", AGENTS}
        served.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(places)])
        served.apply(
            [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": AGENTS}}]
        )
        record = {"name": "hotswitch-alerts", "namespace": "hotswitch-system"}
        served.apply([crd(), POLICY, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": record}])
        table = served.catalogue.find("pods").table
        for each in pods:
            served.store.put(table, each)
        for number in range(nodes):
            name, uid = f"agent-{number}", f"{number:08x}-0000-4000-9000-{number:012x}"
            meta = {"name": name, "namespace": AGENTS, "uid": uid, "resourceVersion": "1"}
            spec = {"nodeName": f"node-{number}", "serviceAccountName": ACCOUNT, "containers": []}
            served.store.put(table, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {}})
            bound = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
            asked = {"spec": {"audiences": ["hotswitch-agent"], "boundObjectRef": bound}}
            told = tokens.request(served.store, served.tokens, AGENTS, ACCOUNT, asked)
            (folder / f"token-{number}").write_text(told["status"]["token"])
        print(served.kubeconfig(), flush=True)
        await end_of_input()


# ---- the controller ----


class Unasked:
    """In the central prober's place: these pods have no 15021."""

    def facts(self, uid: str) -> None: ...

    def doubts(self, uid: str) -> bool:
        return False

    def hurry(self, uid: str) -> None: ...

    def look(self, uid: str, timeout_s: float, done: Callable[[Opinion], None]) -> None:
        done(Opinion())

    def watch(self, uid: str, address: str) -> None: ...

    def forget(self, uid: str) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


async def controller(nodes: int, folder: Path) -> None:
    from hotswitch.controller.app import Controller
    from hotswitch.controller.settings import ControllerSettings
    from hotswitch.sandbox.kubeapi.tls import serve_tls

    tls = folder / "tls"
    tls.mkdir()
    serve_tls(tls, "127.0.0.1")
    (tls / "server.crt").rename(tls / "tls.crt")
    (tls / "server.key").rename(tls / "tls.key")
    settings = ControllerSettings(
        kubeconfig=Path(os.environ["KUBECONFIG"]), journal=folder / "journal.jsonl", address="127.0.0.1",
        lease_s=3, renew_s=1.0, retry_s=0.2, agents_port=0, agents_tls=tls, agents_per_address=nodes,
    )  # fmt: skip
    async with Controller(settings) as whole:
        whole.eyes = Unasked()  # type: ignore[assignment]
        work = asyncio.create_task(whole.run())
        while not (whole.office.port and whole.office.desk.term and len(whole.picture.pods) == nodes * EACH):
            await asyncio.sleep(0.05)
        print(whole.office.port, flush=True)
        await end_of_input()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


# ---- agents ----


class Timed(ControllerAuthority):
    """Notes how old what was said is when the allotment comes that answers it."""

    def __init__(self, settings: LinkSettings, ages_ms: list[float]) -> None:
        super().__init__(settings)
        self._ages_ms, self._said_s, self._asked = ages_ms, 0.0, dict[int, float]()

    def state(self, uid: PodUid, state: PodState) -> None:
        self._said_s = time.perf_counter()
        super().state(uid, state)

    def _beat(self) -> wire.Beat:
        beat = super()._beat()
        if self._said_s:
            self._asked[beat.number] = self._said_s
            self._said_s = 0.0
        return beat

    def _take(self, message: wire.Allotment) -> None:
        super()._take(message)
        for number in [each for each in self._asked if each <= message.beat]:
            self._ages_ms.append((time.perf_counter() - self._asked.pop(number)) * 1000)


class Herd:
    def __init__(self, nodes: int, folder: Path, port: int) -> None:
        self.ages_ms: list[float] = []
        self._opened = 0
        self.links = [self._link(number, folder, port) for number in range(nodes)]
        self.pods = [self._pods(number, nodes) for number in range(nodes)]

    def _link(self, number: int, folder: Path, port: int) -> Timed:
        settings = LinkSettings(
            node=f"node-{number}", addresses=(f"127.0.0.1:{port}",), token=folder / f"token-{number}",
            authority=folder / "tls" / "ca.crt", server_name="localhost",
        )  # fmt: skip
        return Timed(settings, self.ages_ms)

    def _pods(self, number: int, nodes: int) -> list[PodRef]:
        made = (meshed(each, nodes)["metadata"] for each in range(number, nodes * EACH, nodes))
        return [
            PodRef(each["name"], each["namespace"], PodUid(each["uid"]), f"deploy/{each['name'][:-9]}") for each in made
        ]

    def begin(self) -> list[asyncio.Task[None]]:
        for link, pods in zip(self.links, self.pods, strict=True):
            link.start()
            for each in pods:
                link.attach(each, lambda: None)
                link.state(each.uid, WELL)
            link._said_s = 0.0
        return [asyncio.create_task(link.run()) for link in self.links]

    @property
    def granted(self) -> bool:
        return all(
            link.lease.places and all(link.grant(each.uid) is not None for each in pods)
            for link, pods in zip(self.links, self.pods, strict=True)
        )

    async def run(self, rate: float, seconds: float) -> int:
        """A pod of another agent each time; never two of one agent within OPEN_S."""
        loop, began_s, first = asyncio.get_running_loop(), time.monotonic(), self._opened
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            while self._opened - first < elapsed_s * rate:
                at = self._opened * 7 % len(self.links)
                link, pod = self.links[at], self.pods[at][self._opened % EACH]
                link.state(pod.uid, opened(self._opened + 1, loop.time()))
                loop.call_later(OPEN_S, link.state, pod.uid, WELL)
                self._opened += 1
            await asyncio.sleep(0.005)
        await asyncio.sleep(OPEN_S)
        return self._opened - first


def opened(generation: int, now_s: float) -> PodState:
    levels = {Direction.INBOUND: Level.RESCUE, Direction.OUTBOUND: Level.HOLD}
    standing = Standing(
        generation=Generation(generation), levels=levels, opened_s=now_s, expires_s=now_s + 60.0, fault=Fault.DEAD,
        fault_since_s=now_s, recent_faults_s=(now_s,), ever_ready=True,
    )  # fmt: skip
    dead = Diagnosis(Fault.DEAD, Grade.CORROBORATED, "the proxy is dead", {"15021": "refused"}, now_s)
    return PodState(standing=standing, diagnosis=dead, capabilities=Capabilities(rescue=True))


async def agents(nodes: int, folder: Path, port: int, result: Path) -> None:
    herd = Herd(nodes, folder, port)
    tasks = herd.begin()
    while not herd.granted:
        await asyncio.sleep(0.2)
    print("granted", flush=True)
    herd.ages_ms.clear()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        rate, seconds = (float(word) for word in line.split())
        print(await herd.run(rate, seconds), flush=True)
    result.write_bytes(msgspec.json.encode(herd.ages_ms))
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def main(part: str, nodes: int, folder: Path, *more: str) -> None:
    match part:
        case "api":
            await api(nodes, folder)
        case "controller":
            await controller(nodes, folder)
        case "agents":
            await agents(nodes, folder, int(more[0]), Path(more[1]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]))
