"""Least privilege: every right that the manifests grant is used, and none is missing.

One story lets the controller do all that tier 2 with both opt-ins is for. A right that nothing in it needs is one too
many; a right that is taken away leaves a request denied.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any

import msgspec
import pytest

from hotswitch.act import slices
from hotswitch.act.order import Order, Target
from hotswitch.api import names
from hotswitch.api.orders import AnswerText, OrderText, TruthText, diagnosis_text
from hotswitch.controller.app import Controller
from hotswitch.controller.policies import report_status
from hotswitch.controller.receivers import Secrets
from hotswitch.model import Direction, Level, Opening, PodRef, PodUid, Policy
from hotswitch.report.alerts.receiver import SecretRef
from hotswitch.sandbox.kubeapi.backend import Channels
from hotswitch.sandbox.manifests import render
from tests.controller.town import POLICY, Town, shipped, town

pytestmark = pytest.mark.k8s

Granted = tuple[str, str, str]
"""Group, resource, verb."""


class Node:
    """Runs the helper's two commands on the town's kernel."""

    def __init__(self, made: Town) -> None:
        self._made = made

    async def exec(self, pod: dict[str, Any], container: str, argv: list[str], channels: Channels) -> int:
        uid = pod["metadata"]["uid"]
        if argv[-1] == "order":
            said = b"".join([part async for part in _all(channels)])
            answer: Any = await self._order(uid, msgspec.json.decode(said, type=OrderText))
        else:
            answer = self._truth(uid)
        await channels.stdout(msgspec.json.encode(answer))
        return 0

    async def _order(self, uid: str, text: OrderText) -> AnswerText:
        target = Target(pod=PodRef("web-0", "shop", PodUid(uid)), manifest={}, policy=Policy())
        openings = {way: Opening(each.level) for way, each in text.openings.items()}
        order = Order(generation=text.generation, openings=openings, expiry_s=text.expiry_s)  # type: ignore[arg-type]
        answer = await self._made.kernel.carry_out(target, order)
        return AnswerText(outcome=str(answer.outcome), truth=self._truth(uid))

    def _truth(self, uid: str) -> TruthText:
        shown, now_s = self._made.kernel.truth(uid), asyncio.get_running_loop().time()
        return TruthText(
            uid=uid,
            levels=dict(shown.levels),
            generation=int(shown.generation),
            expires_in_s=shown.expires_in_s,
            diagnosis=diagnosis_text(shown.diagnosis, now_s) if shown.diagnosis else None,
            identity_expires_in_s=3600.0,
            path_passes=shown.path_passes,
        )

    async def start_ephemeral(self, pod: dict[str, Any], container: dict[str, Any]) -> None:
        known = self._made.api.admin.get("pods", pod["metadata"]["name"], "shop")
        running = {"name": container["name"], "state": {"running": {"startedAt": "2026-11-01T08:00:00Z"}}}
        whole = {"ready": False, "restartCount": 0, "image": "i", "imageID": "", **running}
        status = {**known["status"], "ephemeralContainerStatuses": [whole]}
        self._made.api.admin.replace({**known, "status": status}, sub="status")

    async def log(self, pod: dict[str, Any], container: str) -> bytes:
        return b""


async def _all(channels: Channels) -> Any:
    while part := await channels.read():
        yield part


def granted(directory: Any) -> set[Granted]:
    found: set[Granted] = set()
    for each in render(shipped(directory, "tier-2-direct")):
        for rule in each.get("rules", ()) if each["kind"] in ("Role", "ClusterRole") else ():
            found |= set(itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"]))
    return found


def used(made: Town) -> set[Granted]:
    found = set()
    for _, action in made.api.rules_used.alone:
        verb, what = action.split(" ")[:2]
        resource, _, group = what.partition(".")
        found.add((group, resource, verb))
    return found


RECEIVER = {"name": "chat", "type": "webhook", "url": "http://127.0.0.1:9/", "allowNetworks": ["127.0.0.1/32"]}
ALERTING = {**POLICY, "spec": {**POLICY["spec"], "alerts": {"receivers": [RECEIVER]}}}  # type: ignore[dict-item]
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
}


def endpoints(uid: str) -> dict[str, Any]:
    target = {"kind": "Pod", "name": "web-0", "namespace": "shop", "uid": uid}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": target}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


async def everything(made: Town) -> None:
    """A fault that comes twice, rescued by the helper's hand and restored; people told; a direct way prepared."""
    secret = {"name": "hotswitch-receivers", "namespace": "istio-system"}
    data = {"key": base64.b64encode(b"k").decode()}
    made.api.admin.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": data}, SERVICE])
    made.api.backend = Node(made)
    uid = await made.pod("web-0")
    made.api.admin.apply([endpoints(uid)])
    async with made.controller(helper_image="hotswitch-agent:1", helper=True) as controller:
        await made.until(lambda: names.HELPER_CONTAINER in str(made.api.admin.get("pods", "web-0", "shop")["spec"]))
        for _ in range(2):
            await made.kill("web-0")
            await made.until(lambda: level(made) is Level.RESCUE, "rescued")
            await made.heal("web-0")
            await made.until(lambda: level(made) is Level.CAPTURE, "restored")
        await _words(made, controller)
        pod = PodRef("web-0", "shop", PodUid(uid))
        await slices.touch(controller.cluster, pod, "mark")
        assert await slices.eds_clusters(controller.cluster, pod)


def level(made: Town) -> Level | None:
    status = made.status("web-0")
    return None if status is None or status.under_way else status.levels.get(Direction.INBOUND)


async def _words(made: Town, controller: Controller) -> None:
    key = ("istio-system", "mesh")
    content = {**made.api.admin.get("hotswitchpolicies", "mesh", "istio-system"), "status": {}}
    await report_status(controller.cluster, content, controller.picture.policies[key])
    await Secrets(controller.cluster).read(SecretRef("istio-system", "hotswitch-receivers", "key"))
    kept = {("", "configmaps", "update"), ("", "events", "patch")}  # written some seconds later
    await made.until(lambda: kept <= used(made), "the ledger is kept, a repeated Event is counted up", timeout_s=30.0)


def test_every_right_is_used_and_none_is_missing(tmp_path: Any) -> None:
    async def story() -> None:
        async with town(tier="tier-2-direct", policy=ALERTING, led_before=False) as made:
            await everything(made)
            assert not made.api.denied
            left = sorted(granted(tmp_path) - used(made))
            assert not left, "\n".join(map(str, left))

    asyncio.run(story())
