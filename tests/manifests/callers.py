"""An API server as one caller sees it, whichever server it is: by the kubeconfig that KUBECONFIG names."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import config

PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "HotSwitchPolicy": "hotswitchpolicies",
}
CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
JSON, MERGE, STRATEGIC, APPLY = (
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


def path_of(obj: dict[str, Any]) -> str:
    group, kind, metadata = obj["apiVersion"], obj["kind"], obj["metadata"]
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    inside = "" if kind in CLUSTER_WIDE else f"/namespaces/{metadata['namespace']}"
    return f"{root}{inside}/{PLURALS.get(kind, kind.lower() + 's')}/{metadata['name']}"


class Caller:
    """Synchronous, as whoever the kubeconfig says; `as_account`: impersonating a service account."""

    def __init__(self, kubeconfig: str | None = None) -> None:
        self._client = config.new_client_from_config(config_file=kubeconfig)
        conf = self._client.configuration
        self._host = conf.host
        auth = conf.auth_settings().get("BearerToken", {})
        self._headers = {"Authorization": auth["value"]} if auth.get("value") else {}
        self._pool: urllib3.PoolManager = self._client.rest_client.pool_manager

    def close(self) -> None:
        self._pool.clear()

    def send(self, method: str, path: str, body: Any = None, kind: str = JSON, as_account: str = "") -> Answer:
        headers = self._headers | {"Content-Type": kind, "Accept": JSON}
        if as_account:
            headers |= {"Impersonate-User": as_account, "Impersonate-Group": "system:authenticated"}
        sent = None if body is None else json.dumps(body)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # as the kubeconfig wants it
            answer = self._pool.request(
                method, self._host + path, body=sent, headers=headers, timeout=10.0, retries=False
            )
        said = answer.data.decode(errors="replace")
        try:
            return Answer(answer.status, json.loads(said))
        except json.JSONDecodeError:
            return Answer(answer.status, {"message": said})

    def apply(self, obj: dict[str, Any]) -> None:
        """Server-side, as `kubectl apply --server-side --force-conflicts` does."""
        answer = self.send("PATCH", path_of(obj) + "?fieldManager=hotswitch-tests&force=true", obj, APPLY)
        assert answer.status in (200, 201), f"{path_of(obj)}: {answer.message}"

    def remove(self, obj: dict[str, Any]) -> None:
        if obj["kind"] == "Pod":  # a test that fails may have let a finalizer through
            self.send("PATCH", path_of(obj), {"metadata": {"finalizers": None}}, MERGE)
        answer = self.send("DELETE", path_of(obj) + "?propagationPolicy=Background&gracePeriodSeconds=0")
        assert answer.status in (200, 202, 404), answer.message
        if obj["kind"] == "Namespace" and answer.status != 404:
            self._end(obj)
        if obj["kind"] == "CustomResourceDefinition":
            await_that(lambda: not self.exists(obj), "the kind is gone")

    def _end(self, namespace: dict[str, Any]) -> None:
        """A bare API server has nobody who ends a namespace; elsewhere its controller does, and we wait."""
        if self.send("GET", "/api/v1/namespaces/default/serviceaccounts/default").status == 404:
            ended = {**namespace, "spec": {"finalizers": []}}
            self.send("PUT", path_of(namespace) + "/finalize", ended)
        await_that(lambda: not self.exists(namespace), f"namespace {namespace['metadata']['name']} is gone")

    def exists(self, obj: dict[str, Any]) -> bool:
        return self.send("GET", path_of(obj)).status == 200


def await_that(holds: Callable[[], bool], what: str) -> None:
    """What an API server takes up in its own time: rights, admission policies, endings."""
    until = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until, f"after {DEADLINE_S:.0f} s still not: {what}"
        time.sleep(0.05)
