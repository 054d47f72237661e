"""TokenRequest: a token for a ServiceAccount, for an audience and a time, bound to the pod that it is made for.

What a kubelet asks for when it fills a projected volume. A bound token carries the pod's name and uid, and the node's
name (Kubernetes 1.30), in the user's `extra`, and ends with the pod.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from hotswitch.sandbox.kubeapi.failure import ApiError, Obj
from hotswitch.sandbox.kubeapi.identity import AUDIENCE, Tokens, service_account
from hotswitch.sandbox.kubeapi.record import at
from hotswitch.sandbox.kubeapi.store import Store

PODS = ("", "pods")
LASTS_S, AT_LEAST_S, AT_MOST_S = 3600, 600, 2**32
_EXTRA = "authentication.kubernetes.io/"


def request(store: Store, tokens: Tokens, namespace: str, account: str, content: Obj) -> Obj:
    """The request with its status. Raises ApiError 400, 404, 409, 422."""
    spec = content.get("spec") or {}
    lasts_s = spec.get("expirationSeconds") or LASTS_S
    if not AT_LEAST_S <= lasts_s <= AT_MOST_S:
        raise ApiError(
            422,
            f'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: {lasts_s}: '
            "may not specify a duration less than 10 minutes",
        )
    audiences = tuple(spec.get("audiences") or (AUDIENCE,))
    ends_s = time.time() + lasts_s
    bound = spec.get("boundObjectRef")
    extra, uid = _bound(store, namespace, account, bound) if bound else ({}, "")
    token = tokens.issue(
        service_account(namespace, account),
        audiences=audiences,
        extra=extra,
        ends_unix_s=ends_s,
        lives=lambda: not bound or _uid(store, namespace, bound["name"]) == uid,
    )
    ends = datetime.fromtimestamp(ends_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        **content,
        "metadata": {"name": account, "namespace": namespace},
        "spec": {**spec, "audiences": list(audiences), "expirationSeconds": lasts_s},
        "status": {"token": token, "expirationTimestamp": ends},
    }


def _bound(store: Store, namespace: str, account: str, bound: Obj) -> tuple[dict[str, tuple[str, ...]], str]:
    if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Pod"):
        raise ApiError(400, f"cannot bind token to object of type {bound.get('kind')}")
    record = store.find(PODS, (namespace, bound.get("name", "")))
    if record is None:
        raise ApiError(404, f'pods "{bound.get("name", "")}" not found', details={"kind": "pods"})
    pod = record.decode()
    uid = str(pod["metadata"]["uid"])
    if bound.get("uid", uid) != uid:
        raise ApiError(409, f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record")
    runs_as = at(pod, "spec", "serviceAccountName") or "default"
    if runs_as != account:
        raise ApiError(
            400, f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.'
        )
    extra: dict[str, tuple[str, ...]] = {
        f"{_EXTRA}pod-name": (str(pod["metadata"]["name"]),),
        f"{_EXTRA}pod-uid": (uid,),
    }
    if node := at(pod, "spec", "nodeName"):
        extra[f"{_EXTRA}node-name"] = (str(node),)
    return extra, uid


def _uid(store: Store, namespace: str, name: str) -> str:
    record = store.find(PODS, (namespace, name))
    return "" if record is None else str(record.decode()["metadata"]["uid"])
