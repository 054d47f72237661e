"""`hotswitch agent --pod` beside a sandbox's pod, with no more rights than its container has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import yaml

from hotswitch.sandbox.podfiles import for_own_agent
from hotswitch.sandbox.process import start
from hotswitch.sandbox.protector import asked
from tests.agent.inpod import InPod, confined, program
from tests.agent.keeper import until

POLICY = {
    "mode": "auto",
    "mtls": "PERMISSIVE",
    "inbound": ["rescue", "hold"],
    "outbound": ["rescue", "hold"],
    "recover_after_s": 0.5,
    "hold_down_s": 1.0,
    "hold_down_max_s": 2.0,
}


class Agent(InPod):
    """In the place of the helper. `obeys`: variables that name a controller; none: a file says what may be done."""

    obeys: Mapping[str, str] = MappingProxyType({})
    shares_pids = False
    """As with shareProcessNamespace; here it sees the processes of all other pods as well."""

    def environment(self) -> dict[str, str]:
        (self.directory / "policy.yaml").write_text(yaml.safe_dump({"policy": POLICY}))
        own = {"HOTSWITCH_POLICY": str(self.directory / "policy.yaml")}
        return {**for_own_agent(self.pod_settings, self.directory), **(self.obeys or own)}

    async def launch(self) -> None:
        words = [f"{key}={value}" for key, value in self.environment().items()]
        apart = () if self.shares_pids else ("unshare", "--pid", "--fork", "--mount-proc")
        first = (*apart, "env", *words, *confined(program("agent", "--pod")))
        cgroups = self._box.estate.make_cgroups(f"agent-{self.pod.name}")[-1:]
        log = self.directory / "helper.log"
        self._process = start(self._box.estate, first, log=log, netns=self.pod.netns, cgroups=cgroups)

    @property
    def keeper_pid(self) -> int:
        assert self._process is not None
        return self._process.pid if self.shares_pids else super().keeper_pid

    async def status(self) -> dict[str, Any]:
        try:
            answer = await asked(self.directory / "agent.sock", {"verb": "status"})
        except (OSError, ValueError):
            return {}
        return next(iter(answer["pods"]), {})

    async def until_inbound(self, level: str) -> None:
        async def stands() -> bool:
            return (await self.status()).get("levels", {}).get("inbound") == level

        await until(stands, lambda: f"inbound is not {level}: {self.log}")

    async def guards(self) -> None:
        status: dict[str, Any] = {}

        async def rests() -> bool:
            nonlocal status
            status = await self.status()
            return status.get("fault") == "well" and status["rescue"] == status["gate"] == "ready"

        await until(rests, lambda: f"it does not guard its pod: {status} {self.log}")
