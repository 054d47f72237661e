"""What a request asks for, read from its method, path and query: the words that RBAC, faults and handlers go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotswitch.sandbox.kubeapi.failure import ApiError, no_such_path
from hotswitch.sandbox.kubeapi.identity import User
from hotswitch.sandbox.kubeapi.record import Key
from hotswitch.sandbox.kubeapi.resources import Catalogue, Resource

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class Ask:
    """`namespace` is "" for cluster-wide kinds and for requests over all namespaces, `name` "" for collections."""

    user: User
    verb: str
    resource: Resource
    namespace: str
    name: str
    sub: str
    query: Mapping[str, str]

    @property
    def key(self) -> Key:
        return self.namespace if self.resource.namespaced else "", self.name

    @property
    def dry(self) -> bool:
        """Answer as if it were done, and store nothing. Raises ApiError 400 for another value than All."""
        said = self.query.get("dryRun", "")
        if said not in ("", "All"):
            raise ApiError(400, f'dryRun: Unsupported value: "{said}": supported values: "All"')
        return said == "All"

    @property
    def path(self) -> str:
        """`pods/status`: how RBAC's rules name it."""
        return f"{self.resource.plural}/{self.sub}" if self.sub else self.resource.plural

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}".strip("/")
        return f"{self.user.name}: {self.verb} {self.path} {where}".rstrip()


def truth(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")


def number(query: Mapping[str, str], name: str) -> int | None:
    """None when it is not there. Raises ApiError 400 when it is no number."""
    said = query.get(name, "")
    if not said:
        return None
    try:
        return int(said)
    except ValueError:
        raise ApiError(400, f'{name}: parsing "{said}": invalid syntax') from None


def read(catalogue: Catalogue, user: User, method: str, words: list[str], query: Mapping[str, str]) -> Ask:
    """`words`: the path split at its slashes, from `api` or `apis` on. Raises ApiError 404 or 405."""
    group, version, rest = _placed(words)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise no_such_path()
    plural, name, sub = [*rest, "", ""][:3]
    resource = catalogue.at(group, version, plural)
    if sub and sub not in resource.subs:
        raise no_such_path()
    if resource.namespaced and not namespace and (name or method == "POST"):
        raise no_such_path()
    verb = _verb(method, name, query)
    return Ask(user, verb, resource, namespace, name, sub, query)


def _placed(words: list[str]) -> tuple[str, str, list[str]]:
    return ("", words[1], words[2:]) if words[0] == "api" else (words[1], words[2], words[3:])


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        if truth(query, "watch"):
            return "watch"
        return "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    if method not in _VERBS or (method in ("PUT", "PATCH") and not name):
        raise ApiError(405, "the server does not allow this method on the requested resource")
    return _VERBS[method]
