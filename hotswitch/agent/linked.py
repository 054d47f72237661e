"""By whose leave an agent acts: a controller over the link, a file, or nobody (S4.2, I1, I2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from hotswitch.agent.authority import Authority, Grant, OwnAuthority, Right
from hotswitch.agent.dialer import LinkSettings
from hotswitch.config.agentfile import Budget, PolicySettings
from hotswitch.config.told import ConfigError, Strict, parse_as
from hotswitch.model import PodRef


class StandingPolicy(Strict, frozen=True, kw_only=True):
    """What may be done without a controller, for every pod that opted in. Whoever can write it is the authority."""

    policy: PolicySettings = PolicySettings()
    budget: Budget = Budget()
    authorization: tuple[dict[str, object], ...] = ()


class Allowing(Strict, frozen=True, kw_only=True):
    """`controller`: host:port of whom the agent obeys, comma-separated; "": nobody. `controller_ca`: PEM of the CA that
    vouches for it, under `controller_name` ("": the host's). `token`: of the audience hotswitch-agent. `policy`: a file
    that says what may be done where there is no controller (StandingPolicy)."""

    controller: str = ""
    controller_ca: Path | None = None
    controller_name: str = ""
    token: Path = Path("/var/run/secrets/hotswitch/token")
    policy: Path | None = None

    def authority(self, directory: Path, *, node: str = "", pod_uid: str = "") -> Authority:
        """`directory`: where the agent keeps what it was granted. Raises ConfigError or OSError."""
        addresses = tuple(each.strip() for each in self.controller.split(",") if each.strip())
        if addresses and self.policy is not None:
            raise ConfigError("policy: not beside controller; one of them says what may be done")
        if addresses:
            from hotswitch.agent.link import ControllerAuthority  # heavy: not where there is no controller

            return ControllerAuthority(self._link(addresses, directory, node, pod_uid))
        return OwnAuthority() if self.policy is None else StandingAuthority(read_standing(self.policy))

    def _link(self, addresses: tuple[str, ...], directory: Path, node: str, pod_uid: str) -> LinkSettings:
        if self.controller_ca is None:
            raise ConfigError("controller_ca: is missing; a controller that nobody vouches for is not obeyed")
        return LinkSettings(
            node=node,
            pod_uid=pod_uid,
            addresses=addresses,
            token=self.token,
            authority=self.controller_ca,
            server_name=self.controller_name,
            kept=directory / "granted",
        )


class StandingAuthority(OwnAuthority):
    """The same for every pod that opted in: what a file says."""

    def __init__(self, standing: StandingPolicy) -> None:
        budget = standing.budget
        super().__init__(rights=Right(node=budget.node, namespace=budget.node, workload=budget.workload))
        self._grant = Grant(version=1, policy=standing.policy.policy(), authorization=standing.authorization)

    def attach(self, pod: PodRef, changed: Callable[[], None]) -> None:
        self.grants[pod.uid] = self._grant
        super().attach(pod, changed)


def read_standing(path: Path) -> StandingPolicy:
    """Raises ConfigError or OSError."""
    try:
        return parse_as(StandingPolicy, yaml.safe_load(path.read_text()), str(path))
    except yaml.YAMLError as failure:
        raise ConfigError(f"{path}: not YAML: {failure}") from failure


@asynccontextmanager
async def speaking(authority: Authority) -> AsyncIterator[None]:
    """While the body runs, the authority remembers, and hears from its controller."""
    if isinstance(authority, OwnAuthority):
        yield
        return
    from hotswitch.agent.link import ControllerAuthority

    if not isinstance(authority, ControllerAuthority):
        yield
        return
    authority.start()
    link = asyncio.get_running_loop().create_task(authority.run())
    try:
        yield
    finally:
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)
        authority.close()
