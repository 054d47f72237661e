"""Who asks: bearer tokens for users and ServiceAccounts, and the kubeconfig files that carry them.

Tokens are opaque and live as long as the API's state does, across its stops and starts. A ServiceAccount's name and
groups are those that a real API server gives it, so that the bindings of the manifests fit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

MASTERS = "system:masters"
_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""

    @property
    def account(self) -> tuple[str, str] | None:
        """Namespace and name of the ServiceAccount that it is."""
        if not self.name.startswith(_ACCOUNT):
            return None
        namespace, _, name = self.name.removeprefix(_ACCOUNT).partition(":")
        return namespace, name

    def info(self) -> dict[str, object]:
        """As authentication.k8s.io's UserInfo."""
        known = {"username": self.name, "uid": self.uid, "groups": list(self.groups)}
        return {field: value for field, value in known.items() if value}


ADMIN = User("admin", (MASTERS, "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def service_account(namespace: str, name: str) -> str:
    return f"{_ACCOUNT}{namespace}:{name}"


def user(name: str, groups: tuple[str, ...] = ()) -> User:
    """`admin` is the cluster's admin; a ServiceAccount's groups come from its name."""
    if name == ADMIN.name:
        return ADMIN
    account = User(name).account
    if account is not None:
        groups = (*groups, "system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    return User(name, (*groups, "system:authenticated"))


class Tokens:
    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def issue(self, name: str, groups: tuple[str, ...] = ()) -> str:
        """A new token for this user; those it had stay good."""
        token = secrets.token_urlsafe(32)
        self._users[token] = user(name, groups)
        return token

    def revoke(self, name: str) -> None:
        """From now on nobody is `name` by a token that was issued before (401)."""
        self._users = {token: owner for token, owner in self._users.items() if owner.name != name}

    def owner(self, token: str) -> User | None:
        return self._users.get(token)


def write_kubeconfig(path: Path, *, url: str, ca_file: Path | None, token: str, name: str) -> Path:
    cluster: dict[str, object] = {"server": url}
    if ca_file is not None:
        cluster["certificate-authority"] = str(ca_file)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": name}}],
        "current-context": "embedded",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path
