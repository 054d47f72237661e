"""Agents for the controller's town: real links with real tokens and certificates; their guards are a table of states.

A `Node` is what an agent process has: an authority over its link, and for each pod a guard that decides with the real
engine on whatever facts it is shown. What it opens is a word in a dictionary, in place of a kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hotswitch.agent.authority import Grant, PodState, surroundings
from hotswitch.agent.dialer import LinkSettings
from hotswitch.agent.granted import DIED
from hotswitch.agent.link import ControllerAuthority
from hotswitch.agent.neighbours import Neighbours
from hotswitch.api.drills import Drilled, Told
from hotswitch.controller.app import Controller
from hotswitch.decide import step
from hotswitch.decide.track import assess
from hotswitch.model import (
    Act,
    Capabilities,
    Diagnosis,
    Facts,
    Fault,
    Grade,
    PodRef,
    PodUid,
    Probe,
    ProbeOutcome,
    Standing,
    View,
)
from hotswitch.report.journal import Entry, entry
from hotswitch.sandbox.kubeapi import tokens
from hotswitch.sandbox.kubeapi.tls import serve_tls
from tests.controller.town import Town

AGENTS, ACCOUNT = "hotswitch-agents", "hotswitch-agent"
NAME = "localhost"  # what the certificate of tests is for
ABLE = Capabilities(rescue=True)


def certificate(directory: Path) -> Path:
    """A folder as a Secret is mounted: tls.crt, tls.key; and the CA beside it, ca.crt."""
    directory.mkdir(parents=True, exist_ok=True)
    serve_tls(directory, "127.0.0.1")
    (directory / "tls.crt").write_bytes((directory / "server.crt").read_bytes())
    (directory / "tls.key").write_bytes((directory / "server.key").read_bytes())
    return directory


def agent_pod(made: Town, node: str = "node-0", account: str = ACCOUNT, namespace: str = AGENTS) -> dict[str, Any]:
    """A pod of the DaemonSet, so far as tokens know it."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    who = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}}
    made.api.admin.apply([space, who])
    name = f"agent-{node}"
    found = made.api.admin.find("pods", name, namespace)
    return found or made.api.admin.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": node,
                "serviceAccountName": account,
                "containers": [{"name": "agent", "image": "agent"}],
            },
        }
    )


def token_of(made: Town, pod: dict[str, Any], audience: str = "hotswitch-agent", *, bound: bool = True) -> str:
    """As the kubelet gets it for a projected volume of this pod."""
    meta = pod["metadata"]
    ref = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    spec = {"audiences": [audience], "expirationSeconds": 600, **({"boundObjectRef": ref} if bound else {})}
    account = pod["spec"].get("serviceAccountName", "default")
    asked = tokens.request(made.api.store, made.api.tokens, meta["namespace"], account, {"spec": spec})
    return str(asked["status"]["token"])


