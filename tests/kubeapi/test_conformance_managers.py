"""Whose fields are whose: applying, conflicts, force and letting go, by the embedded and by a real API server."""

from __future__ import annotations

import pytest

from tests.kubeapi.client import APPLY
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
SERVICES = "/api/v1/namespaces/{ns}/services"
WEB = f"{SERVICES}/web"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"


def service(selector):
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    metadata = {"name": "web", "annotations": {"example.org/by": "tool"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, "selector": selector}}


async def applied(api, selector, status=200, who="tool", **query):
    return await api.patch(WEB, service(selector), APPLY, status=status, fieldManager=who, **query)


def entries(obj):
    return {(each["manager"], each["operation"]): each["fieldsV1"] for each in obj["metadata"]["managedFields"]}


async def test_who_applies_another_value_than_its_owners_has_a_conflict(api):
    await applied(api, {"app": "web"}, status=201)
    await applied(api, {"app": "web"}, who="second")  # the same is no conflict
    refused = await applied(api, {"app": "other"}, status=409)
    assert refused["reason"] == "Conflict"
    (cause,) = refused["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".spec.selector")
    assert cause["message"].startswith('conflict with "second"')
    forced = await applied(api, {"app": "other", "tier": "front"}, force="true")
    assert forced["spec"]["selector"] == {"app": "other", "tier": "front"}
    assert "f:selector" not in entries(forced)["second", "Apply"].get("f:spec", {})
    whole = await applied(api, {"app": "third"})  # a selector is one field: what is not said of it goes
    assert whole["spec"]["selector"] == {"app": "third"}


async def test_who_changes_a_field_has_it_alone(api):
    await applied(api, {"app": "web"}, status=201)
    changed = await api.patch(WEB, {"spec": {"selector": {"app": "hand"}}}, fieldManager="hand")
    assert entries(changed)["hand", "Update"] == {"f:spec": {"f:selector": {}}}
    assert "f:selector" not in entries(changed)["tool", "Apply"]["f:spec"]
    refused = await applied(api, {"app": "web"}, status=409)
    assert 'conflict with "hand"' in refused["message"]


async def test_a_field_that_was_removed_is_nobodys(api):
    await applied(api, {"app": "web"}, status=201)
    await api.patch(WEB, {"spec": {"selector": None}}, fieldManager="hand")
    back = await applied(api, {"app": "other"})
    assert back["spec"]["selector"] == {"app": "other"} and ("hand", "Update") not in entries(back)


async def test_who_is_left_out_of_managed_fields_owns_nothing(api):
    await applied(api, {"app": "web"}, status=201)
    changed = await api.patch(WEB, {"spec": {"selector": {"app": "hand"}}}, fieldManager="hand")
    others = [each for each in changed["metadata"]["managedFields"] if each["manager"] != "hand"]
    left = await api.patch(WEB, {"metadata": {"managedFields": others}}, fieldManager="hand")
    assert list(entries(left)) == [("tool", "Apply")]
    assert (await applied(api, {"app": "web"}))["spec"]["selector"] == {"app": "web"}
    said = await api.patch(WEB, {"metadata": {"labels": {"a": "b"}}}, fieldManager="hand")
    assert set(entries(said)) == {("tool", "Apply"), ("hand", "Update")}  # of managedFields nothing was said


@pytest.mark.parametrize("nobody", [[], [{}]], ids=["none", "one that is empty"])
async def test_a_list_of_nobody_forgets_all_owners(api, nobody):
    await applied(api, {"app": "web"}, status=201)
    reset = await api.patch(WEB, {"metadata": {"managedFields": nobody}}, fieldManager="hand")
    assert not reset["metadata"].get("managedFields")


async def test_what_is_applied_no_more_goes_unless_others_have_it(api):
    await applied(api, {"app": "web"}, status=201)
    mine = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "annotations": {"example.org/by": "tool"}},
    }
    await api.patch(WEB, mine, APPLY, fieldManager="second")
    less = service({"app": "web"})
    del less["metadata"]["annotations"]
    kept = await api.patch(WEB, less, APPLY, fieldManager="tool")
    assert kept["metadata"]["annotations"] == {"example.org/by": "tool"}
    del mine["metadata"]["annotations"]
    gone = await api.patch(WEB, mine, APPLY, fieldManager="second")
    assert not gone["metadata"].get("annotations") and gone["spec"]["selector"] == {"app": "web"}


async def test_applying_the_same_again_writes_nothing(api):
    made = await applied(api, {"app": "web"}, status=201)
    assert (await applied(api, {"app": "web"}))["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_endpoints_of_a_slice_are_one_field(api):
    one = [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]
    two = [{"addresses": ["10.0.0.2"], "conditions": {"ready": True}}]
    slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "a"}}
    slice_ |= {"addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    await api.post(SLICES, {**slice_, "endpoints": one}, fieldManager="first")
    refused = await api.patch(f"{SLICES}/a", {**slice_, "endpoints": two}, APPLY, status=409, fieldManager="tool")
    assert [each["field"] for each in refused["details"]["causes"]] == [".endpoints"]
    query = {"fieldManager": "tool", "force": "true"}
    taken = await api.patch(f"{SLICES}/a", {**slice_, "endpoints": two}, APPLY, **query)
    assert [each["addresses"] for each in taken["endpoints"]] == [["10.0.0.2"]]
    assert "f:endpoints" in entries(taken)["tool", "Apply"] and "f:endpoints" not in entries(taken)["first", "Update"]
