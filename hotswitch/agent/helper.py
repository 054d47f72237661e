"""The helper inside one pod: an agent for the namespace it lives in, which acts on a controller's orders (S4.2, S4.3).

It is the only command of the pod's one ephemeral container, and is kept running there (agent.keep). SIGTERM leaves
gates as they are. The rescue Envoy lives beside the helper and is adopted by its successor; it ends with the container,
and a gate that leads to it closes by the kernel within LEASE_S (I1).

It needs no right to change namespaces, since it is in the right one; docs/reference/helper.md has those it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from hotswitch.agent.agent import Agent
from hotswitch.agent.guard import Guard
from hotswitch.agent.ledger import Ledger
from hotswitch.agent.main import serve
from hotswitch.agent.ordered import OrderedGuard
from hotswitch.agent.rescue_need import needs_rescue
from hotswitch.agent.spare import Spare
from hotswitch.api.names import HELPER_VARIABLE
from hotswitch.capture.spec import CaptureSpec
from hotswitch.config.agentfile import AgentFile, Pod, parse
from hotswitch.config.told import ConfigError
from hotswitch.kernel.cgroup import Container
from hotswitch.observe.shared_pids import SharedPids
from hotswitch.report.journal import entry
from hotswitch.rescue.service import Rescue, RescueBusy, RescueUnavailable

HERE = "/proc/self/ns/net"
DIRECTORY = Path("/run/hotswitch")
RESOLV_CONF = Path("/etc/resolv.conf")
LINGER_STEP_S = 0.1
OOM_SCORE, OOM_FIRST = Path("/proc/self/oom_score_adj"), 1000


def agent_file(text: str, resolv_conf: Path = RESOLV_CONF) -> AgentFile:
    """From what the controller wrote into the container's environment. Raises ConfigError.

    `{"pod": {...}, "directory": "/run/hotswitch", "dns": true}`: `pod` as in the agent's file, without netns and policy
    lists; `dns`: Istio captures name by name server, so this container's resolv.conf says which.
    """
    try:
        given = json.loads(text)
        pod, directory = dict(given["pod"]), Path(given.get("directory", DIRECTORY))
    except (ValueError, KeyError, TypeError) as failure:
        raise ConfigError(f"{HELPER_VARIABLE}: not what a controller writes: {failure}") from failure
    if given.get("dns"):
        pod["capture"] = {**pod.get("capture", {}), "dns_servers": name_servers(resolv_conf)}
    pod |= {"netns": HERE, "policy": {**pod.get("policy", {}), "mode": "auto", "inbound": ["hold"]}}
    return parse({**_places(directory), "pods": [pod]}, HELPER_VARIABLE)


def _places(directory: Path) -> dict[str, Any]:
    return {
        "node": "helper",
        "socket": str(directory / "agent.sock"),
        "journal": str(directory / "journal.jsonl"),
        "rescue": {"directory": str(directory / "rescue")},
        "evidence": {"directory": str(directory / "evidence"), "faults": 4, "mebibytes": 16},
    }


def name_servers(resolv_conf: Path) -> list[str]:
    """Of the pod, as its containers have them; none when the file cannot be read."""
    with contextlib.suppress(OSError):
        return name_servers_in(resolv_conf.read_text())
    return []


def name_servers_in(text: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1]


class HelperAgent(Agent):
    """Guards its own pod, on orders. Without a rescue it goes on with what can be done without one."""

    async def _start_rescue(self) -> Rescue | None:
        try:
            return await super()._start_rescue()
        except (RescueUnavailable, RescueBusy, OSError) as failure:
            self.no_rescue = f"the rescue does not start: {failure}"
            self.journal.write(entry("rescue", self.settings.pods[0].ref, failed=self.no_rescue))
            return None

    async def _let_go(self, rescue: Rescue) -> None:
        """It ends with the container, or is adopted by our successor: we have no right to end it, nor need to."""
        await rescue.leave()

    async def run(self) -> None:
        """Until SIGTERM. The rescue ends with us: while a gate leads to it and the app is there to be reached, a pod
        that is being deleted drains through it. So we stay until the app has closed its ports, or we are killed."""
        await super().run()
        while any(needs_rescue(guard.standing.openings) and _app_listens(guard) for guard in self.guards.values()):
            await asyncio.sleep(LINGER_STEP_S)

    def _guard(self, pod: Pod, spare: Spare) -> Guard:
        ledger = Ledger(self.settings.socket.with_name("orders.json"))
        return OrderedGuard(pod, self.specs[pod.uid], self._means(), spare, ledger, proxy_beside(self.specs[pod.uid]))


def proxy_beside(spec: CaptureSpec) -> Container:
    """Of the pod that this process lives in."""
    return SharedPids(spec.proxy_uids, spec.proxy_gids)


def _app_listens(guard: Guard) -> bool:
    return not guard.watch.listening.isdisjoint(guard.settings.app.ports)


def run(text: str) -> None:
    """Until SIGTERM. Raises ConfigError or OSError before anything has been changed."""
    agent = HelperAgent(agent_file(text))
    go_first_of_all()
    serve(agent)


def go_first_of_all() -> None:
    """An ephemeral container has no limits of its own and its memory counts as the pod's: should that run out, the
    kernel is to take us and the rescue, which inherits this, and not the app. Raising it takes no right."""
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text(str(OOM_FIRST))
