"""The embedded API and a real API server answer alike: the same tests, against both whenever a real one is at hand.

Only what needs no node and no controller: those are the sandbox's own part.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.kubeapi.client import APPLY, JSON, MERGE, NO_NODE, STRATEGIC, config_map, pod
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
PODS, MAPS = "/api/v1/namespaces/{ns}/pods", "/api/v1/namespaces/{ns}/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"


def version(obj):
    return int(obj["metadata"]["resourceVersion"])


async def test_created_object_has_identity(api):
    made = await api.post(PODS, pod(labels={"app": "web"}))
    meta = made["metadata"]
    assert (made["kind"], made["apiVersion"], meta["namespace"]) == ("Pod", "v1", api.namespace)
    assert meta["uid"] and meta["creationTimestamp"].endswith("Z") and meta["generation"] == 1
    assert made["status"]["phase"] == "Pending"
    assert await api.get(f"{PODS}/web-0") == made


async def test_generation_only_where_a_spec_is_followed(api):
    assert "generation" not in (await api.post(MAPS, config_map()))["metadata"]
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    assert "generation" not in (await api.post(LEASES, lease))["metadata"]


async def test_existing_name_is_refused(api):
    await api.post(PODS, pod())
    refused = await api.post(PODS, pod(), status=409)
    assert (refused["kind"], refused["reason"], refused["code"]) == ("Status", "AlreadyExists", 409)
    assert refused["message"] == 'pods "web-0" already exists'


async def test_generated_names_differ(api):
    names = {(await api.post(PODS, pod(name=None, generateName="web-")))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3 and all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_unknown_names_and_paths(api):
    assert (await api.get(f"{PODS}/nobody", status=404))["message"] == 'pods "nobody" not found'
    assert (await api.get("/apis/nobody.example/v1/things", status=404, raw=True)) is not None
    lost = await api.post("/api/v1/namespaces/no-such-namespace/pods", pod(), status=404)
    assert lost["message"] == 'namespaces "no-such-namespace" not found'


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (pod(name="Web_0"), "metadata.name"),
        (pod(labels={"app": "not a value"}), "metadata.labels"),
        ({**pod(), "spec": {"containers": []}}, "spec.containers"),
        ({**pod(), "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}}, "name"),
    ],
)
async def test_broken_objects_are_invalid(api, broken, field):
    refused = await api.post(PODS, broken, status=422)
    assert refused["reason"] == "Invalid"
    assert any(field in cause["field"] for cause in refused["details"]["causes"])


async def test_stale_put_is_a_conflict(api):
    old = await api.post(MAPS, config_map())
    new = await api.put(f"{MAPS}/settings", {**old, "data": {"a": "2"}})
    assert version(new) > version(old)
    refused = await api.put(f"{MAPS}/settings", {**old, "data": {"a": "3"}}, status=409)
    assert refused["reason"] == "Conflict"
    assert "the object has been modified" in refused["message"]


async def test_two_candidates_for_a_lease_one_wins(api):  # I6
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    made = await api.post(LEASES, lease)
    tries = [{**made, "spec": {"holderIdentity": who, "leaseDurationSeconds": 15}} for who in ("a", "b")]
    answers = await asyncio.gather(*(api.put(f"{LEASES}/l", each, status=(200, 409)) for each in tries))
    assert sorted(answer["kind"] for answer in answers) == ["Lease", "Status"]


async def test_unchanged_write_is_no_change(api):
    made = await api.post(MAPS, config_map())
    assert version(await api.patch(f"{MAPS}/settings", {"data": {"a": "1"}})) == version(made)


async def test_merge_patch(api):
    await api.post(MAPS, config_map())
    changed = await api.patch(f"{MAPS}/settings", {"data": {"a": None, "b": "2"}}, MERGE)
    assert changed["data"] == {"b": "2"}


async def test_json_patch_with_a_failed_test_changes_nothing(api):
    await api.post(MAPS, config_map())
    patch = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "replace", "path": "/data/a", "value": "3"}]
    refused = await api.patch(f"{MAPS}/settings", patch, JSON, status=422)
    assert refused["reason"] == "Invalid"
    patch[0]["value"] = "1"
    assert (await api.patch(f"{MAPS}/settings", patch, JSON))["data"] == {"a": "3"}


async def test_strategic_merge_keeps_other_conditions(api):  # facts/kubernetes.md: a merge patch wipes them
    await api.post(PODS, pod())
    for kind in ("Ready", "hotswitch.io/Capture"):
        patch = {"status": {"conditions": [{"type": kind, "status": "False"}]}}
        changed = await api.patch(f"{PODS}/web-0/status", patch, STRATEGIC)
    assert {condition["type"] for condition in changed["status"]["conditions"]} >= {"Ready", "hotswitch.io/Capture"}


async def test_strategic_merge_keeps_places_and_puts_new_ones_first(api):
    await api.post(PODS, pod())
    for names in ("ABC", "C", "D", "BAE", "CF"):
        patch = {"status": {"conditions": [{"type": name, "status": names} for name in names]}}
        changed = await api.patch(f"{PODS}/web-0/status", patch, STRATEGIC)
    found = [(condition["type"], condition["status"]) for condition in changed["status"]["conditions"]]
    assert "".join(name for name, _ in found) == "DBAECF"
    assert dict(found) == {"A": "BAE", "B": "BAE", "C": "CF", "D": "D", "E": "BAE", "F": "CF"}


async def test_strategic_merge_deletes_by_key(api):
    await api.post(PODS, pod())
    for patch in ({"type": "A", "status": "True"}, {"type": "B", "status": "True"}, {"type": "A", "$patch": "delete"}):
        changed = await api.patch(f"{PODS}/web-0/status", {"status": {"conditions": [patch]}}, STRATEGIC)
    assert [condition["type"] for condition in changed["status"]["conditions"]] == ["B"]


async def test_unknown_kind_of_patch(api):
    await api.post(MAPS, config_map())
    await api.patch(f"{MAPS}/settings", {"data": {}}, "application/json", status=415)


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC])
async def test_patch_of_an_older_version_is_a_conflict(api, kind):  # I6: the fence of every write
    old = await api.post(PODS, pod())
    new = await api.patch(f"{PODS}/web-0", {"metadata": {"labels": {"x": "y"}}})
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "annotations": {"a": "b"}}}
    assert (await api.patch(f"{PODS}/web-0/status", patch, kind, status=409))["reason"] == "Conflict"
    patch["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"]
    assert (await api.patch(f"{PODS}/web-0/status", patch, kind))["metadata"]["annotations"] == {"a": "b"}


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC])
async def test_patch_of_another_uid_is_invalid_not_a_conflict(api, kind):  # I6
    made = await api.post(PODS, pod())
    patch = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000", "annotations": {"a": "b"}}}
    refused = await api.patch(f"{PODS}/web-0/status", patch, kind, status=422)
    assert refused["details"]["causes"][0]["field"] == "metadata.uid"
    patch["metadata"]["resourceVersion"] = "1"
    await api.patch(f"{PODS}/web-0/status", patch, kind, status=409)  # a version that is named is looked at first
    patch["metadata"] |= {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    await api.patch(f"{PODS}/web-0/status", patch, kind)


async def test_put_of_another_uid_is_a_conflict(api):  # I6
    made = await api.post(MAPS, config_map())
    made["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000"}
    refused = await api.put(f"{MAPS}/settings", made, status=409)
    assert "Precondition failed: UID in precondition" in refused["message"]


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


async def test_delete_of_another_uid_is_a_conflict(api):
    await api.post(MAPS, config_map())
    await api.delete(f"{MAPS}/settings", {"preconditions": {"uid": "another"}}, status=409)
    await api.get(f"{MAPS}/settings")


async def test_deletecollection_by_label(api):
    for name, app in (("one", "a"), ("two", "b")):
        await api.post(MAPS, config_map(name, labels={"app": app}))
    await api.delete(MAPS, labelSelector="app=a")
    await api.get(f"{MAPS}/one", status=404)
    await api.get(f"{MAPS}/two")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=web", {"one", "two"}),
        ("app==web,tier!=front", {"two"}),
        ("app", {"one", "two"}),
        ("!app", {"three"}),
        ("tier in (front, back)", {"one"}),
        ("app notin (web)", {"three"}),
        ("app!=web", {"three"}),
    ],
)
async def test_label_selectors(api, selector, names):
    labels = {"one": {"app": "web", "tier": "front"}, "two": {"app": "web"}, "three": {}}
    for name, each in labels.items():
        await api.post(MAPS, config_map(name, labels=each))
    found = await api.get(MAPS, labelSelector=selector)
    assert {item["metadata"]["name"] for item in found["items"]} >= names
    assert not {item["metadata"]["name"] for item in found["items"]} & (labels.keys() - names)


async def test_field_selectors(api):
    await api.post(PODS, pod("one"))
    other = pod("two")
    other["spec"]["nodeName"] = "node-2"
    await api.post(PODS, other)
    for selector, name in (("spec.nodeName=node-2", "two"), ("metadata.name!=two,status.phase=Pending", "one")):
        found = await api.get(PODS, fieldSelector=selector)
        assert [item["metadata"]["name"] for item in found["items"]] == [name]
    await api.get(PODS, fieldSelector="spec.containers=x", status=400)
    await api.get(MAPS, labelSelector="a b c", status=400)


async def test_list_has_bare_items_and_a_version(api):
    made = await api.post(PODS, pod())
    found = await api.get(PODS)
    assert (found["kind"], found["apiVersion"]) == ("PodList", "v1")
    assert version(found) >= version(made)
    assert "kind" not in found["items"][0] and "apiVersion" not in found["items"][0]


async def test_limit_that_is_no_number(api):
    await api.get(PODS, limit="x", status=400)


async def test_body_that_is_too_large(api):
    await api.post(MAPS, {**config_map(), "data": {"a": "x" * 3_200_000}}, status=413)


async def test_list_in_pages(api):
    for place in range(5):
        await api.post(PODS, pod(f"web-{place}"))
    names, token = [], ""
    while True:
        page = await api.get(PODS, limit="2", **({"continue": token} if token else {}))
        names.append([item["metadata"]["name"] for item in page["items"]])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert page["metadata"]["remainingItemCount"] > 0
    assert names == [["web-0", "web-1"], ["web-2", "web-3"], ["web-4"]]


async def test_watch_goes_on_from_a_version(api):
    await api.post(MAPS, config_map("one"))
    seen = await api.get(MAPS)
    await api.post(MAPS, config_map("two"))
    await api.patch(f"{MAPS}/two", {"data": {"a": "2"}})
    await api.delete(f"{MAPS}/two")
    query = {"resourceVersion": seen["metadata"]["resourceVersion"], "fieldSelector": "metadata.name=two"}
    async with api.watch(MAPS, **query) as events:
        assert await events.names(3) == [("ADDED", "two"), ("MODIFIED", "two"), ("DELETED", "two")]


async def test_watch_from_nothing_shows_what_is_there(api):
    await api.post(MAPS, config_map("one"))
    async with api.watch(MAPS, fieldSelector="metadata.name=one") as events:
        kind, obj = await events.next()
        assert (kind, obj["kind"], obj["apiVersion"]) == ("ADDED", "ConfigMap", "v1")
        await api.delete(f"{MAPS}/one")
        kind, gone = await events.next()
        assert kind == "DELETED" and version(gone) > version(obj)


async def test_watch_of_a_selection_tells_who_comes_and_goes(api):
    start = (await api.get(MAPS))["metadata"]["resourceVersion"]
    async with api.watch(MAPS, resourceVersion=start, labelSelector="on=yes") as events:
        await api.post(MAPS, config_map("one"))
        await api.patch(f"{MAPS}/one", {"metadata": {"labels": {"on": "yes"}}})
        await api.patch(f"{MAPS}/one", {"data": {"a": "2"}})
        await api.patch(f"{MAPS}/one", {"metadata": {"labels": {"on": "no"}}})
        assert await events.names(3) == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


async def test_watch_ends_after_its_time(api):
    async with api.watch(MAPS, resourceVersion="0", timeoutSeconds="1", labelSelector="none=here") as events:
        assert await events.next() is None


async def test_watch_with_initial_events_marks_their_end(api):
    await api.post(MAPS, config_map("one"))
    query = {
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
        "fieldSelector": "metadata.name=one",
    }
    async with api.watch(MAPS, **query) as events:
        kind, first = await events.next()
        if api.embedded is None and kind == "ERROR" and "RequestWatchProgress" in first["message"]:
            return  # its etcd is older than 3.4.25: an API server on it has no streamed lists
        assert kind == "ADDED"
        kind, mark = await events.next()
        assert kind == "BOOKMARK" and mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert version(mark) > 0 and mark["kind"] == "ConfigMap"


async def test_streamed_list_has_to_say_how_new(api):
    refused = await api.get(MAPS, watch="1", sendInitialEvents="true", allowWatchBookmarks="true", status=422)
    assert refused["details"]["causes"][0]["field"] == "resourceVersionMatch"


async def test_version_that_is_yet_to_come(api):
    refused = await api.get(MAPS, resourceVersion="999999999", status=504)
    assert "Too large resource version" in refused["message"]
    await api.get(MAPS, resourceVersion="none", status=400)
    await api.get(MAPS, resourceVersion="none", watch="1", status=(400, 500))


async def test_server_side_apply_makes_and_changes_and_takes_back(api):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1", "b": "1"}}
    path = f"{MAPS}/settings"
    await api.patch(path, config, APPLY, status=201, fieldManager="one")
    await api.patch(path, {"data": {"c": "3"}}, MERGE)
    config["data"] = {"a": "2"}
    changed = await api.patch(path, config, APPLY, status=200, fieldManager="one")
    assert changed["data"] == {"a": "2", "c": "3"}


async def test_scale(api):
    selector = {"matchLabels": {"app": "web"}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
    spec = {"replicas": 1, "selector": selector, "template": template}
    deployments = "/apis/apps/v1/namespaces/{ns}/deployments"
    await api.post(
        deployments, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    )
    scale = await api.get(f"{deployments}/web/scale")
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["selector"]) == ("Scale", 1, "app=web")
    assert (await api.patch(f"{deployments}/web/scale", {"spec": {"replicas": 3}}))["spec"] == {"replicas": 3}
    assert (await api.get(f"{deployments}/web"))["spec"]["replicas"] == 3


async def test_eviction_is_a_delete(api):
    await api.post(PODS, pod())
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web-0"}}
    await api.post(f"{PODS}/web-0/eviction", eviction, status=201)
    assert (await api.get(f"{PODS}/web-0"))["metadata"]["deletionTimestamp"]


async def test_dry_run_stores_nothing(api):
    await api.post(MAPS, config_map(), dryRun="All")
    await api.get(f"{MAPS}/settings", status=404)


async def test_wrong_token_is_nobody(api):
    api.headers = {"Authorization": "Bearer wrong"}
    refused = await api.get(PODS, status=401)
    assert refused["reason"] == "Unauthorized"
    api.headers = {}


async def test_discovery_names_subresources(api):
    found = await api.get("/api/v1")
    names = {resource["name"] for resource in found["resources"]}
    assert {"pods", "pods/status", "pods/exec", "pods/ephemeralcontainers", "events"} <= names
    groups = await api.get("/apis")
    assert {"coordination.k8s.io", "discovery.k8s.io"} <= {group["name"] for group in groups["groups"]}
    assert json.loads(await api.get("/version", raw=True))["major"] == "1"
