"""Pods, as an API server keeps them: status, spec, ephemeral containers, their end (S4.2a)."""

from __future__ import annotations

import pytest

from tests.kubeapi.client import JSON, MAPS, NO_NODE, PODS, STRATEGIC, config_map, pod
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)


async def test_pods_status_takes_labels_and_annotations_and_no_spec(api):
    await api.post(PODS, pod(labels={"app": "web"}))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}
    patch = {
        "metadata": {
            "labels": {"security.istio.io/tlsMode": None, "x": "y"},
            "annotations": {"hotswitch.io/status": "{}"},
            "finalizers": ["example.com/wait"],
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": "other"},
        "status": {"phase": "Running"},
    }
    changed = await api.patch(f"{PODS}/web-0/status", patch)
    meta = changed["metadata"]
    assert meta["labels"] == {"app": "web", "x": "y"}
    assert meta["annotations"] == {"hotswitch.io/status": "{}"}
    assert meta["finalizers"] == ["example.com/wait"]
    assert "ownerReferences" not in meta
    assert changed["spec"]["nodeName"] == NO_NODE and changed["status"]["phase"] == "Running"
    assert meta["generation"] == 1
    await api.patch(f"{PODS}/web-0", {"metadata": {"finalizers": None}})


async def test_pods_main_path_takes_no_status(api):
    await api.post(PODS, pod())
    changed = await api.patch(f"{PODS}/web-0", {"metadata": {"labels": {"x": "y"}}, "status": {"phase": "Running"}})
    assert changed["status"]["phase"] == "Pending" and changed["metadata"]["labels"] == {"x": "y"}


async def test_pod_spec_stays_as_it_was_made(api):
    await api.post(PODS, pod())
    refused = await api.patch(f"{PODS}/web-0", {"spec": {"nodeName": "other"}}, status=422)
    assert "pod updates may not change fields other than" in refused["message"]
    patch = {"spec": {"containers": [{"name": "app", "image": "app:2"}]}}
    changed = await api.patch(f"{PODS}/web-0", patch, STRATEGIC)
    assert changed["spec"]["containers"][0]["image"] == "app:2" and changed["metadata"]["generation"] == 2


async def test_ephemeral_container_is_added_and_never_changed(api):
    await api.post(PODS, pod())
    helper = {"name": "hotswitch-helper", "image": "hotswitch:1"}
    patch = {"spec": {"ephemeralContainers": [helper]}}
    changed = await api.patch(f"{PODS}/web-0/ephemeralcontainers", patch, STRATEGIC)
    assert [each["name"] for each in changed["spec"]["ephemeralContainers"]] == ["hotswitch-helper"]
    await api.patch(f"{PODS}/web-0/status", {"status": {"message": "seen by its node"}}, STRATEGIC)
    patch = {"spec": {"ephemeralContainers": [{**helper, "image": "hotswitch:2"}]}}
    await api.patch(f"{PODS}/web-0/ephemeralcontainers", patch, STRATEGIC, status=422)
    removal = [{"op": "remove", "path": "/spec/ephemeralContainers"}]
    await api.patch(f"{PODS}/web-0/ephemeralcontainers", removal, JSON, status=422)
    defaults = {"imagePullPolicy": "IfNotPresent", "resources": {}, "terminationMessagePolicy": "File"}
    assert changed["spec"]["ephemeralContainers"][0].items() >= {**helper, **defaults}.items()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "app"}, 'name: Duplicate value: "app"'),
        ({"name": "Helper"}, 'name: Invalid value: "Helper"'),
        ({"ports": [{"containerPort": 80}]}, "ports: Forbidden: cannot be set for an Ephemeral Container"),
        ({"targetContainerName": "nobody"}, 'targetContainerName: Not found: "nobody"'),
        ({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}, 'volumeMounts[0].name: Not found: "none"'),
        ({"securityContext": {"runAsUser": -1}}, "securityContext.runAsUser: Invalid value: -1: must be between 0"),
        (
            {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
    ],
)
async def test_ephemeral_containers_that_are_refused(api, wrong, said):
    await api.post(PODS, pod())
    patch = {"spec": {"ephemeralContainers": [{"name": "helper", "image": "x", **wrong}]}}
    refused = await api.patch(f"{PODS}/web-0/ephemeralcontainers", patch, STRATEGIC, status=422)
    assert said in refused["message"]


async def test_pod_with_an_ephemeral_container_goes_on_changing(api):
    await api.post(PODS, pod())
    patch = {"spec": {"ephemeralContainers": [{"name": "hotswitch-helper", "image": "hotswitch:1"}]}}
    changed = await api.patch(f"{PODS}/web-0/ephemeralcontainers", patch, STRATEGIC)
    assert changed["metadata"]["generation"] == 2
    running = [{"name": "hotswitch-helper", "image": "", "imageID": "", "ready": False, "restartCount": 0}]
    await api.patch(f"{PODS}/web-0/status", {"status": {"ephemeralContainerStatuses": running}})
    await api.patch(f"{PODS}/web-0", {"metadata": {"labels": {"x": "y"}}})
    await api.patch(f"{PODS}/web-0", [{"op": "remove", "path": "/spec/ephemeralContainers"}], JSON, status=422)


async def test_ephemeral_container_cannot_come_by_the_main_path(api):
    await api.post(PODS, pod())
    patch = {"spec": {"ephemeralContainers": [{"name": "x", "image": "x"}]}}
    await api.patch(f"{PODS}/web-0", patch, STRATEGIC, status=422)


async def test_finalizer_holds_a_deleted_object(api):
    await api.post(MAPS, config_map(finalizers=["example.com/wait"]))
    held = await api.delete(f"{MAPS}/settings")
    held = await api.get(f"{MAPS}/settings")
    assert held["metadata"]["deletionTimestamp"]
    await api.patch(f"{MAPS}/settings", {"metadata": {"finalizers": None}})
    await api.get(f"{MAPS}/settings", status=404)


async def test_running_pod_goes_when_its_node_says_so(api):  # S4.2a: terminating with a timestamp
    await api.post(PODS, pod())
    going = await api.delete(f"{PODS}/web-0")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30 and going["metadata"]["deletionTimestamp"]
    assert (await api.get(f"{PODS}/web-0"))["metadata"]["deletionTimestamp"]
    await api.delete(f"{PODS}/web-0", {"gracePeriodSeconds": 0})
    await api.get(f"{PODS}/web-0", status=404)


async def test_unscheduled_and_ended_pods_go_at_once(api):
    unscheduled = pod("waiting")
    del unscheduled["spec"]["nodeName"]
    unscheduled["spec"]["schedulerName"] = "hotswitch-no-scheduler"
    await api.post(PODS, unscheduled)
    await api.delete(f"{PODS}/waiting")
    await api.get(f"{PODS}/waiting", status=404)
    await api.post(PODS, pod("done"))
    await api.patch(f"{PODS}/done/status", {"status": {"phase": "Succeeded"}})
    await api.delete(f"{PODS}/done")
    await api.get(f"{PODS}/done", status=404)
