"""From installing to taking it away, in order: a sidecar dies, traffic goes on, the sidecar is back, nothing stays."""

from __future__ import annotations

import json

import msgspec
import pytest

from e2e.cluster import Failed, InPod, Kubectl, await_that
from e2e.install import ACCOUNT, NAMESPACE
from hotswitch.api import names
from hotswitch.api.orders import TruthText
from hotswitch.api.status import PodStatus, decode
from hotswitch.model import Direction, Fault, Level

pytestmark = pytest.mark.e2e
NO_IMAGE = "hotswitch.invalid/never:1"  # cannot be pulled: the proxy stays down until its own image is put back


@pytest.fixture
def web(kubectl, hotswitch, shop):
    return InPod(kubectl, shop, "web")


@pytest.fixture
def plain(kubectl, shop):
    return InPod(kubectl, shop, "plain")


def status(pod: InPod) -> PodStatus | None:
    metadata = pod.object["metadata"]
    text = metadata.get("annotations", {}).get(names.STATUS)
    return decode(text, metadata["uid"]) if text else None


def levels(pod: InPod) -> dict[Direction, Level]:
    said = status(pod)
    return {way: level for way, level in said.levels.items() if level is not Level.CAPTURE} if said else {}


def helper_runs(pod: InPod) -> bool:
    statuses = pod.object["status"].get("ephemeralContainerStatuses", [])
    return any(each["name"] == names.HELPER_CONTAINER and "running" in each["state"] for each in statuses)


def is_prepared(pod: InPod) -> bool:
    """Its helper runs, has seen the proxy well, and holds the pod's identity: without one the rescue serves nobody."""
    if not helper_runs(pod):
        return False
    try:
        text = pod.run(names.HELPER_CONTAINER, "hotswitch", "truth")
    except Failed:  # the container runs before the helper in it answers
        return False
    truth = msgspec.json.decode(text, type=TruthText)
    well = truth.diagnosis is not None and truth.diagnosis.fault is Fault.WELL
    return well and truth.identity_expires_in_s is not None and not truth.rescue_refusal


def condition(pod: InPod) -> str:
    found = [each["status"] for each in pod.object["status"]["conditions"] if each["type"] == names.CONDITION]
    return found[0] if found else ""


def codes(pod: InPod) -> str:
    field = f"involvedObject.uid={pod.object['metadata']['uid']}"
    events = pod.kubectl.get("events", "--namespace", pod.namespace, "--field-selector", field)["items"]
    return json.dumps([[event.get("reason"), event.get("message")] for event in events])


def leader(kubectl: Kubectl) -> str:
    """Whoever is ready need not lead yet, and the first to lead makes the Lease."""
    lease = kubectl.get("lease", "--namespace", NAMESPACE, "--field-selector", "metadata.name=hotswitch-controller")
    return next((each["spec"].get("holderIdentity", "") for each in lease["items"]), "")


def test_two_replicas_are_ready_and_one_leads(kubectl, hotswitch):
    deployment = kubectl.get("deployment", "hotswitch-controller", "--namespace", NAMESPACE)
    assert deployment["status"]["readyReplicas"] == 2
    await_that(lambda: leader(kubectl) != "", "one of them leads")


def test_it_may_do_what_its_tier_says_and_no_more(kubectl, hotswitch):
    assert kubectl.may(ACCOUNT, "patch", "pods", "--subresource=status", "--all-namespaces")
    for words in (("patch", "pods"), ("list", "secrets"), ("delete", "pods"), ("create", "clusterroles")):
        assert not kubectl.may(ACCOUNT, *words, "--all-namespaces"), words


def test_an_invalid_policy_is_refused_at_the_door(kubectl, hotswitch):
    policy = {
        "apiVersion": "hotswitch.io/v1alpha1",
        "kind": "HotSwitchPolicy",
        "metadata": {"name": "wrong", "namespace": "istio-system"},
        "spec": {"mode": "sometimes"},
    }
    with pytest.raises(RuntimeError, match="mode"):
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(policy))


def test_traffic_passes_while_all_is_well(web, plain):
    assert plain.ask(f"http://{web.address}:8080/") == "200"
    assert levels(web) == {}


def test_a_sidecar_dies_and_traffic_goes_on(web, plain):
    restarts, (_, _, image) = web.app_restarts, web.proxy
    await_that(lambda: is_prepared(web), "the helper in the pod has the identity for a rescue", 120)
    web.set_proxy_image(NO_IMAGE)
    try:
        await_that(lambda: levels(web) != {}, "the status says that the pod's gate is open")
        await_that(lambda: plain.ask(f"http://{web.address}:8080/") == "200", "requests reach the app again")
        await_that(lambda: web.ask(f"http://{plain.address}:8080/") == "200", "the app reaches others again")
        await_that(lambda: "HSD001" in codes(web), "an Event says what was done")
        await_that(lambda: condition(web) == "False", "the pod's condition says so")
        assert web.app_restarts == restarts, "the kubelet restarted a healthy app"
    finally:
        web.set_proxy_image(image)


def test_the_sidecar_is_back_and_so_is_capture(web, plain):
    await_that(lambda: levels(web) == {}, "capture is restored", 180)
    await_that(lambda: "HSD010" in codes(web), "an Event says that it ended")
    assert plain.ask(f"http://{web.address}:8080/") == "200"
    assert web.object["metadata"]["labels"][names.TLS_MODE_LABEL] == "istio"


def test_taking_it_away_leaves_nothing(kubectl, hotswitch, web, plain):
    hotswitch.remove()
    kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,crds"
    ours = kubectl.get(kinds, "--selector", "app.kubernetes.io/part-of=hotswitch")["items"]
    assert [obj["metadata"]["name"] for obj in ours] == []
    roles = kubectl.get("roles,rolebindings", "--namespace", "istio-system")["items"]
    assert [obj["metadata"]["name"] for obj in roles if "hotswitch" in obj["metadata"]["name"]] == []
    namespaces = [obj["metadata"]["name"] for obj in kubectl.get("namespaces")["items"]]
    assert NAMESPACE not in namespaces
    assert plain.ask(f"http://{web.address}:8080/") == "200"
