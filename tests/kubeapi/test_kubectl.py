"""What kubectl needs beyond objects: tables to print, the few bodies that it sends as protobuf, discovery."""

from __future__ import annotations

import pytest

from hotswitch.sandbox.kubeapi import protobuf
from hotswitch.sandbox.kubeapi.failure import ApiError
from hotswitch.sandbox.kubeapi.tables import path_value
from tests.kubeapi.client import config_map, pod

pytestmark = pytest.mark.k8s

PODS = "/api/v1/namespaces/{ns}/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def field(number, content):
    """One length-delimited protobuf field."""
    data = content.encode() if isinstance(content, str) else content
    size = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 0x7F | 0x80, len(data) >> 7])
    return bytes([number << 3 | 2]) + size + data


def envelope(api_version, kind, raw):
    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw) + field(3, "") + field(4, "")


def sidecar_pod():
    made = pod()
    proxy = {"name": "istio-proxy", "image": "proxy", "restartPolicy": "Always"}
    made["spec"]["initContainers"] = [{"name": "istio-init", "image": "init"}, proxy]
    return made


async def row(client):
    client.headers = {"Accept": TABLE}
    found = await client.get(PODS)
    assert found["kind"] == "Table"
    names = [column["name"] for column in found["columnDefinitions"]]
    assert found["rows"][0]["object"]["metadata"]["name"] == "web-0"
    return dict(zip(names, found["rows"][0]["cells"], strict=True))


@pytest.mark.parametrize(
    ("proxy", "app", "ready", "status"),
    [
        ({"started": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}, {}, "0/2", "Init:CrashLoopBackOff"),
        ({"started": True, "ready": True}, {"ready": True}, "2/2", "Running"),
        ({"started": True, "ready": False}, {"ready": True}, "1/2", "Running"),
        (
            {"started": True, "ready": True},
            {"state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            "1/2",
            "Error",
        ),
    ],
)
async def test_pod_with_native_sidecar_in_a_line(own, embedded, proxy, app, ready, status):
    embedded.admin.create(sidecar_pod())
    ended = {"name": "istio-init", "state": {"terminated": {"exitCode": 0}}}
    shown = {
        "phase": "Running",
        "initContainerStatuses": [ended, {"name": "istio-proxy", "restartCount": 3, **proxy}],
        "containerStatuses": [{"name": "app", "restartCount": 0, **app}],
    }
    embedded.admin.patch("pods", "web-0", {"status": shown}, sub="status")
    found = await row(own)
    assert (found["Ready"], found["Status"], found["Restarts"]) == (ready, status, "3")


async def test_terminating_pod_says_so(own, embedded):
    embedded.admin.create(pod())
    embedded.admin.delete("pods", "web-0")
    assert (await row(own))["Status"] == "Terminating"


async def test_watched_table_names_its_columns_once(own, embedded):
    embedded.admin.create(config_map("one"))
    own.headers = {"Accept": TABLE}
    async with own.watch("/api/v1/namespaces/{ns}/configmaps") as events:
        first = (await events.next())[1]
        embedded.admin.patch("configmaps", "one", {"data": {"a": "2"}})
        second = (await events.next())[1]
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Age"]
    assert second["columnDefinitions"] == [] and second["rows"][0]["cells"][0] == "one"


def test_paths_of_printer_columns():
    obj = {"status": {"conditions": [{"type": "A", "status": "x"}, {"type": "B", "status": "y"}]}, "l": ["a"]}
    assert path_value(obj, '.status.conditions[?(@.type=="B")].status') == "y"
    assert path_value(obj, ".l[0]") == "a"
    assert path_value(obj, ".nothing.here") is None


async def test_namespace_by_protobuf(own, embedded):
    body = envelope("v1", "Namespace", field(1, field(1, "shop") + field(11, field(1, "a") + field(2, "b"))))
    await own.post("/api/v1/namespaces", body, kind=protobuf.CONTENT_TYPE)
    assert embedded.admin.get("namespaces", "shop")["metadata"]["labels"]["a"] == "b"


async def test_can_i_by_protobuf(own):
    attributes = field(1, "default") + field(2, "list") + field(5, "pods")
    body = envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", field(2, field(1, attributes)))
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await own.post(path, body, kind=protobuf.CONTENT_TYPE))["status"]["allowed"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (envelope("v1", "Pod", b""), 415),
        (b"k8s\0\x0a", 400),
        (b"k8s\0\x0a\x7f", 400),
        (b"{}", 400),
        (b"k8s\0\x0f\x01", 400),
    ],
)
def test_protobuf_that_is_not_read(body, code):
    with pytest.raises(ApiError) as refused:
        protobuf.read(body)
    assert refused.value.code == code


async def test_fields_are_left_to_the_server_to_validate(own):
    places = (await own.get("/openapi/v3"))["paths"]
    document = await own.get(places["api/v1"]["serverRelativeURL"])
    (patch,) = (path["patch"] for name, path in document["paths"].items() if name.endswith("/pods/{name}"))
    assert patch["parameters"][0]["name"] == "fieldValidation"
