"""An API server as one caller sees it, whichever server it is: by the kubeconfig that KUBECONFIG names."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import config

PLURALS = {
    "Endpoints": "endpoints",
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
DEADLINE_S = 120.0  # a namespace waits for its pods, and a pod for its grace and for a pull of its image


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


class _Login:
    def __init__(self, kubeconfig: str | None) -> None:
        client = config.new_client_from_config(config_file=kubeconfig)
        self.host: str = client.configuration.host
        auth = client.configuration.auth_settings().get("BearerToken", {})
        self.headers = {"Authorization": auth["value"]} if auth.get("value") else {}
        self.pool: urllib3.PoolManager = client.rest_client.pool_manager


class Caller:
    """Synchronous, as whoever the kubeconfig says; `as_account`: as that service account, by impersonation, or by the
    kubeconfig that `accounts` has for it."""

    def __init__(self, kubeconfig: str | None = None, accounts: Mapping[str, str] | None = None) -> None:
        self._admin = _Login(kubeconfig)
        self._accounts = {account: _Login(file) for account, file in (accounts or {}).items()}

    def close(self) -> None:
        for login in (self._admin, *self._accounts.values()):
            login.pool.clear()

    def send(self, method: str, path: str, body: Any = None, kind: str = JSON, as_account: str = "") -> Answer:
        login = self._accounts.get(as_account, self._admin)
        headers = login.headers | {"Content-Type": kind, "Accept": JSON}
        if as_account and login is self._admin:
            headers |= {"Impersonate-User": as_account, "Impersonate-Group": "system:authenticated"}
        sent = None if body is None else json.dumps(body)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # as the kubeconfig wants it
            answer = login.pool.request(
                method, login.host + path, body=sent, headers=headers, timeout=10.0, retries=False
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
