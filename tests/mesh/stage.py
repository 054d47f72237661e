"""A mesh in miniature with hotswitch installed as it is shipped: real sidecars, real controllers, the shipped rights.

What is stood in for is the kubelet, istiod and the API server; all that is hotswitch's own runs as it would anywhere.
Tests wait for what the API shows, by watches; nothing here looks at a controller from inside.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hotswitch.act.helper import HelperActuator
from hotswitch.act.order import Target
from hotswitch.api import names
from hotswitch.api.status import PodStatus, StatusError, decode
from hotswitch.cluster.kinds import EVENTS, NAMESPACES, PODS, POLICIES
from hotswitch.cluster.watch import Watcher
from hotswitch.kernel.command import Command, run
from hotswitch.model import OPEN_LEVELS, Direction, Level, Mode, Mtls, PodRef, PodUid, Policy
from hotswitch.sandbox.cluster.cluster import SandboxCluster
from hotswitch.sandbox.cluster.installed import HELPER_IMAGE, OPT_INS, ROOT_NAMESPACE, Controller, Installation
from hotswitch.sandbox.cluster.published import Published
from hotswitch.sandbox.kubelet import Timings

SHOP = "shop"
PATIENCE_S = 60.0  # for a machine with two cores that others use as well
OPTIONS = ("--lease", "4", "--probe-idle", "0.5")
SPEC: dict[str, Any] = {
    "mode": "auto",
    "levels": {"inbound": ["rescue", "hold"], "outbound": ["rescue", "hold"]},
    "timings": {"expiry": "60s", "recoverAfter": "0.5s", "holdDown": "1s", "holdDownMax": "2s"},
    "budgets": {"mesh": 9, "namespace": 9, "workload": 9},
}
Object = dict[str, Any]


@dataclass
class Stage:
    cluster: SandboxCluster
    installed: Installation
    controllers: list[Controller] = field(default_factory=list)
    pods: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    history: dict[str, list[PodStatus]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # ---- making ----

    async def policy(self, name: str = "mesh", namespace: str = ROOT_NAMESPACE, **spec: Any) -> None:
        content = {"metadata": {"name": name, "namespace": namespace}, "spec": {**SPEC, **spec}}
        await self.cluster.cluster.create(POLICIES, namespace, content)

    async def controller(self, *options: str) -> Controller:
        """Another one, ready."""
        made = self.installed.controller(*OPTIONS, *options)
        made.start()
        await made.ready(PATIENCE_S)
        self.controllers.append(made)
        return made

    async def leader(self) -> Controller:
        """Which of them leads now, by its own word; waits until one does."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for each in self.controllers:
                    with contextlib.suppress(OSError):
                        if b"leading" in (await each.get("/readyz")).body:
                            return each
                await asyncio.sleep(0.05)

    async def web(self, name: str, *, protected: bool = True, **spec: Any) -> Published:
        """A pod whose app trusts nobody's headers; `protected`: wait until its helper could rescue."""
        told = {"native": True, "workload": f"deploy/{name}", "timings": Timings(scale=0.2), "grace_s": 5, **spec}
        annotations = {"hotswitch.io/trusts-proxy-headers": "false", **told.pop("annotations", {})}
        made = await self.cluster.pod(name, annotations=annotations, **told)
        await made.pod.ready(PATIENCE_S)
        if protected:
            await self.protected(made)
        return made

    async def protected(self, web: Published) -> None:
        """The controller has put its helper there, and that one has a rescue and an identity."""
        await self.until(lambda: "running" in self.container(web, names.HELPER_CONTAINER).get("state", {}), "a helper")
        helper = HelperActuator(self.cluster.cluster, HELPER_IMAGE)
        async with asyncio.timeout(PATIENCE_S):
            while not ((able := await helper.ability(self.target(web))).levels and not able.rescue_refusal):
                await asyncio.sleep(0.1)

    def target(self, web: Published) -> Target:
        manifest = self.pods[web.pod.name]
        ref = PodRef(web.pod.name, SHOP, PodUid(manifest["metadata"]["uid"]), web.pod.workload)
        return Target(pod=ref, manifest=manifest, policy=Policy(mode=Mode.AUTO, mtls=Mtls.PERMISSIVE))

    # ---- what the API shows ----

    def container(self, web: Published, name: str) -> Object:
        status = self.pods.get(web.pod.name, {}).get("status", {})
        lists = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        every = (each for key in lists for each in status.get(key) or ())
        return next((each for each in every if each["name"] == name), {})

    def status(self, web: Published) -> PodStatus | None:
        metadata = self.pods[web.pod.name]["metadata"]
        text = metadata.get("annotations", {}).get(names.STATUS)
        with contextlib.suppress(StatusError):
            return None if text is None else decode(text, metadata["uid"])
        return None

    def written(self, web: Published) -> list[PodStatus]:
        """Every status that was seen on it, in turn."""
        return self.history.get(web.pod.name, [])

    def levels(self, web: Published) -> Mapping[Direction, Level]:
        """What stands; nothing while an act is under way, or nothing was ever said."""
        status = self.status(web)
        return {} if status is None or status.under_way else status.levels

    def is_open(self, web: Published, level: Level | None = None) -> bool:
        found = self.levels(web).values()
        return bool(found) and any(each in (OPEN_LEVELS if level is None else {level}) for each in found)

    def is_captured(self, web: Published) -> bool:
        found = self.levels(web)
        return bool(found) and set(found.values()) == {Level.CAPTURE}

    def condition(self, web: Published, kind: str = names.CONDITION) -> Object:
        every = self.pods[web.pod.name]["status"].get("conditions") or ()
        return next((each for each in every if each["type"] == kind), {})

    def codes(self, web: Published) -> list[str]:
        return [each["reason"] for each in self.events if each["involvedObject"]["name"] == web.pod.name]

    async def until(self, holds: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Asked again whenever a pod or an Event changes."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            told = {name: pod["metadata"].get("annotations", {}).get(names.STATUS) for name, pod in self.pods.items()}
            words = "\n".join(each.log.read_text()[-8000:] for each in self.controllers)
            for each in self.installed.controllers:
                with contextlib.suppress(OSError):
                    words += (await each.get("/metrics")).body.decode()[-9000:]
            raise AssertionError(f"not within {timeout_s:g} s: {what}\n{told}\n{words}") from None

    async def captured(self, web: Published, timeout_s: float = PATIENCE_S) -> None:
        """It is well, captured, and nothing is left to be told."""

        def rests() -> bool:
            status = self.status(web)
            return self.is_captured(web) and status is not None and not status.alerts

        await self.until(rests, f"{web.pod.name} is captured", timeout_s)

    def rules(self, web: Published) -> str:
        """All that netfilter has in the pod's namespace, without counters."""
        return run(Command(("nft", "-s", "list", "ruleset"), netns=web.pod.netns), check=True).stdout

    # ---- watches ----

    def pod_changed(self, change: Any) -> None:
        name = change.object["metadata"]["name"]
        if change.type == "DELETED":
            self.pods.pop(name, None)
        else:
            self.pods[name] = change.object
            self._remember(change.object)
        self._news.set()

    def _remember(self, pod: Object) -> None:
        text, known = pod["metadata"].get("annotations", {}).get(names.STATUS), pod["metadata"]["name"]
        history = self.history.setdefault(known, [])
        with contextlib.suppress(StatusError):
            status = None if text is None else decode(text, pod["metadata"]["uid"])
            if status is not None and (not history or history[-1] != status):
                history.append(status)

    def event_changed(self, change: Any) -> None:
        self.events.append(change.object)
        self._news.set()


@asynccontextmanager
async def staged(tier: str = "tier-1-rescue", opt_ins: Sequence[str] = OPT_INS, **policy: Any) -> AsyncIterator[Stage]:
    """Without a controller yet."""
    async with SandboxCluster(namespace=SHOP) as cluster:
        stage = Stage(cluster, await cluster.install(tier, opt_ins))
        labels = {"metadata": {"labels": {names.MODE_LABEL: "auto"}}}
        await cluster.cluster.patch_merge(NAMESPACES, None, SHOP, labels)
        await stage.policy(**policy)
        watchers: tuple[Watcher[Any], ...] = (
            Watcher(cluster.cluster, PODS, dict, on_event=stage.pod_changed, namespace=SHOP),
            Watcher(cluster.cluster, EVENTS, dict, on_event=stage.event_changed, namespace=SHOP),
        )
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        try:
            yield stage
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
