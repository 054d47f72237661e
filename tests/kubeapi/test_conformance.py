"""The embedded API and a real API server answer alike: the same tests, against both whenever a real one is at hand.

Only what needs no node and no controller: those are the sandbox's own part.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.kubeapi.client import APPLY, JSON, MAPS, MERGE, PODS, STRATEGIC, config_map, pod, version
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"


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
