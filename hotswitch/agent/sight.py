"""All that is seen of one pod, put together as `Facts`: its proxy, its app, its supplies, its identities (S4.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from hotswitch.agent.spare import Spare
from hotswitch.config.agentfile import Pod
from hotswitch.kernel.cgroup import Container
from hotswitch.kernel.netns import PinnedNamespace
from hotswitch.model import Facts, Mtls, Policy
from hotswitch.observe.pace import Pace
from hotswitch.observe.path import AppProbe, PathProbe
from hotswitch.observe.supply import SupplyWatch
from hotswitch.observe.watch import PodWatch


def path_probe(settings: Pod, policy: Policy, namespace: PinnedNamespace, proxy_uid: int) -> PathProbe | None:
    """None: the app declares no probe that may be replayed."""
    probe = settings.app.probe
    if probe is None:
        return None
    return PathProbe(
        namespace.fd,
        str(settings.addresses[0]),
        AppProbe(probe.port, probe.path, probe.timeout_s),
        proxy_uid=proxy_uid,
        strict=policy.mtls_on(probe.port) is Mtls.STRICT,
        lag_s=policy.thresholds.loop_lag_s,
    )


class Sight:
    """`news`: called whenever something may have to be decided."""

    def __init__(
        self,
        settings: Pod,
        policy: Policy,
        namespace: PinnedNamespace,
        news: Callable[[], None],
        *,
        probe: PathProbe | None,
        container: Container | None,
        pace: Pace,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.watch = PodWatch(
            namespace,
            news,
            path_probe=probe,
            container=container or Container(settings.cgroups),
            app_ports=frozenset(settings.app.ports),
            thresholds=policy.thresholds,
            pace=pace,
        )
        poll_s = settings.dependencies_s
        self.supply = SupplyWatch(namespace.fd, poll_s, news) if poll_s else None

    def start(self) -> None:
        self.watch.start()
        if self.supply is not None:
            self.supply.start()

    def facts(self, settings: Pod, spare: Spare) -> Facts:
        now_s = self._loop.time()
        supply = self.supply.supply(now_s, time.time()) if self.supply is not None else None
        presented_s = spare.lasts_s(self.watch.certificate_ends_unix_s)
        if presented_s is None and supply is not None:
            presented_s = supply.certificate_ends_in_s
        return replace(
            self.watch.facts(now_s),
            terminating=settings.terminating,
            identity_expires_in_s=spare.identity_expires_in_s,
            proxy_certificate_expires_in_s=presented_s,
            supply=supply,
        )

    def close(self) -> None:
        self.watch.close()
        if self.supply is not None:
            self.supply.close()