@dataclass
class Guard:
    """`dead`: what its facts say of the proxy."""

    pod: PodRef
    node: Node
    dead: bool = False
    standing: Standing = field(default_factory=Standing)
    diagnosis: Diagnosis = field(default_factory=lambda: Diagnosis(Fault.UNKNOWN, Grade.NONE, "not seen yet"))
    acts: list[str] = field(default_factory=list)
    orders: list[Told] = field(default_factory=list)  # to drill, each once
    drilled: Drilled | None = None

    @property
    def sick(self) -> bool:
        return self.dead

    def facts(self, now_s: float) -> Facts:
        outcome = ProbeOutcome.REFUSED if self.dead else ProbeOutcome.OK
        asked = tuple(Probe(now_s - 2.0 + at / 10, now_s - 2.0 + at / 10, outcome) for at in range(20))
        verdict = (
            Diagnosis(Fault.DEAD, Grade.CORROBORATED, "the proxy is dead", {"15021": "refused"}, now_s - 1.0)
            if self.dead
            else Diagnosis(Fault.WELL, Grade.NONE, "well")
        )
        return Facts(
            at_s=now_s, probes=asked, app_ports=frozenset({8080}), identity_expires_in_s=3600.0, ever_ready=True,
            path_passes=None if self.dead else 9, judged=verdict,
        )  # fmt: skip

    def step(self) -> None:
        """As agent.granted has it."""
        authority, now_s = self.node.authority, asyncio.get_running_loop().time()
        grant = authority.grant(self.pod.uid)
        if grant is not None:
            self.heed(grant)
            self.standing = replace(self.standing, override=grant.override)
            self.node.neighbours.note(self)
            around = surroundings(self, self.node.neighbours, authority.right(self.pod), now_s=now_s)
            view = View(now_s, self.pod, grant.policy, self.facts(now_s), self.standing, ABLE, around)
            self.standing, decisions = step(view)
            self.node.neighbours.note(self)
            self.diagnosis = assess(replace(view, standing=self.standing))
            for each in decisions:
                self.acts.append(each.code)
                self.node.journal.append(line := self.line(each))
                authority.acted(line)
        state = PodState(
            standing=self.standing, diagnosis=self.diagnosis, capabilities=ABLE, identity_expires_in_s=3600.0,
            drilled=self.drilled,
        )  # fmt: skip
        authority.state(self.pod.uid, state)

    def heed(self, grant: Grant) -> None:
        """As agent.granted has it; how a drill goes is the test's to say (`ends`)."""
        if grant.drill is not None and grant.drill.id not in [each.id for each in self.orders]:
            self.orders.append(grant.drill)
            if grant.drill_was_heard:
                self.ends("failed", DIED)

    def ends(self, result: str, why: str = "") -> None:
        took = {"open": 0.02, "restore": 0.03} if result == "passed" else {}
        self.drilled = Drilled(id=self.orders[-1].id, result=result, why=why, served=9, durations_s=took)
        self.step()

    def line(self, decision: Any) -> Entry:
        return entry(
            str(decision.act), self.pod, generation=int(decision.generation), code=decision.code,
            why=decision.sentence, evidence=decision.evidence,
            durations_ms={"gate_ms": 0.1} if decision.act is Act.OPEN else {},
        )  # fmt: skip


@dataclass
class Node:
    authority: ControllerAuthority
    guards: dict[PodUid, Guard] = field(default_factory=dict)
    neighbours: Neighbours = field(default_factory=Neighbours)
    journal: list[Entry] = field(default_factory=list)

    def attach(self, name: str, uid: str, workload: str = "deploy/web") -> Guard:
        pod = PodRef(name, "shop", PodUid(uid), workload)
        guard = self.guards[pod.uid] = Guard(pod, self)
        self.authority.attach(pod, guard.step)
        guard.step()
        return guard

    async def steps(self) -> None:
        while True:
            for guard in list(self.guards.values()):
                guard.step()
            await asyncio.sleep(0.05)


def link(made: Town, controller: Controller, tls: Path, token: str, **more: Any) -> LinkSettings:
    path = made.api.directory / f"token-{abs(hash(token))}"
    path.write_text(token)
    said: dict[str, Any] = {
        "node": "node-0",
        "addresses": (f"127.0.0.1:{controller.office.port}",),
        "token": path,
        "authority": tls / "ca.crt",
        "server_name": NAME,
        **more,
    }
    return LinkSettings(**said)


@asynccontextmanager
async def running(
    settings: LinkSettings, *, beat_s: float = 0.3, authority: ControllerAuthority | None = None
) -> AsyncIterator[Node]:
    """An agent's process, until the end of the block."""
    authority = authority or ControllerAuthority(settings, beat_s=beat_s)
    authority.start()
    node = Node(authority)
    tasks = [asyncio.create_task(work) for work in (authority.run(), node.steps())]
    try:
        yield node
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        authority.close()
