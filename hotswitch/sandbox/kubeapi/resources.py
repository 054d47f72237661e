"""The kinds that are served: those of Kubernetes and Istio that hotswitch meets, and what CRDs add while it runs.

All versions of one group and plural share one table of objects, as on a real API server: an object written as v1beta1
can be read as v1. What a version adds is only its name at the head of the object, so a stored object is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hotswitch.sandbox.kubeapi.failure import no_such_path

Table = tuple[str, str]
"""API group ("" is the core one) and plural: where objects are kept, whatever their version."""

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
REVIEWS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})  # groups whose kinds are asked, never kept


@dataclass(frozen=True, slots=True)
class Resource:
    """One version of a kind. `subs`: its subresources. `counts`: does its metadata have a generation?"""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subs: tuple[str, ...] = ()
    counts: bool = False
    custom: bool = False
    columns: tuple[tuple[str, str, str], ...] = ()  # a CRD's own for `kubectl get`: name, type, JSON path

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def table(self) -> Table:
        return self.group, self.plural

    @property
    def qualified(self) -> str:
        """As messages and RBAC's error texts name it: `pods`, `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def head(self) -> bytes:
        """The JSON that goes before a stored object's own fields."""
        return f'{{"kind":"{self.kind}","apiVersion":"{self.api_version}",'.encode()


_STATUS, _SCALED = ("status",), ("status", "scale")
_POD = ("status", "exec", "log", "ephemeralcontainers", "eviction", "binding")
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"

BUILTIN = (
    Resource("", "v1", "namespaces", "Namespace", False, ("ns",), _STATUS),
    Resource("", "v1", "nodes", "Node", False, ("no",), _STATUS),
    Resource("", "v1", "pods", "Pod", True, ("po",), _POD, counts=True),
    Resource("", "v1", "services", "Service", True, ("svc",), _STATUS),
    Resource("", "v1", "endpoints", "Endpoints", True, ("ep",)),
    Resource("", "v1", "events", "Event", True, ("ev",)),
    Resource("", "v1", "configmaps", "ConfigMap", True, ("cm",)),
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "serviceaccounts", "ServiceAccount", True, ("sa",), ("token",)),
    Resource("apps", "v1", "deployments", "Deployment", True, ("deploy",), _SCALED, counts=True),
    Resource("apps", "v1", "replicasets", "ReplicaSet", True, ("rs",), _SCALED, counts=True),
    Resource("apps", "v1", "statefulsets", "StatefulSet", True, ("sts",), _SCALED, counts=True),
    Resource("apps", "v1", "daemonsets", "DaemonSet", True, ("ds",), _STATUS, counts=True),
    Resource("batch", "v1", "jobs", "Job", True, (), _STATUS, counts=True),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", counts=True),
    Resource("events.k8s.io", "v1", "events", "Event", True, ("ev",)),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, ("pdb",), _STATUS, counts=True),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ("netpol",), counts=True),
    Resource(_RBAC, "v1", "roles", "Role"),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    Resource(_RBAC, "v1", "clusterroles", "ClusterRole", False),
    Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False),
    Resource(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        False,
        ("crd", "crds"),
        _STATUS,
        counts=True,
    ),
    Resource(
        _ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False, (), _STATUS, counts=True
    ),
    Resource(
        _ADMISSION,
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        False,
        counts=True,
    ),
    Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
    Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False),
    Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False),
    Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False),
)


class Catalogue:
    """Every resource that has a path now."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        for resource in BUILTIN:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        self._by_path[resource.group, resource.version, resource.plural] = resource

    def remove(self, table: Table) -> None:
        self._by_path = {path: kept for path, kept in self._by_path.items() if kept.table != table}

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_path.values())

    def at(self, group: str, version: str, plural: str) -> Resource:
        """Raises ApiError 404 when there is no such path."""
        try:
            return self._by_path[group, version, plural]
        except KeyError:
            raise no_such_path() from None

    def find(self, word: str) -> Resource:
        """By `pods`, `leases.coordination.k8s.io` or a kind; the first version that was added. Raises KeyError."""
        for resource in self:
            if word in (resource.plural, resource.qualified, resource.kind):
                return resource
        raise KeyError(word)

    def of_kind(self, api_version: str, kind: str) -> Resource:
        """Raises KeyError."""
        for resource in self:
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        raise KeyError(f"{api_version} {kind}")
