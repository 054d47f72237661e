"""Where Istio's own commands could be run: a table of containers and what their rights allow (S4.3)."""

from __future__ import annotations

from typing import Any

import pytest

from hotswitch.act import exec_place
from hotswitch.act.exec_place import Place
from hotswitch.act.execing import CannotExec, ways
from hotswitch.act.order import Target
from hotswitch.capture.spec import CaptureSpec
from hotswitch.capture.version import IstioVersion
from hotswitch.model import PodRef, PodUid, Policy

pytestmark = pytest.mark.unit

NONE: dict[str, Any] = {"runAsUser": 1337, "capabilities": {"drop": ["ALL"]}}
TPROXY: dict[str, Any] = {"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}
RUNNING: dict[str, Any] = {"running": {}}
REDIRECT = CaptureSpec(inbound_ports="*", outbound_cidrs="*")
LEGACY = CaptureSpec(inbound_ports="*", outbound_cidrs="*", force_iptables_binary="legacy")


def pod(
    rights: dict[str, Any],
    image: str = "registry.test/istio/proxyv2:1.27.1",
    state: dict[str, Any] = RUNNING,
    where: str = "containers",
    name: str = "istio-proxy",
) -> dict[str, Any]:
    statuses = {"containers": "containerStatuses", "initContainers": "initContainerStatuses"}
    status = {statuses.get(where, "ephemeralContainerStatuses"): [{"name": name, "state": state}]}
    return {"spec": {where: [{"name": name, "image": image, "securityContext": rights}]}, "status": status}


@pytest.mark.parametrize(
    ("manifest", "spec", "why"),
    [
        (pod(NONE), REDIRECT, "drops ALL capabilities"),
        (pod({**TPROXY, "runAsUser": 1337}), REDIRECT, "run as uid 1337"),
        (pod(TPROXY, state={"waiting": {"reason": "CrashLoopBackOff"}}), REDIRECT, "waiting (CrashLoopBackOff)"),
        (pod(TPROXY, state={}), REDIRECT, "nothing is known of it"),
        (pod(TPROXY), LEGACY, "needs NET_RAW"),
        (pod(TPROXY, image="registry.test/istio/proxyv2@sha256:00"), REDIRECT, "cannot be told from the image's tag"),
        (pod(TPROXY, image="registry.test/other:1"), REDIRECT, "has no pilot-agent"),
        (pod({"privileged": True, "runAsUser": 1337}, "r/proxyv2:1.27.1-distroless"), REDIRECT, "run as uid 1337"),
        ({"spec": {"containers": []}}, REDIRECT, "has no istio-proxy"),
    ],
)
def test_refused_in_a_sentence(manifest: dict[str, Any], spec: CaptureSpec, why: str) -> None:
    found = exec_place.find(manifest, spec)
    assert isinstance(found, str) and why in found


@pytest.mark.parametrize(
    ("manifest", "spec", "place"),
    [
        (pod(TPROXY), REDIRECT, Place("istio-proxy", IstioVersion(1, 27, 1))),
        (pod(TPROXY, where="initContainers"), REDIRECT, Place("istio-proxy", IstioVersion(1, 27, 1))),
        (pod(TPROXY, "r/proxyv2:1.27.1-distroless"), REDIRECT, Place("istio-proxy", IstioVersion(1, 27, 1), bare=True)),
        (
            pod({"privileged": True, "runAsUser": 0}),
            LEGACY,
            Place("istio-proxy", IstioVersion(1, 27, 1), raw=True),
        ),
        (
            pod({"privileged": True, "runAsUser": 1337}),
            REDIRECT,
            Place("istio-proxy", IstioVersion(1, 27, 1), ("sudo",), raw=True),
        ),
        (
            pod(
                {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
                where="ephemeralContainers",
                name="hotswitch-helper",
            ),
            LEGACY,
            Place("hotswitch-helper", IstioVersion(1, 27, 1), raw=True),
        ),
    ],
)
def test_place(manifest: dict[str, Any], spec: CaptureSpec, place: Place) -> None:
    assert exec_place.find(manifest, spec) == place


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("1.23.3", ("pilot-agent", "istio-clean-iptables")),
        ("1.24.2", ("pilot-agent", "istio-iptables")),
        ("1.29.1", ("pilot-agent", "istio-iptables")),
    ],
)
def test_clean_up_is_that_of_the_release(tag: str, words: tuple[str, ...]) -> None:  # S4.3b
    found = ways(target(tag, "REDIRECT"))
    argv = found.argv(found.cleanup)
    assert argv[: len(words)] == words
    if words[1] == "istio-iptables":
        assert argv == (*found.argv(found.setup), "--cleanup-only"), "the very arguments of the set-up"


def test_clean_up_that_leaves_rules_is_not_used() -> None:  # I4
    with pytest.raises(CannotExec, match="capture would not come back as it was"):
        ways(target("1.23.3", "TPROXY"))
    assert ways(target("1.24.2", "TPROXY"))


def target(tag: str, mode: str) -> Target:
    args = ["istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", mode, "-i", "*", "-b", "*"]
    manifest = pod(TPROXY, image=f"r/proxyv2:{tag}")
    manifest["spec"]["initContainers"] = [{"name": "istio-init", "args": args}]
    return Target(pod=PodRef("p", "n", PodUid("u")), manifest=manifest, policy=Policy())


def test_distroless_image_cannot_be_given_variables() -> None:
    args = ["istio-iptables", "-u", "1337", "-m", "TPROXY", "-i", "*", "-b", "*"]
    manifest = pod(TPROXY, image="r/proxyv2:1.27.1-distroless")
    env = [{"name": "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "value": "202"}]
    manifest["spec"]["initContainers"] = [{"name": "istio-init", "args": args, "env": env}]
    with pytest.raises(CannotExec, match="variables"):
        ways(Target(pod=PodRef("p", "n", PodUid("u")), manifest=manifest, policy=Policy()))
