"""What is there before anybody has written anything: namespaces, and the roles that every cluster has.

Of a real cluster's default roles only those that bindings of hotswitch and of its users name.
"""

from __future__ import annotations

from typing import Any

from hotswitch.sandbox.kubeapi.failure import Obj

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC = "rbac.authorization.k8s.io"
_EVERY = ["*"]
_READ = ["get", "list", "watch"]


def objects() -> list[Obj]:
    return [*map(_namespace, NAMESPACES), *_roles(), *_bindings()]


def _namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _role(name: str, *rules: dict[str, Any]) -> Obj:
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _roles() -> list[Obj]:
    paths = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/version",
        "/openapi",
        "/openapi/*",
        "/healthz",
        "/livez",
        "/readyz",
    ]
    return [
        _role(
            "cluster-admin",
            _rule("*", _EVERY, _EVERY),
            {"nonResourceURLs": _EVERY, "verbs": _EVERY},
        ),
        _role("system:discovery", {"nonResourceURLs": paths, "verbs": ["get"]}),
        _role(
            "system:public-info-viewer",
            {"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version"], "verbs": ["get"]},
        ),
        _role(
            "system:basic-user",
            _rule("authorization.k8s.io", ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ),
        _role(
            "system:auth-delegator",
            _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
            _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
        ),
        _role(
            "view",
            _rule("", ["pods", "pods/log", "services", "endpoints", "events", "configmaps", "namespaces"], _READ),
            _rule("apps", ["deployments", "replicasets", "statefulsets", "daemonsets"], _READ),
        ),
    ]


def _bindings() -> list[Obj]:
    authenticated, nobody = "system:authenticated", "system:unauthenticated"
    return [
        _binding("cluster-admin", "system:masters"),
        _binding("system:discovery", authenticated),
        _binding("system:basic-user", authenticated),
        _binding("system:public-info-viewer", authenticated, nobody),
    ]


def _binding(role: str, *groups: str) -> Obj:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "Group", "name": group, "apiGroup": _RBAC} for group in groups],
    }
